/// A tensor stream that is not what was expected.
public struct StreamViolation: Error, Equatable, Sendable, CustomStringConvertible {
  /// The stable word, for example "wrong-shape".
  public let code: ReasonCode
  /// A sentence that names the tensor, what was expected and what was found.
  public let text: String

  /// A violation, also for the layer above to refuse a stream before a byte of it is read.
  /// - Parameter text: may hold names that a peer declares; it is cut where it is long.
  public init(code: ReasonCode, text: String) {
    self.code = code
    self.text = text.oneLine(atMost: 512)
  }

  /// A sentence with the details.
  public var description: String { "\(code): \(text)" }
}
