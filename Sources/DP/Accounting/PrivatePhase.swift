/// Which data sets count as neighbours. The sensitivity of a sum of clipped vectors follows from it.
public enum NeighbouringRelation: String, Codable, Sendable, CaseIterable {
  /// One has an example more than the other; the number of examples is secret.
  case addOrRemoveOne = "add-or-remove-one"
  /// In one an example's contribution is zero; the number of examples is public.
  case zeroOut = "zero-out"
  /// One example has another content; the number of examples is public.
  case replaceOne = "replace-one"

  /// How far the sum of vectors of norm at most C can move between neighbours, in units of C.
  public var sumSensitivity: Double { self == .replaceOne ? 2 : 1 }
}

/// How the examples of a step are drawn; `rate` is above 0 and at most 1.
public enum ExampleSampling: Codable, Sendable, Hashable {
  /// Each example by itself with probability `rate`.
  case poisson(rate: Double)
  /// A uniform subset without replacement of at most `rate` of the examples; for neighbours that replace one.
  case fixedSize(rate: Double)

  /// The share of the examples in a step.
  public var rate: Double {
    switch self {
    case .poisson(let rate), .fixedSize(let rate): rate
    }
  }

  var isFixedSize: Bool {
    if case .fixedSize = self { return true }
    return false
  }
}

/// A stretch of equal private steps. Each releases the sum of its examples' vectors, clipped to norm C, plus
/// N(0, (noiseMultiplier·C)²·I), also when no example was drawn.
public struct PrivatePhase: Codable, Sendable, Equatable {
  /// How each step's examples are drawn.
  public var sampling: ExampleSampling
  /// σ: the standard deviation of the noise on the sum in units of C; 0 or more.
  public var noiseMultiplier: Double
  /// The number of steps; 0 or more.
  public var steps: Int

  /// The most steps of a phase that accounting is prepared for.
  public static let maximumSteps = 1_000_000_000_000

  /// - Throws: `PrivacyParameterError` unless 0 < rate ≤ 1, 0 ≤ σ < ∞ and 0 ≤ steps ≤ `maximumSteps`.
  public init(sampling: ExampleSampling, noiseMultiplier: Double, steps: Int) throws {
    self.sampling = sampling
    self.noiseMultiplier = noiseMultiplier
    self.steps = steps
    try check()
  }

  /// The properties can be set and decoded, so accounting checks again.
  func check() throws {
    guard sampling.rate > 0, sampling.rate <= 1 else {
      throw PrivacyParameterError.outOfRange("the sampling rate", sampling.rate, "above 0 and at most 1")
    }
    guard noiseMultiplier >= 0, noiseMultiplier.isFinite else {
      throw PrivacyParameterError.outOfRange("the noise multiplier", noiseMultiplier, "0 or more and finite")
    }
    guard steps >= 0, steps <= Self.maximumSteps else {
      throw PrivacyParameterError.outOfRange("the number of steps", Double(steps), "0 to \(Self.maximumSteps)")
    }
  }
}

/// An ε that holds for the δ it was asked for: never below the least one, and as a rule above it by less than 1e-6 of
/// it.
public struct CertifiedEpsilon: Sendable, Equatable {
  /// How the number was found.
  public enum Method: String, Codable, Sendable {
    /// Steps without sub-sampling, or a single step.
    case closedForm = "closed-form"
    /// The inverse Laplace transform of the privacy loss along two lines of the complex plane.
    case contour
    /// A discretised privacy loss that dominates the true one, composed by exponentially tilted Fourier transforms.
    case tiltedPLD = "tilted-pld"
    /// A bound from Rényi divergences; above the least ε.
    case rdp
    /// Nothing was released, or something without noise.
    case none
  }

  /// The privacy loss bound: 0 where nothing is told, infinity for steps without noise.
  public let epsilon: Double
  /// How it was found.
  public let method: Method

  package init(epsilon: Double, method: Method) {
    self.epsilon = epsilon
    self.method = method
  }
}
