/// Why an update or a partial sum was not added.
public enum SumError: Error, Equatable, CustomStringConvertible {
  /// An element is NaN or infinite.
  case notFinite(tensor: String, index: Int, value: Float)
  /// Weight times magnitude is above the grid's range.
  case outOfRange(tensor: String, index: Int, value: Float, weight: Int)
  /// The weight is below 1 or above `ExactSum.largestWeight`.
  case weightOutOfRange(Int)
  /// The total would pass what the accumulators can hold for certain.
  case full(updates: Int)
  /// A mean was asked of no updates.
  case empty
  /// Two partial sums are of different tensors.
  case differentLayouts
  /// A serialised sum does not parse.
  case corrupt(String)

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .notFinite(let tensor, let index, let value):
      "tensor '\(tensor)', element \(index) is \(value); updates must be finite"
    case .outOfRange(let tensor, let index, let value, let weight):
      "tensor '\(tensor)', element \(index) is \(value), which with weight \(weight) is above the sum's range of 2^34"
    case .weightOutOfRange(let weight): "weight \(weight) is outside 1...\(ExactSum.largestWeight)"
    case .full(let updates): "after \(updates) updates the sum's range of 2^46 could be passed; cap the weights"
    case .empty: "the mean of no updates is not defined"
    case .differentLayouts: "two partial sums are of different tensors and cannot be merged"
    case .corrupt(let what): "the serialised sum is damaged: \(what)"
    }
  }

  /// Equal by content; two NaN of the same bits are the same finding.
  public static func == (left: SumError, right: SumError) -> Bool {
    switch (left, right) {
    case (.notFinite(let t1, let i1, let v1), .notFinite(let t2, let i2, let v2)):
      t1 == t2 && i1 == i2 && v1.bitPattern == v2.bitPattern
    case (.outOfRange(let t1, let i1, let v1, let w1), .outOfRange(let t2, let i2, let v2, let w2)):
      t1 == t2 && i1 == i2 && v1 == v2 && w1 == w2
    case (.weightOutOfRange(let w1), .weightOutOfRange(let w2)): w1 == w2
    case (.full(let u1), .full(let u2)): u1 == u2
    case (.empty, .empty), (.differentLayouts, .differentLayouts): true
    case (.corrupt(let w1), .corrupt(let w2)): w1 == w2
    default: false
    }
  }
}
