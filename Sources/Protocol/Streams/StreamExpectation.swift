import FedLoRACheckpoint
import Foundation

/// What a receiver is ready to take: exactly these tensors and so exactly this many bytes.
///
/// It is settled before a byte is kept. Nothing that the sender says can make the receiver hold more.
public struct StreamExpectation: Sendable {
  /// What happens where the stream is not as expected.
  public enum Consequence: Sendable {
    /// `receive` returns the message with `Payload.refused`, the rest of the stream is thrown away as it arrives,
    /// and the connection lives on. For updates: the coordinator counts the reason and answers `Ack` REFUSED.
    case report
    /// The peer is sent `Error` with the reason, and the connection is closed.
    case close
  }

  /// The tensors.
  public let layout: TensorLayout
  /// Whether NaN and infinities are refused.
  public let requiresFinite: Bool
  /// What follows a violation.
  public let onViolation: Consequence

  /// Expects `layout`.
  public init(_ layout: TensorLayout, requiresFinite: Bool = true, onViolation: Consequence = .close) {
    self.layout = layout
    self.requiresFinite = requiresFinite
    self.onViolation = onViolation
  }

  /// An update of a client: finite values, and a violation is reported rather than the connection closed.
  public static func update(_ layout: TensorLayout) -> StreamExpectation {
    StreamExpectation(layout, requiresFinite: true, onViolation: .report)
  }

  /// A state sent by the coordinator: a violation closes the connection.
  public static func state(_ layout: TensorLayout) -> StreamExpectation {
    StreamExpectation(layout, requiresFinite: true, onViolation: .close)
  }

  /// Compares what a peer declares with what is expected.
  /// - Throws: `StreamViolation` naming the first tensor that differs.
  func check(_ stream: WireTensorStream) throws(StreamViolation) {
    try checkNames(stream.tensors.map(\.name))
    for (entry, declared) in zip(layout.entries, stream.tensors) {
      try declared.requireFloat32()
      // Compared, never multiplied out: a peer's extents may be anything.
      guard declared.shape == entry.shape.map(UInt64.init) else {
        throw StreamViolation(
          code: .wrongShape,
          text: "tensor '\(entry.name)' is declared with shape \(declared.shape); \(entry.shape) was expected"
        )
      }
    }
    let expected = UInt64(layout.byteCount)
    guard stream.length == expected else {
      throw StreamViolation(
        code: stream.length > expected ? .tooLarge : .wrongLength,
        text: "the stream is declared with \(stream.length) bytes; its tensors take \(expected)"
      )
    }
    guard stream.sha256.count == 32 || (stream.sha256.isEmpty && layout.entries.isEmpty) else {
      throw StreamViolation(
        code: .wrongHash,
        text: "the declared SHA-256 has \(stream.sha256.count) bytes; 32 were expected"
      )
    }
  }

  private func checkNames(_ found: [String]) throws(StreamViolation) {
    let expected = layout.entries.map(\.name)
    if found == expected { return }
    var open = Set(expected)
    for name in found where open.remove(name) == nil {
      let isKnown = expected.contains(name)
      throw StreamViolation(
        code: .unexpectedTensor,
        text: isKnown ? "tensor '\(name)' is declared twice" : "tensor '\(name)' is declared; it was not expected"
      )
    }
    if let missing = expected.first(where: { open.contains($0) }) {
      throw StreamViolation(code: .missingTensor, text: "tensor '\(missing)' was expected; it is not declared")
    }
    if let (name, instead) = zip(expected, found).first(where: { $0 != $1 }) {
      throw StreamViolation(
        code: .wrongOrder,
        text: "tensor '\(instead)' is declared where '\(name)' was expected; names must ascend"
      )
    }
  }
}
