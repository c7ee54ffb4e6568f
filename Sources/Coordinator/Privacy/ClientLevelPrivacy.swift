import FedLoRADP
import FedLoRAFederation

/// The terms under which each client's whole contribution to a run is protected, with the coordinator trusted to see single
/// updates: DP-FedAvg (McMahan et al. 2018) with a fixed divisor.
///
/// In each round the clients' differences are clipped to the norm S, summed with integer weights of at most w, and the sum is
/// released with noise of standard deviation z·S·w in every coordinate (`PrivateRelease`). Who and how many took part is
/// secret, so neither noise nor divisor depend on it. Everything that follows, the server's step included, is
/// post-processing.
///
/// **Who is drawn.** Under `poisson` sampling every client of the population is in the cohort by itself with probability q;
/// under `fixedSize` the cohort is a uniform subset. The draw is made from secret randomness, once a round; clients that were
/// drawn and are away contribute zero. Whoever knows the cohorts, the operator with the run's log for one, has no bound
/// with sub-sampling: the log is as secret as the updates.
///
/// **Adaptive clipping** (Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping"). Each client of the
/// round adds b = ½ where its norm is at most S, else −½. The noisy sum of the bits has standard deviation σ_b, and after
/// the release S becomes S·exp(−η·(½ + sum/divisor − γ)). Update and bit together are one Gaussian release of multiplier z,
/// so that is what is accounted for; the update alone gets z_g = (z⁻² − (2σ_b)⁻²)^(−1/2).
public struct ClientLevelPrivacy: Sendable, Equatable {
  /// How a cohort is drawn.
  public enum Sampling: Sendable, Equatable {
    /// Each client by itself with probability `rate`, above 0 and at most 1.
    case poisson(rate: Double)
    /// A uniform subset of `cohort` of the population's clients, accounted for as a share of `rate`, which is at most 1
    /// and not below the real one.
    case fixedSize(cohort: Int, rate: Double)

    /// Whether every cohort has the same size.
    public var isFixedSize: Bool { if case .fixedSize = self { true } else { false } }
  }

  /// How the clipping norm follows a quantile of the update norms.
  public struct AdaptiveClipping: Sendable, Equatable {
    /// γ: the share of updates that is to stay unclipped; above 0 and below 1.
    public let quantile: Double
    /// η: the rate of the geometric steps; above 0.
    public let learningRate: Double
    /// σ_b: the standard deviation of the noise on the sum of the bits; above 0.
    public let noise: Double

    /// States how the clipping norm follows the updates; checked by `ClientLevelPrivacy`.
    public init(quantile: Double, learningRate: Double, noise: Double) {
      self.quantile = quantile
      self.learningRate = learningRate
      self.noise = noise
    }
  }

  /// Which populations count as neighbours.
  public let relation: NeighbouringRelation
  /// How a cohort is drawn.
  public let sampling: Sampling
  /// The number of clients from which cohorts are drawn.
  public let population: Int
  /// S of the first round.
  public let clippingNorm: Double
  /// z: the standard deviation of the noise in units of the sensitivity S·w.
  public let noiseMultiplier: Double
  /// By how many clients the noised sum is divided, whatever their real number.
  public let divisor: Double
  /// The budget.
  public let epsilon: Double
  /// The probability beside it.
  public let delta: Double
  /// How the clipping norm moves; nil where it stays.
  public let adaptiveClipping: AdaptiveClipping?
  /// How much an update counts.
  public let weighting: Weighting
  /// w: the largest weight that any client can have.
  public let largestWeight: Int
  /// Randomness that follows from this seed and protects nobody; nil for the system's.
  public private(set) var seed: UInt64?

