/// How the gradient of one example is bounded before it is added to others, and the integer grid of the sum.
///
/// The sum over examples is one of integers: each clipped gradient is divided by `step` and rounded before it is added.
/// It is exact, so it depends neither on the order of examples nor on how a batch was cut into slices, and one example
/// more or less changes it by a vector of norm at most (norm bound)/step, whatever floating point did on the way.
public struct ExampleClipping: Sendable, Equatable {
  /// The factor on a gradient of norm n.
  public enum Rule: Sendable, Equatable {
    /// min(1, bound/n): Abadi et al. 2016.
    case flat
    /// bound/(n + stability): automatic clipping, AUTO-S of Bu et al. 2023; with stability 0 every gradient is
    /// normalised.
    case automatic(stability: Double)
  }

  /// The factor's rule.
  public let rule: Rule
  /// Norm that no scaled gradient exceeds.
  public let bound: Double
  /// Width of a grid cell; |gradient element| / step stays below 2^23.
  public let step: Double

  /// - Throws: `ModelError.badOption` unless bound and step are positive and finite, bound/step is below 2^23 and the
  ///   stability is not negative.
  public init(rule: Rule, bound: Double, step: Double) throws {
    guard bound > 0, bound.isFinite else {
      throw ModelError.badOption(name: "clipping norm", found: "\(bound)", expected: "a positive finite number")
    }
    guard step > 0, step.isFinite, bound / step < ExampleClipping.largestElement else {
      throw ModelError.badOption(
        name: "grid step",
        found: "\(step)",
        expected: "positive and above \(bound / ExampleClipping.largestElement)"
      )
    }
    if case .automatic(let stability) = rule, !(stability >= 0 && stability.isFinite) {
      throw ModelError.badOption(name: "stability", found: "\(stability)", expected: "0 or a positive finite number")
    }
    self.rule = rule
    self.bound = bound
    self.step = step
  }

  /// Below it 255 elements add up in 32 bits.
  static let largestElement = 8_388_608.0
  /// Most examples whose sum is kept in 32 bits.
  static let examplesPerSum = 255

  /// The factor on a gradient of this norm; 0 for a norm of 0, and for one that is not finite: an example whose gradient
  /// cannot be bounded contributes nothing.
  public func factor(norm: Double) -> Double {
    guard norm.isFinite, norm > 0 else { return 0 }
    switch rule {
    case .flat: return min(1, bound / norm)
    case .automatic(let stability): return bound / (norm + stability)
    }
  }
}

/// What a clipped sum was made of. Every number here is about private data: nothing of it may leave the client.
public struct ClippedSummary: Sendable, Equatable {
  /// Losses before the step.
  public var losses = LossSummary()
  /// Examples that were added.
  public var examples = 0
  /// Examples whose norm was above the bound.
  public var aboveBound = 0
  /// Examples that contributed nothing because their gradient is not finite.
  public var notFinite = 0
  /// Sum of the finite norms.
  public var normSum = 0.0

  /// Nothing added yet.
  public init() {}

  static func + (left: ClippedSummary, right: ClippedSummary) -> ClippedSummary {
    var sum = left
    sum.losses = left.losses + right.losses
    sum.examples += right.examples
    sum.aboveBound += right.aboveBound
    sum.notFinite += right.notFinite
    sum.normSum += right.normSum
    return sum
  }
}
