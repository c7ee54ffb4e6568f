import FedLoRADP
import FedLoRAProtocol

/// In which sense a run is differentially private.
public struct PrivacySection: Codable, Sendable, Equatable {
  /// Whose presence the run hides.
  public enum Level: String, Codable, Sendable, CaseIterable {
    /// Nothing is claimed.
    case none
    /// One record of a client, from everybody including the coordinator: clients clip and noise their own gradients.
    case record
    /// One client, from everybody but the coordinator: it clips the updates and noises their sum.
    case client
  }

  /// Whose presence the run hides.
  public var level: Level
  /// Target ε over the whole run; the noise multiplier is calibrated to it. 0 takes `noise_multiplier` as given. At level
  /// `client` both may be given: the coordinator ends the run before another round would pass ε.
  public var epsilon: Double
  /// δ.
  public var delta: Double
  /// Noise in units of the clipping norm; 0 calibrates it to `epsilon`.
  public var noiseMultiplier: Double
  /// Norm to which a record's gradient, or a client's update, is clipped.
  public var clippingNorm: Double
  /// `flat` or `automatic`.
  public var clipping: String
  /// `poisson` or `fixed-size`.
  public var sampling: String
  /// Probability with which a step draws a record, or a round a client.
  public var samplingRate: Double
  /// `default`, or a neighbouring relation.
  public var relation: String
  /// Most rounds of one client for which the noise is calibrated; 0 takes the most that the cohort's rule can ask for.
  public var participations: Int
  /// FedSA: `joint`, `held` or `after`.
  public var personal: String
  /// Local steps on personal tensors under `after`.
  public var personalSteps: Int
  /// Noise from the run's seed: simulations only.
  public var seededNoise: Bool
  /// Client level: clients from which a round draws.
  public var population: Int
  /// Client level: quantile of the update norms that the clipping norm follows; 0 keeps it fixed.
  public var clippingQuantile: Double
  /// Client level: rate of the clipping norm's steps.
  public var clippingLearningRate: Double
  /// Client level: standard deviation of the noise on the sum of the quantile's bits, above half the noise multiplier.
  /// 0 takes a twentieth of the expected cohort (Andrew et al. 2021), or the noise multiplier where that is more.
  public var quantileNoise: Double

  enum CodingKeys: String, CodingKey {
    case level, epsilon, delta
    case noiseMultiplier = "noise_multiplier"
    case clippingNorm = "clipping_norm"
    case clipping, sampling
    case samplingRate = "sampling_rate"
    case relation, participations, personal
    case personalSteps = "personal_steps"
    case seededNoise = "seeded_noise"
    case population
    case clippingQuantile = "clipping_quantile"
    case clippingLearningRate = "clipping_learning_rate"
    case quantileNoise = "quantile_noise"
  }

  static let defaults = """
    privacy:
      level: none
      epsilon: 0
      delta: 0.00001
      noise_multiplier: 0
      clipping_norm: 1
      clipping: flat
      sampling: poisson
      sampling_rate: 0.05
      relation: default
      participations: 0
      personal: joint
      personal_steps: 50
      seeded_noise: false
      population: 0
      clipping_quantile: 0
      clipping_learning_rate: 0.2
      quantile_noise: 0
    """
}

