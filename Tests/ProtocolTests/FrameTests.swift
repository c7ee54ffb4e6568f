import FedLoRAProtocol
import Foundation
import NIOCore
import NIOEmbedded
import SwiftProtobuf
import Testing

@Suite("Frames")
struct FrameTests {
  private func channel(limit: Int = Frame.defaultMaximumLength) -> EmbeddedChannel {
    EmbeddedChannel(handler: ByteToMessageHandler(FrameDecoder(maximumLength: limit)))
  }

  private func samples() throws -> [WireEnvelope] {
    var update = WireUpdate()
    update.runID = "run"
    update.metrics = ["loss": 0.5, "accuracy": 0.25, "steps": 7]
    return [
      WireEnvelope(.hello(.with { $0.clientName = "site-1" })), WireEnvelope(.ping(.with { $0.nonce = 1 })),
      WireEnvelope(.update(update)), WireEnvelope(.wait(WireWait())),
      WireEnvelope(.chunk(.with { $0.data = Data(repeating: 7, count: 100_000) })),
    ]
  }

  @Test("are cut out of the byte stream wherever it is split", arguments: [1, 2, 3, 5, 7, 4096, 1 << 20])
  func splits(size: Int) throws {
    let envelopes = try samples()
    var stream = ByteBuffer()
    for envelope in envelopes {
      var frame = try Frame.encode(envelope)
      stream.writeBuffer(&frame)
    }
    let channel = channel()
    var found: [WireEnvelope] = []
    while let part = stream.readSlice(length: min(size, stream.readableBytes)), part.readableBytes > 0 {
      try channel.writeInbound(part)
      while let envelope = try channel.readInbound(as: WireEnvelope.self) { found.append(envelope) }
    }
    #expect(found == envelopes)
    _ = try channel.finish()
  }

  @Test("of length zero are refused")
  func empty() throws {
    #expect(throws: FrameError.empty) { try self.channel().writeInbound(ByteBuffer(integer: UInt32(0))) }
    #expect(throws: FrameError.empty) { try Frame.encode(WireEnvelope()) }
  }

  @Test("beyond the limit are refused by their header alone")
  func tooLarge() throws {
    let channel = channel(limit: 1000)
    try channel.writeInbound(ByteBuffer(bytes: [0, 0, 3]))
    #expect(throws: FrameError.tooLarge(length: 1001, limit: 1000)) {
      try channel.writeInbound(ByteBuffer(bytes: [0xE9]))
    }
    #expect(throws: FrameError.tooLarge(length: Int(UInt32.max), limit: 1000)) {
      try self.channel(limit: 1000).writeInbound(ByteBuffer(integer: UInt32.max))
    }
    #expect(throws: FrameError.self) {
      try Frame.encode(WireEnvelope(.chunk(.with { $0.data = Data(count: 1001) })), maximumLength: 1000)
    }
  }

  @Test("of exactly the limit are accepted")
  func atLimit() throws {
    let envelope = WireEnvelope(.chunk(.with { $0.data = Data(count: 500) }))
    let frame = try Frame.encode(envelope)
    let channel = channel(limit: frame.readableBytes - 4)
    try channel.writeInbound(frame)
    #expect(try channel.readInbound(as: WireEnvelope.self) == envelope)
  }

  @Test("that end early are reported when the connection ends", arguments: [1, 3, 4, 9])
  func truncated(count: Int) throws {
    let frame = try Frame.encode(WireEnvelope(.hello(.with { $0.clientName = "site-1" })))
    let channel = channel()
    try channel.writeInbound(frame.getSlice(at: 0, length: count))
    let missing = (count < 4 ? 4 : frame.readableBytes) - count
    #expect(throws: FrameError.truncated(missing: missing)) { try channel.finish() }
  }

  @Test("of random bytes never crash the decoder", arguments: 0..<64)
  func random(seed: UInt64) throws {
    var generator = SplitMix64(state: seed)
    let body = (0..<Int.random(in: 1...300, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator)
    }
    var buffer = ByteBuffer(integer: UInt32(body.count))
    buffer.writeBytes(body)
    do {
      try channel().writeInbound(buffer)
    } catch let error as FrameError {
      #expect(error.code == .undecodable, "seed \(seed)")
    }
  }

  @Test("hold the same bytes for the same message, whatever the order of a map")
  func deterministic() throws {
    let keys = (0..<50).map { "metric-\($0)" }
    var forward = WireUpdate()
    var backward = WireUpdate()
    for key in keys { forward.metrics[key] = 1 }
    for key in keys.reversed() { backward.metrics[key] = 1 }
    #expect(try Frame.encode(WireEnvelope(.update(forward))) == Frame.encode(WireEnvelope(.update(backward))))
  }

  @Test(
    "of chunks written by hand are those of the protobuf library",
    arguments: [0, 1, 127, 128, 300, 1 << 20, 1 << 40]
  )
  func chunks(offset: Int) throws {
    for count in [1, 100, 127, 128, 16_384, 1 << 20] {
      let data = Data((0..<count).map { UInt8(truncatingIfNeeded: $0) })
      let expected = try Frame.encode(
        WireEnvelope(
          .chunk(
            .with {
              $0.offset = UInt64(offset)
              $0.data = data
            }
          )
        )
      )
      #expect(data.withUnsafeBytes { Frame.encodeChunk(offset: offset, data: $0) } == expected)
    }
  }

  @Test("written by the encoder are read by the decoder")
  func handlers() throws {
    let writer = EmbeddedChannel(handler: MessageToByteHandler(FrameEncoder()))
    let reader = channel()
    for envelope in try samples() {
      try writer.writeOutbound(envelope)
      try reader.writeInbound(try #require(try writer.readOutbound(as: ByteBuffer.self)))
      #expect(try reader.readInbound(as: WireEnvelope.self) == envelope)
    }
  }
}

/// A small generator with a seed (Steele, Lea, Flood 2014).
struct SplitMix64: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
