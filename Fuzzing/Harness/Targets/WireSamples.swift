import Crypto
import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation
import NIOCore
import SwiftProtobuf

/// Valid conversations, and how to make a changed one valid again.
enum WireSamples {
  /// A message of two bytes can declare a tensor that takes a hundred in memory; arrays double as they grow.
  static let limits = FuzzLimits(memory: 4 << 20, memoryPerByte: 128)

  static let dictionary = [
    "\0\0\0", "\u{0}\u{0}\u{0}\u{2}", "\u{8}\u{1}", "\u{12}", "\u{1a}", "\u{22}", "\u{2a}", "b", "run", "site-1",
    "loss",
    "a.lora_A.weight", "b.lora_B.weight", "empty", "\u{10}\u{1}\u{1a}\u{2}",
  ]

  static let tensors: TensorSet = {
    var set = TensorSet()
    set["a.lora_A.weight"] = try? Tensor(shape: [2, 3], values: [1, 2, 3, -4, 0.5, 1e-30])
    set["b.lora_B.weight"] = try? Tensor(shape: [3], values: [0, -0.0, 7])
    set["c.empty"] = Tensor(zeros: [0, 4])
    set["d.scalar"] = try? Tensor(shape: [], values: [2])
    return set
  }()

  /// What the run expects of an update.
  static let layout = TensorLayout(tensors)

  static func seeds() throws -> [[UInt8]] {
    var update = WireUpdate()
    (update.runID, update.round, update.examples, update.metrics) = ("run", 3, 120, ["loss": 0.5, "b": -1])
    var round = WireRound()
    (round.runID, round.round, round.deadlineSeconds) = ("run", 3, 600)
    var goodbye = WireGoodbye()
    (goodbye.runID, goodbye.outcome) = ("run", .completed)
    let payload = TensorPayload(tensors)
    var hello = WireHello()
    (hello.protocolVersion, hello.clientName, hello.software, hello.features) = (1, "site-1", "fedlora", ["x", "y"])
    var ready = WireReady()
    (ready.runID, ready.manifestSha256, ready.examples, ready.pendingRound) = ("run", Data(count: 32), 9, 2)
    let talk: [WireEnvelope] = [
      WireEnvelope(.ping(.with { $0.nonce = 5 })), WireEnvelope(.hello(hello)), WireEnvelope(.ready(ready)),
      WireEnvelope(.ack(.with { $0.status = .accepted })), WireEnvelope(.wait(.with { $0.retryAfterSeconds = 1 })),
      WireEnvelope(.decline(.with { $0.code = "policy" })), WireEnvelope(.error(.with { $0.text = "no" })),
      WireEnvelope(.commit(.with { $0.updates = 2 })), WireEnvelope(.welcome(.with { $0.manifest = Data(count: 3) })),
    ]
    let sealed = try [
      SealedMessage(WireEnvelope(.update(update)), payload: payload, chunkLength: 9),
      SealedMessage(WireEnvelope(.round(round)), payload: payload),
      SealedMessage(WireEnvelope(.goodbye(goodbye)), payload: payload, chunkLength: 16),
      SealedMessage(WireEnvelope(.update(update)), payload: TensorPayload(TensorSet())),
    ].map { [UInt8]($0.bytes) }
    let frames = try talk.map { [UInt8](try Frame.encode($0).readableBytesView) }
    return sealed + [Array(frames.joined()), sealed[0] + frames[0] + sealed[0]]
  }

  /// The frames with their lengths put right, a message's stream length and hash with them where chunks follow it.
  @Sendable static func repaired(_ bytes: [UInt8]) -> [UInt8] {
    var bodies: [[UInt8]] = []
    var rest = bytes[...]
    while rest.count > Frame.headerLength, bodies.count < 64 {
      let length = rest.prefix(Frame.headerLength).reduce(0) { $0 << 8 | Int($1) }
      rest = rest.dropFirst(Frame.headerLength)
      let body = rest.prefix(length > 0 && length <= rest.count ? length : rest.count)
      bodies.append(Array(body))
      rest = rest.dropFirst(body.count)
    }
    var envelopes = bodies.map { try? WireEnvelope(serializedBytes: Data($0)) }
    for index in envelopes.indices { rehash(&envelopes, from: index) }
    var result: [UInt8] = []
    for (body, envelope) in zip(bodies, envelopes) {
      let written = envelope.flatMap { try? Frame.encode($0) }.map { [UInt8]($0.readableBytesView) }
      result += written ?? withUnsafeBytes(of: UInt32(body.count).bigEndian) { Array($0) } + body
    }
    return result
  }

  private static func rehash(_ envelopes: inout [WireEnvelope?], from index: Int) {
    guard var envelope = envelopes[index],
      var stream = try? InboundReader(maximumStreamLength: 0).declaration(of: envelope)
    else { return }
    var data = Data()
    for later in envelopes[(index + 1)...] {
      guard case .chunk(let chunk)? = later?.message else { continue }
      data.append(chunk.data)
      if data.count >= stream.length { break }
    }
    guard data.count == Int(clamping: stream.length) else { return }
    stream.sha256 = Data(SHA256.hash(data: data))
    switch envelope.message {
    case .update(var update):
      update.tensors = stream
      envelope.message = .update(update)
    case .round(var round):
      round.state = stream
      envelope.message = .round(round)
    case .goodbye(var goodbye):
      goodbye.state = stream
      envelope.message = .goodbye(goodbye)
    default: return
    }
    envelopes[index] = envelope
  }
}
