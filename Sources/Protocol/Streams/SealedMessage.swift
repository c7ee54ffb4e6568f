import FedLoRACheckpoint
import Foundation
import NIOCore

/// A message with its tensors in the very bytes that go on the wire: the frame of the message, then the frames of its
/// chunks.
///
/// A client writes `bytes` to its disk before it sends them, and sends the same bytes again after a crash or a
/// reconnect. Reading them back checks them as a receiver would, so a damaged file is found before it is sent.
public struct SealedMessage: Sendable, Equatable {
  /// The message, with the declaration of its stream.
  public let envelope: WireEnvelope
  /// Complete frames, one after the other.
  public let bytes: Data
  /// The tensors of the stream.
  public let tensors: TensorSet

  /// Seals a Round, Update or Goodbye with its tensors.
  /// - Parameter chunkLength: bytes of tensor data in one chunk, at most 1 MiB.
  /// - Throws: `TransportError.misuse` for a message that declares no stream, `FrameError` for one that is too long.
  public init(_ envelope: WireEnvelope, payload: TensorPayload, chunkLength: Int = 63 << 10) throws {
    var sealed = envelope
    guard sealed.declare(payload.declaration) else {
      throw TransportError.misuse("a \(envelope.messageName) cannot carry tensors")
    }
    var bytes = Data(try Frame.encode(sealed).readableBytesView)
    var place = TensorPayload.Place()
    let length = min(max(chunkLength, 1), Frame.maximumChunkLength)
    while let chunk = payload.nextChunk(at: &place, length: length) {
      bytes.append(contentsOf: chunk.readableBytesView)
    }
    self.envelope = sealed
    self.bytes = bytes
    tensors = payload.tensors
  }

  /// Reads sealed bytes back.
  /// - Throws: `FrameError` or `StreamViolation` where the bytes are not what was sealed.
  public init(bytes: Data) throws {
    var frames = SealedMessage.Frames(bytes: bytes)
    guard let envelope = try frames.next() else { throw FrameError.truncated(missing: Frame.headerLength) }
    guard case .declared(let stream) = envelope.streamDeclaration else {
      throw StreamViolation(code: .unexpectedStream, text: "a sealed \(envelope.messageName) declares no tensors")
    }
    let layout = try TensorLayout(stream.tensors, maximumByteCount: bytes.count)
    var receiver = try StreamReceiver(
      stream,
      expectation: StreamExpectation(layout, requiresFinite: false, onViolation: .close)
    )
    while let next = try frames.next() {
      guard case .chunk(let chunk) = next.message else {
        throw StreamViolation(code: .unexpectedStream, text: "a \(next.messageName) lies between sealed chunks")
      }
      try receiver.append(chunk)
    }
    guard receiver.isComplete else {
      throw StreamViolation(code: .wrongLength, text: "the sealed stream ends before its \(layout.byteCount) bytes")
    }
    self.envelope = envelope
    self.bytes = bytes
    tensors = try receiver.finish()
  }

  /// Walks over complete frames in memory.
  struct Frames {
    private var rest: Data

    init(bytes: Data) { rest = bytes }

    /// The complete next frame, header included.
    mutating func nextFrame() throws(FrameError) -> Data? {
      if rest.isEmpty { return nil }
      guard rest.count >= Frame.headerLength else { throw .truncated(missing: Frame.headerLength - rest.count) }
      let length = rest.prefix(Frame.headerLength).reduce(0) { $0 << 8 | Int($1) }
      guard length > 0 else { throw .empty }
      guard length <= Frame.defaultMaximumLength else {
        throw .tooLarge(length: length, limit: Frame.defaultMaximumLength)
      }
      let total = Frame.headerLength + length
      guard rest.count >= total else { throw .truncated(missing: total - rest.count) }
      defer { rest = rest.dropFirst(total) }
      return rest.prefix(total)
    }

    mutating func next() throws -> WireEnvelope? {
      guard let frame = try nextFrame() else { return nil }
      return try frame.dropFirst(Frame.headerLength).withUnsafeBytes { try Frame.decodeBody($0) }
    }
  }
}
