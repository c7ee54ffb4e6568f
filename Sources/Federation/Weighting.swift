/// How much an update counts in the mean.
public enum Weighting: Sendable, Equatable, Codable {
  /// Every client counts the same.
  case uniform
  /// A client counts by its number of examples.
  case examples
  /// By examples, but no client more than the cap.
  case capped(Int)

  /// The integer weight of a client with this many examples; at least 1, so that nobody who took part is erased.
  public func weight(examples: Int) -> Int {
    switch self {
    case .uniform: 1
    case .examples: max(1, examples)
    case .capped(let cap): max(1, min(examples, cap))
    }
  }

  /// The largest weight that any client can get, or nil where nothing bounds it.
  public var largestWeight: Int? {
    switch self {
    case .uniform: 1
    case .examples: nil
    case .capped(let cap): max(1, cap)
    }
  }
}
