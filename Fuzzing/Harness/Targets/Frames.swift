import Crypto
import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation
import NIOCore
import NIOEmbedded
import SwiftProtobuf

extension FuzzTarget {
  /// What a peer sends on a connection: frames, the envelopes in them, and the streams that are put together of chunks.
  static let frames = FuzzTarget(
    name: "frames",
    about: "frames of a connection, their envelopes, and tensor streams",
    limits: WireSamples.limits,
    dictionary: WireSamples.dictionary,
    seeds: { try WireSamples.seeds() },
    repair: WireSamples.repaired
  ) { bytes, _ in
    // The first bit says whether the bytes arrive at once or in pieces of seven.
    let step = bytes.first.map { $0 & 1 == 0 ? bytes.count : 7 } ?? 1
    let channel = EmbeddedChannel(handler: ByteToMessageHandler(FrameDecoder()))
    defer { _ = try? channel.finish() }
    var reader = InboundReader(maximumStreamLength: 1 << 20)
    var place = 0
    while place < bytes.count {
      let end = min(bytes.count, place + max(1, step))
      defer { place = end }
      let fault: (any Error)?
      do {
        try channel.writeInbound(ByteBuffer(bytes: bytes[place..<end]))
        fault = nil
      } catch { fault = error }
      while let envelope = try channel.readInbound(as: WireEnvelope.self) {
        try checkRoundTrip(envelope)
        try receive(envelope, &reader)
      }
      if let fault { throw fault }
    }
    try FuzzFailure.unless(!hasWrongLength(bytes), "a frame of length 0 or beyond the limit is waited for")
  }

  /// Whether one of the frames, walked over by nothing but their lengths, has a length that must be refused at once.
  private static func hasWrongLength(_ bytes: [UInt8]) -> Bool {
    var rest = bytes[...]
    while rest.count >= Frame.headerLength {
      let length = rest.prefix(Frame.headerLength).reduce(0) { $0 << 8 | Int($1) }
      if length == 0 || length > Frame.defaultMaximumLength { return true }
      rest = rest.dropFirst(Frame.headerLength + length)
    }
    return false
  }

  private static func checkRoundTrip(_ envelope: WireEnvelope) throws {
    // Compared as bytes, because a NaN in a message is equal to nothing.
    guard let first = try? Frame.encode(envelope) else { return }
    let again = try FuzzFailure.onError("a decoded envelope does not decode from its own frame") {
      try WireEnvelope(serializedBytes: Data(first.readableBytesView.dropFirst(Frame.headerLength)))
    }
    try FuzzFailure.unless(try Frame.encode(again) == first, "an envelope changes when it is sent on")
  }

  /// As a connection does it, and a bit more: an update that is refused leaves the connection alive.
  private static func receive(_ envelope: WireEnvelope, _ reader: inout InboundReader) throws {
    if case .chunk(let chunk)? = envelope.message {
      if let inbound = try reader.append(chunk) { try check(inbound) }
      return
    }
    guard let stream = try reader.declaration(of: envelope) else { return }
    let own = try? TensorLayout(stream.tensors, maximumByteCount: 1 << 16)
    // Some layouts are the run's own, some are what the peer says, as for sealed messages.
    let layout = envelope.messageName == "Goodbye" ? own ?? WireSamples.layout : WireSamples.layout
    let expectation: StreamExpectation = envelope.messageName == "Update" ? .update(layout) : .state(layout)
    if let inbound = try reader.begin(envelope, stream: stream, expectation: expectation) { try check(inbound) }
  }

  private static func check(_ inbound: Inbound) throws {
    guard let tensors = inbound.tensors else { return }
    let declared = (try? InboundReader(maximumStreamLength: 0).declaration(of: inbound.envelope))?.sha256 ?? Data()
    var hash = SHA256()
    for entry in tensors.entries {
      try FuzzFailure.unless(entry.tensor.isFinite, "a stream was accepted with a value that is not finite")
      entry.tensor.values.withUnsafeBytes { hash.update(bufferPointer: $0) }
    }
    let found = Data(hash.finalize())
    try FuzzFailure.unless(
      found == declared || (tensors.elementCount == 0 && declared.isEmpty),
      "a stream was accepted with another hash"
    )
  }

