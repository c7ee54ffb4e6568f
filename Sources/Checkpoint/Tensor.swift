/// A dense array of 32-bit floats in row-major order with its shape.
///
/// Adapter parameters are small (`A` is r × dIn, `B` is dOut × r), so they live in ordinary arrays;
/// base weights stay in their memory-mapped file and are never a `Tensor`.
public struct Tensor: Sendable, Equatable {
  /// Extents from the slowest to the fastest dimension; empty for a scalar.
  public let shape: [Int]
  /// `shape` multiplied out many values, row-major.
  public var values: [Float]

  /// Wraps `values`.
  /// - Throws: `TensorError.shapeMismatch` when the count does not fit the shape or an extent is negative.
  public init(shape: [Int], values: [Float]) throws {
    guard let count = Tensor.count(of: shape), count == values.count else {
      throw TensorError.shapeMismatch(shape: shape, count: values.count)
    }
    self.shape = shape
    self.values = values
  }

  /// A tensor of zeros.
  /// - Precondition: no extent is negative and their product fits an `Int`.
  public init(zeros shape: [Int]) {
    guard let count = Tensor.count(of: shape) else { preconditionFailure("shape \(shape) has no element count") }
    self.shape = shape
    self.values = [Float](repeating: 0, count: count)
  }

  /// The number of elements of `shape`, or nil where an extent is negative or the product overflows.
  public static func count(of shape: [Int]) -> Int? {
    var product = 1
    for extent in shape {
      guard extent >= 0 else { return nil }
      let (next, overflow) = product.multipliedReportingOverflow(by: extent)
      if overflow { return nil }
      product = next
    }
    return product
  }

  /// Whether every value is finite (neither NaN nor infinite).
  public var isFinite: Bool { values.allSatisfy { $0.isFinite } }
}

/// What can be wrong with a tensor or a set of tensors in memory.
public enum TensorError: Error, Equatable, CustomStringConvertible {
  /// `count` values were given for `shape`.
  case shapeMismatch(shape: [Int], count: Int)
  /// Two tensors of one set share a name.
  case duplicateName(String)

  /// One sentence for people.
  public var description: String {
    switch self {
    case .shapeMismatch(let shape, let count): "\(count) values do not fill a tensor of shape \(shape)"
    case .duplicateName(let name): "two tensors are named '\(name)'"
    }
  }
}