extension PrivacySection {
  func validate(_ ranges: Ranges) throws {
    // Also where nothing is private: the section is shown, compared and overridden.
    for (value, key) in [
      (epsilon, "epsilon"), (delta, "delta"), (noiseMultiplier, "noise_multiplier"), (clippingNorm, "clipping_norm"),
      (samplingRate, "sampling_rate"), (clippingQuantile, "clipping_quantile"),
      (clippingLearningRate, "clipping_learning_rate"), (quantileNoise, "quantile_noise"),
    ] { try ranges.require(value.isFinite, "privacy.\(key)", "is \(value), expected a number") }
    guard level != .none else { return }
    try ranges.notNegative(epsilon, "privacy.epsilon")
    try ranges.require(delta > 0 && delta < 1, "privacy.delta", "is \(delta), expected above 0 and below 1")
    try ranges.notNegative(noiseMultiplier, "privacy.noise_multiplier")
    try ranges.require(
      epsilon > 0 || noiseMultiplier > 0,
      "privacy.epsilon",
      "is 0, and so is privacy.noise_multiplier; give one of them"
    )
    try ranges.positive(clippingNorm, "privacy.clipping_norm")
    try ranges.oneOf(["flat", "automatic"], clipping, "privacy.clipping")
    try ranges.oneOf(["poisson", "fixed-size"], sampling, "privacy.sampling")
    try ranges.require(
      samplingRate > 0 && samplingRate <= 1,
      "privacy.sampling_rate",
      "is \(samplingRate), expected above 0 and at most 1"
    )
    try ranges.oneOf(
      ["default"] + NeighbouringRelation.allCases.map(\.rawValue),
      relation,
      "privacy.relation"
    )
    try ranges.atLeast(0, participations, "privacy.participations")
    try ranges.require(
      ["joint", "held", "after"].contains(personal),
      "privacy.personal",
      "is '\(personal)', expected joint, held or after. A personal tensor that is trained without noise in the same "
        + "steps would make what is uploaded depend on the data beyond the noise: the gradient of A contains B"
    )
    try ranges.atLeast(1, personalSteps, "privacy.personal_steps")
    try ranges.atLeast(0, population, "privacy.population")
    try ranges.require(
      clippingQuantile >= 0 && clippingQuantile < 1,
      "privacy.clipping_quantile",
      "is \(clippingQuantile), expected at least 0 and below 1"
    )
    try ranges.notNegative(clippingLearningRate, "privacy.clipping_learning_rate")
    try ranges.notNegative(quantileNoise, "privacy.quantile_noise")
    _ = try resolvedRelation(source: ranges.source)
    guard level == .client else { return }
    try ranges.require(
      clipping == "flat",
      "privacy.clipping",
      "is '\(clipping)', but updates of clients are clipped flat"
    )
    try ranges.require(
      clippingQuantile == 0 || clippingLearningRate > 0,
      "privacy.clipping_learning_rate",
      "is 0, so the clipping norm would not follow privacy.clipping_quantile"
    )
  }

  /// What level `client` asks of the cohort: that the draw is secret, and of a public share where its size is fixed.
  func validate(_ cohort: CohortSection, _ ranges: Ranges) throws {
    guard level == .client else { return }
    try ranges.require(
      cohort.selection == "random",
      "cohort.selection",
      "is '\(cohort.selection)', which everybody can follow from the seed; at privacy level 'client' cohorts are drawn in "
        + "secret, by privacy.sampling: leave it out"
    )
    try ranges.require(
      population == 0 || population >= cohort.minClients,
      "privacy.population",
      "is \(population), but cohort.min_clients is \(cohort.minClients)"
    )
  }

  /// The neighbouring relation with `default` resolved: add-or-remove-one under Poisson sampling, replace-one else.
  func resolvedRelation(source: String = "configuration") throws -> NeighbouringRelation {
    let implied: NeighbouringRelation = sampling == "fixed-size" ? .replaceOne : .addOrRemoveOne
    guard relation != "default", let named = NeighbouringRelation(rawValue: relation) else { return implied }
    guard sampling != "fixed-size" || named == .replaceOne else {
      throw ConfigurationError(
        source: source,
        key: "privacy.relation",
        reason: "is '\(relation)', but sampling of a fixed size is only known to be private under replace-one"
      )
    }
    return named
  }
}

/// What the privacy section means for a run of given size: the terms that the manifest states.
struct PrivacyTermsBuilder {
  let section: PrivacySection
  let rounds: Int
  let localSteps: Int
  let batchSize: Int
  let cohort: CohortSection
  let weighting: String

