import FedLoRACheckpoint

/// A weighted sum of clipped differences on an integer grid: what the coordinator adds noise to where each client's whole
/// contribution is protected. A pure value that knows neither noise nor randomness.
///
/// An update holds the new values of the shared tensors; what a client contributes is its difference from what it was sent.
/// Over all tensors together the difference is scaled to a norm of at most `clippingLimit`, each coordinate is divided by
/// `step` and rounded to the nearest integer, and the integers are multiplied by the client's weight and added. Integers
/// commute, so the sum does not depend on the order of the updates.
///
/// **Sensitivity.** The grid that `clippingLimit` and `step` come from promises that the rounded vector has a norm of at
/// most C / `step` for its clipping norm C. So taking one client away, with whatever it sent, changes the integer sum by a
/// norm of at most `largestWeight`·C / `step`, and exchanging it by twice that. The bound holds for the largest possible
/// weight, not for those that occurred: those would tell about the clients.
///
/// **What cannot be used** counts as zero. An update with NaN or infinity is found before anything is computed with it,
/// changes nothing, and is counted in `discardedCount`.
///
/// **Overflow.** A coordinate of one update is at most `clippingLimit` / `step` + 1 in magnitude. A sum that could pass 2⁶¹,
/// from the number of updates and the largest weight alone, is refused, which leaves room for the noise.
public struct PrivateSum: Sendable, Equatable {
  /// What each update must consist of.
  public let layout: TensorLayout
  /// The norm to which a difference is scaled down before it is rounded.
  public let clippingLimit: Double
  /// One unit of the grid.
  public let step: Double
  /// The largest weight that any client can have.
  public let largestWeight: Int
  /// The sum in units of `step`, all tensors one after the other in the order of the layout.
  public private(set) var sums: [Int64]
  /// How many updates were folded, unusable ones included.
  public private(set) var updateCount = 0
  /// How many of them held NaN or infinity.
  public private(set) var discardedCount = 0

  /// The largest magnitude that a coordinate of the sum may come to.
  static let largestSum = 0x1p61

  /// An empty sum.
  /// - Parameters:
  ///   - layout: what each update must consist of.
  ///   - clippingLimit: above 0 and finite.
  ///   - step: above 0 and finite, and not below `clippingLimit`·2⁻⁴⁰.
  ///   - largestWeight: 1 to `ExactSum.largestWeight`.
  /// - Throws: `PrivateSumError`.
  public init(layout: TensorLayout, clippingLimit: Double, step: Double, largestWeight: Int) throws {
    guard clippingLimit > 0, step > 0, step.isFinite, clippingLimit / step <= 0x1p40 else {
      throw PrivateSumError.unusableGrid(clippingLimit: clippingLimit, step: step)
    }
    guard (1...ExactSum.largestWeight).contains(largestWeight) else {
      throw PrivateSumError.weightOutOfRange(largestWeight, largest: ExactSum.largestWeight)
    }
    self.layout = layout
    self.clippingLimit = clippingLimit
    self.step = step
    self.largestWeight = largestWeight
    sums = [Int64](repeating: 0, count: layout.elementCount)
  }

  /// Adds the difference between `update` and `sent`, clipped, with this weight.
  /// - Parameters:
  ///   - update: the new values of the shared tensors.
  ///   - sent: the same tensors as the round sent them, finite.
  ///   - weight: 1 to `largestWeight`.
  /// - Returns: the norm of the difference before clipping; nil where the update could not be used.
  /// - Throws: `LayoutError` or `PrivateSumError`; the sum is then unchanged.
  @discardableResult
  public mutating func fold(_ update: TensorSet, sent: TensorSet, weight: Int = 1) throws -> Double? {
    guard (1...largestWeight).contains(weight) else {
      throw PrivateSumError.weightOutOfRange(weight, largest: largestWeight)
    }
    try layout.check(update)
    try layout.check(sent)
    let largestTerm = (clippingLimit / step).rounded(.up) + 1
    guard Double(updateCount + 1) * Double(largestWeight) * largestTerm <= Self.largestSum else {
      throw PrivateSumError.full(updates: updateCount)
    }
    updateCount += 1
    guard update.entries.allSatisfy({ $0.tensor.values.allSatisfy(\.isFinite) }) else {
      discardedCount += 1
      return nil
    }
    // Differences of finite floats are below 2¹²⁹, so neither they nor their squares leave the range of a double.
    var squares = 0.0
    for (new, old) in zip(update.entries, sent.entries) {
      new.tensor.values.withUnsafeBufferPointer { new in
        old.tensor.values.withUnsafeBufferPointer { old in
          for index in new.indices {
            let difference = Double(new[index]) - Double(old[index])
            squares += difference * difference
          }
        }
      }
    }
    let norm = squares.squareRoot()
    let factor = (norm > clippingLimit ? clippingLimit / norm : 1) / step
    let integerWeight = Int64(weight)
    sums.withUnsafeMutableBufferPointer { sums in
      for (position, entry) in layout.entries.enumerated() {
        update.entries[position].tensor.values.withUnsafeBufferPointer { new in
          sent.entries[position].tensor.values.withUnsafeBufferPointer { old in
            for index in 0..<entry.count {
              let rounded = ((Double(new[index]) - Double(old[index])) * factor).rounded(.toNearestOrEven)
              sums[entry.offset + index] += integerWeight * Int64(rounded)
            }
          }
        }
      }
    }
    return norm
  }

  /// `previous` moved by `differences`, each element rounded to a float.
  /// - Parameter differences: one for each element of the layout, in its order.
  /// - Throws: `PrivateSumError.notFinite` where the result does not fit a float; `LayoutError`.
  public static func moved(_ previous: TensorSet, by differences: [Double]) throws -> TensorSet {
    let layout = TensorLayout(of: previous)
    precondition(differences.count == layout.elementCount, "one difference for each element")
    var result = previous
    for (position, entry) in layout.entries.enumerated() {
      let old = previous.entries[position].tensor
      let values = (0..<entry.count).map { Float(Double(old.values[$0]) + differences[entry.offset + $0]) }
      guard values.allSatisfy(\.isFinite) else { throw PrivateSumError.notFinite(tensor: entry.name) }
      result[entry.name] = try Tensor(shape: entry.shape, values: values)
    }
    return result
  }
}

/// Why something was not added to a private sum.
public enum PrivateSumError: Error, Equatable, CustomStringConvertible {
  /// The clipping limit or the step is not positive and finite, or they are too far apart.
  case unusableGrid(clippingLimit: Double, step: Double)
  /// A weight is below 1 or above the largest.
  case weightOutOfRange(Int, largest: Int)
  /// One more update could pass what the accumulators hold for certain.
  case full(updates: Int)
  /// The noised state is NaN or infinite.
  case notFinite(tensor: String)

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .unusableGrid(let limit, let step):
      "a clipping limit of \(limit) on a grid of \(step) is not usable; choose a clipping norm and noise nearer to 1"
    case .weightOutOfRange(let weight, let largest): "weight \(weight) is outside 1...\(largest)"
    case .full(let updates): "after \(updates) updates the sum could overflow; lower the cap of the weights"
    case .notFinite(let tensor):
      "tensor '\(tensor)' is beyond the range of a float after the noise; choose a smaller clipping norm or less noise"
    }
  }
}