  /// - Throws: `PrivacyTermError` naming the first term that makes no sense.
  public init(
    relation: NeighbouringRelation,
    sampling: Sampling,
    population: Int,
    clippingNorm: Double,
    noiseMultiplier: Double,
    divisor: Double,
    epsilon: Double,
    delta: Double,
    adaptiveClipping: AdaptiveClipping? = nil,
    weighting: Weighting = .uniform,
    seed: UInt64? = nil
  ) throws {
    try PrivacyTermError.check("population", Double(population), population >= 1, "at least 1")
    switch sampling {
    case .poisson(let rate):
      try PrivacyTermError.check("sampling_rate", rate, rate > 0 && rate <= 1, "above 0 and at most 1")
    case .fixedSize(let cohort, let rate):
      guard relation == .replaceOne else { throw PrivacyTermError.fixedSizeNeedsReplaceOne(relation) }
      try PrivacyTermError.check(
        "clients_per_round",
        Double(cohort),
        (1...population).contains(cohort),
        "1 to the population of \(population)"
      )
      let share = Double(cohort) / Double(population)
      try PrivacyTermError.check(
        "sampling_rate",
        rate,
        rate >= share && rate <= 1,
        "from clients_per_round / population, which is \(share), to 1"
      )
    }
    try PrivacyTermError.check(positive: "clipping_norm", clippingNorm)
    try PrivacyTermError.check(
      "noise_multiplier",
      noiseMultiplier,
      noiseMultiplier >= 0 && noiseMultiplier.isFinite,
      "0 or more and finite"
    )
    try PrivacyTermError.check(positive: "divisor", divisor)
    try PrivacyTermError.check(epsilon: epsilon, delta: delta, noiseMultiplier: noiseMultiplier)
    if let adaptive = adaptiveClipping {
      try PrivacyTermError.check(
        "clipping_quantile",
        adaptive.quantile,
        adaptive.quantile > 0 && adaptive.quantile < 1,
        "above 0 and below 1, or 0 for a fixed norm"
      )
      try PrivacyTermError.check(positive: "clipping_learning_rate", adaptive.learningRate)
      try PrivacyTermError.check(positive: "quantile_noise", adaptive.noise)
      guard noiseMultiplier < 2 * adaptive.noise else {
        throw PrivacyTermError.bitsTakeAll(noiseMultiplier: noiseMultiplier, quantileNoise: adaptive.noise)
      }
    }
    guard let largest = weighting.largestWeight else { throw PrivacyTermError.unboundedWeights }
    try PrivacyTermError.check(
      "weight_cap",
      Double(largest),
      (1...ExactSum.largestWeight).contains(largest),
      "1 to \(ExactSum.largestWeight)"
    )
    self.relation = relation
    self.sampling = sampling
    self.population = population
    self.clippingNorm = clippingNorm
    self.noiseMultiplier = noiseMultiplier
    self.divisor = divisor
    self.epsilon = epsilon
    self.delta = delta
    self.adaptiveClipping = adaptiveClipping
    self.weighting = weighting
    largestWeight = largest
    self.seed = seed
  }

  /// z_g: the multiplier of the noise on the updates alone; above z where the clipping norm adapts.
  public var updateNoiseMultiplier: Double {
    guard let adaptive = adaptiveClipping else { return noiseMultiplier }
    // z/√(1 − r²) with r = z/(2σ_b), rounded up by more than its error, of which the subtraction has the most.
    let share = noiseMultiplier / (2 * adaptive.noise)
    return noiseMultiplier / ((1 - share) * (1 + share)).squareRoot() * (1 + 0x1p-50 / (1 - share))
  }

  /// The same terms with randomness that follows from this seed.
  func drawing(from seed: UInt64) -> ClientLevelPrivacy {
    var terms = self
    terms.seed = seed
    return terms
  }

  /// Fresh randomness for one use in one round. Under a seed it is the same for the same use and round.
  func randomness(_ purpose: String, round: Int) -> SecretRandomness {
    guard let seed else { return .system() }
    return .seeded(seed, context: ["coordinator", purpose, String(round)])
  }
}