  /// Nil where the run claims no privacy.
  /// - Throws: `ConfigurationError`, or `PrivacyParameterError` where no noise reaches the target.
  func terms() throws -> WirePrivacySpec? {
    guard section.level != .none else { return nil }
    let ranges = Ranges(source: "configuration")
    try section.validate(ranges)
    try section.validate(cohort, ranges)
    try ranges.require(
      weighting != "examples",
      "strategy.weighting",
      "is 'examples', which tells how many examples a client has and lets nothing bound one client's weight; under "
        + "privacy use uniform or capped"
    )
    let relation = try section.resolvedRelation()
    let sampling: ExampleSampling =
      section.sampling == "poisson"
      ? .poisson(rate: section.samplingRate) : .fixedSize(rate: section.samplingRate)
    let participations = mostParticipations
    let (steps, overflow) =
      section.level == .record
      ? participations.multipliedReportingOverflow(by: localSteps) : (rounds, false)
    try ranges.require(
      !overflow,
      "training.local_steps",
      "is \(localSteps), with which \(participations) rounds have more steps than can be counted"
    )
    var noise = section.noiseMultiplier
    if noise == 0 {
      noise = try Calibration.noiseMultiplier(
        epsilon: section.epsilon,
        delta: section.delta,
        sampling: sampling,
        steps: steps,
        relation: relation
      )
    }
    let phase = try PrivatePhase(sampling: sampling, noiseMultiplier: noise, steps: steps)
    let certified = try PrivacyAccountant(relation: relation).epsilon(of: [phase], delta: section.delta)
    // At level `client` the coordinator stops at the budget; clients who keep the account themselves hold claims against
    // the whole run.
    try ranges.require(
      section.epsilon == 0 || section.level == .client || certified.epsilon <= section.epsilon,
      "privacy.noise_multiplier",
      "is \(noise), with which \(steps) steps spend ε = \(certified.epsilon), more than privacy.epsilon "
        + "(\(section.epsilon)); leave it out to have it calibrated"
    )
    try ranges.require(
      certified.epsilon.isFinite,
      "privacy.noise_multiplier",
      "is \(noise), with which nothing is private after \(steps) steps"
    )
    var terms = WirePrivacySpec()
    terms.level = section.level.rawValue
    terms.relation = relation.rawValue
    terms.sampling = section.sampling
    terms.samplingRate = section.samplingRate
    terms.clippingNorm = section.clippingNorm
    terms.clipping = section.clipping
    terms.noiseMultiplier = noise
    terms.participations = UInt32(clamping: participations)
    terms.epsilon = section.epsilon > 0 ? section.epsilon : certified.epsilon
    terms.delta = section.delta
    terms.seededNoise = section.seededNoise
    switch section.level {
    case .none: break
    case .record:
      // A constant that everybody knows before anybody looks at data, so that the divisor tells nothing.
      terms.divisor = Double(batchSize)
      terms.personal = section.personal
      terms.personalSteps = UInt32(clamping: section.personalSteps)
    case .client:
      terms.population = UInt32(clamping: population)
      terms.divisor =
        section.sampling == "poisson"
        ? max(1, section.samplingRate * Double(population)) : Double(cohort.clientsPerRound)
      guard section.clippingQuantile > 0 else { break }
      terms.clippingQuantile = section.clippingQuantile
      terms.clippingLearningRate = section.clippingLearningRate
      terms.quantileNoise = section.quantileNoise > 0 ? section.quantileNoise : max(terms.divisor / 20, noise)
      try ranges.require(
        noise < 2 * terms.quantileNoise,
        "privacy.quantile_noise",
        "is \(section.quantileNoise), but the bits of the quantile would then spend more than the rounds may: it must be "
          + "above \(noise / 2), half the noise multiplier"
      )
    }
    return terms
  }

  private var population: Int { section.population > 0 ? section.population : cohort.minClients }

  /// The most rounds for which one client can be asked: all of them, or an even share where the cohort is balanced.
  private var mostParticipations: Int {
    if section.participations > 0 { return min(section.participations, rounds) }
    // In an asynchronous run the quick ones are asked more often than their share.
    guard cohort.selection == "balanced", section.level == .record, cohort.bufferSize == 0 else { return rounds }
    let asked = Int128(cohort.clientsPerRound) + Int128(cohort.overSelected)
    let (share, all) = (Int128(rounds) * asked, Int128(cohort.minClients))
    return Int(min(Int128(rounds), (share + all - 1) / all))
  }
}
