import FedLoRACheckpoint

/// The step of an asynchronous round: the current state moved by the staleness-weighted mean of what each update changed.
///
///     x ← x + Σ wᵢ·s(τᵢ)·(uᵢ − xᵢ) / Σ wᵢ
///
/// uᵢ is an update, xᵢ the state that it started from, τᵢ its staleness, wᵢ its weight, s(τ) = (1 + τ)^(−exponent). The
/// divisor is the sum of the weights without staleness, so stale updates shorten the step (Nguyen et al. 2022, algorithm 1,
/// with a server rate of 1). Differences are taken in floats, once each; their sum is exact (`ExactSum`), so the result
/// does not depend on the order of the updates.
public struct BufferedSum: Sendable {
  /// How updates count.
  public let terms: BufferTerms
  private var sum: ExactSum
  private var weight = 0

  /// The largest weight that an update of an asynchronous run may have.
  public static let largestWeight = ExactSum.largestWeight / BufferTerms.unitsOfFresh

  /// The largest magnitude of a value that an update of this weight may hold, so that its difference from any state made of
  /// such updates can be added.
  public static func largestValue(weight: Int) -> Double {
    ExactSum.largestTerm / Double(4 * BufferTerms.unitsOfFresh) / Double(max(1, weight))
  }

  /// An empty sum.
  public init(layout: TensorLayout, terms: BufferTerms) {
    self.terms = terms
    sum = ExactSum(layout: layout)
  }

  /// Adds what an update changed.
  /// - Parameters:
  ///   - start: what the client started from, of the same layout.
  ///   - weight: 1 to `largestWeight`.
  /// - Throws: `LayoutError` or `SumError`; the sum is then unchanged.
  public mutating func fold(_ update: TensorSet, start: TensorSet, weight: Int, staleness: Int) throws {
    guard weight >= 1, weight <= BufferedSum.largestWeight else { throw SumError.weightOutOfRange(weight) }
    try sum.layout.check(update)
    try sum.layout.check(start)
    var difference = update
    for (entry, old) in zip(update.entries, start.entries) {
      let values = zip(entry.tensor.values, old.tensor.values).map { $0 - $1 }
      difference[entry.name] = try Tensor(shape: entry.tensor.shape, values: values)
    }
    try sum.fold(difference, weight: weight * terms.units(staleness: staleness))
    self.weight += weight
  }

  /// `current` after the step, each element rounded to a float.
  /// - Throws: `SumError.empty` when nothing was folded; `SumError.notFinite` where the result is beyond a float.
  public func moved(_ current: TensorSet) throws -> TensorSet {
    let mean = try sum.mean()
    // The mean is over staleness-weighted parts; the step is over whole updates.
    let factor = Double(sum.totalWeight) / (Double(weight) * Double(BufferTerms.unitsOfFresh))
    var result = current
    for entry in mean.entries {
      guard let old = current[entry.name] else { throw LayoutError.missing(entry.name) }
      let values = zip(old.values, entry.tensor.values).map { Float(Double($0) + Double($1) * factor) }
      if let index = values.firstIndex(where: { !$0.isFinite }) {
        throw SumError.notFinite(tensor: entry.name, index: index, value: values[index])
      }
      result[entry.name] = try Tensor(shape: old.shape, values: values)
    }
    return result
  }
}