  /// A client's sealed update, as it is read back from its disk.
  static let sealed = FuzzTarget(
    name: "sealed",
    about: "a sealed update on a client's disk",
    limits: WireSamples.limits,
    dictionary: WireSamples.dictionary,
    seeds: { try WireSamples.seeds() },
    repair: WireSamples.repaired
  ) { bytes, _ in
    let message = try SealedMessage(bytes: Data(bytes))
    let payload = TensorPayload(message.tensors)
    let again = try FuzzFailure.onError("sealed tensors cannot be sealed again") {
      try SealedMessage(message.envelope, payload: payload)
    }
    let back = try FuzzFailure.onError("a sealed message cannot be read back") { try SealedMessage(bytes: again.bytes) }
    try FuzzFailure.unless(
      TensorPayload(back.tensors).declaration == payload.declaration,
      "tensors change when they are sealed"
    )
  }

  /// What an operator's program and the coordinator say to each other on the local socket.
  static let operatorMessages = FuzzTarget(
    name: "operator",
    about: "requests and replies on the operator's socket",
    dictionary: [
      "{", "}", "\"verb\":", "\"status\"", "\"stop\"", "\"abort\"", "\"reason\":", "\"message\":", "\"accepted\":",
      "true",
      "\"members\":", "\"ready\":", "\"deadline_seconds\":", "\"round\":", "\n", "null", "[", "\\u0000", "\\ud800",
      "1e999",
    ],
    seeds: {
      let status = LiveStatus(
        phase: "open",
        round: 3,
        attempt: 1,
        ready: ["a", "b"],
        members: ["a": "training", "b": "accepted"],
        deadlineSeconds: 12.5,
        isStopping: false,
        bytesSent: 1000,
        bytesReceived: 2000
      )
      let encoder = JSONEncoder()
      encoder.outputFormatting = .sortedKeys
      let messages = [
        try encoder.encode(OperatorRequest(.stop, reason: "maintenance")),
        try encoder.encode(OperatorReply(message: "as it stands", status: status)),
      ]
      return messages.map { [UInt8]($0 + Data([10])) }
    }
  ) { bytes, _ in
    let line = try blocking { try await OperatorSocket.firstLine(of: bytes, inPiecesOf: 700, limit: 4096) }
    guard let line else { throw CocoaError(.fileReadCorruptFile) }
    let request = try? JSONDecoder().decode(OperatorRequest.self, from: line)
    let reply = try? JSONDecoder().decode(OperatorReply.self, from: line)
    if let request {
      let again = try FuzzFailure.onError("a request does not survive") {
        try JSONDecoder().decode(OperatorRequest.self, from: JSONEncoder().encode(request))
      }
      try FuzzFailure.unless(again == request, "a request changes when it is sent on")
    }
    if let reply {
      let again = try FuzzFailure.onError("a reply does not survive") {
        try JSONDecoder().decode(OperatorReply.self, from: JSONEncoder().encode(reply))
      }
      try FuzzFailure.unless(again == reply, "a reply changes when it is sent on")
    }
    if request == nil, reply == nil { throw CocoaError(.fileReadCorruptFile) }
  }
}

extension OperatorSocket {
  /// The first line of bytes that arrive in pieces.
  fileprivate static func firstLine(of bytes: [UInt8], inPiecesOf size: Int, limit: Int) async throws -> Data? {
    let (stream, source) = NIOAsyncChannelInboundStream<ByteBuffer>.makeTestingStream()
    for start in stride(from: 0, to: bytes.count, by: size) {
      source.yield(ByteBuffer(bytes: bytes[start..<min(bytes.count, start + size)]))
    }
    source.finish()
    return try await readLine(stream, limit: limit)
  }
}
