import FedLoRADP
import FedLoRAFederation
import FedLoRAProtocol
import Foundation

/// What the owner of the data agrees to. The coordinator proposes terms; nothing it sends can widen these.
public struct ClientPolicy: Codable, Sendable, Equatable {
  /// Privacy levels of runs that this client joins: `none`, `record`, `client`.
  public var levels: [String]
  /// Largest ε that may ever be spent on the data set, over all runs at level `record`; at level `client`, where the
  /// coordinator keeps the account, the largest that a run may claim.
  public var maxEpsilon: Double
  /// The δ at which ε is counted, and the largest that a run may claim.
  public var maxDelta: Double
  /// Least noise multiplier of a private run.
  public var minNoiseMultiplier: Double
  /// Fingerprints, or beginnings of at least 8 hexadecimal digits, of base models; empty allows any.
  public var models: [String]
  /// Strategies by name; empty allows any.
  public var strategies: [String]
  /// Rules by which updates become one; empty allows any.
  public var aggregations: [String]
  /// Metrics that may leave the client in runs at level `none`; under privacy none leaves.
  public var metrics: [String]
  /// Whether runs with seeded noise are joined: for simulations, where nobody is to be protected.
  public var allowSeededNoise: Bool
  /// A public number of examples for capped weights under privacy; 0 declares none. Not to be counted from the data.
  public var declaredExamples: Int

  enum CodingKeys: String, CodingKey {
    case levels
    case maxEpsilon = "max_epsilon"
    case maxDelta = "max_delta"
    case minNoiseMultiplier = "min_noise_multiplier"
    case models, strategies, aggregations, metrics
    case allowSeededNoise = "allow_seeded_noise"
    case declaredExamples = "declared_examples"
  }

  /// What holds without a policy file.
  public static let standard = ClientPolicy(
    levels: ["none", "record", "client"],
    maxEpsilon: 8,
    maxDelta: 1e-5,
    minNoiseMultiplier: 0.3,
    models: [],
    strategies: [],
    metrics: ["loss"],
    allowSeededNoise: false,
    declaredExamples: 0
  )

  /// Takes all parts.
  public init(
    levels: [String],
    maxEpsilon: Double,
    maxDelta: Double,
    minNoiseMultiplier: Double,
    models: [String],
    strategies: [String],
    aggregations: [String] = [],
    metrics: [String],
    allowSeededNoise: Bool,
    declaredExamples: Int
  ) {
    self.levels = levels
    self.maxEpsilon = maxEpsilon
    self.maxDelta = maxDelta
    self.minNoiseMultiplier = minNoiseMultiplier
    self.models = models
    self.strategies = strategies
    self.aggregations = aggregations
    self.metrics = metrics
    self.allowSeededNoise = allowSeededNoise
    self.declaredExamples = declaredExamples
  }

  /// Holds a manifest against the policy, without looking at data.
  /// - Throws: `ManifestRefusal` that names the term, what it is, what the policy allows and by which of its keys.
  public func check(_ manifest: WireRunManifest) throws {
    let level = manifest.hasPrivacy ? manifest.privacy.level : "none"
    try require(
      levels.contains(level),
      "privacy level is '\(level)'",
      "the policy allows \(levels.isEmpty ? "none at all" : levels.joined(separator: ", ")) (levels)"
    )
    try require(
      strategies.isEmpty || strategies.contains(manifest.strategy.name),
      "strategy is '\(manifest.strategy.name)'",
      "the policy allows \(strategies.joined(separator: ", ")) (strategies)"
    )
    let rule = manifest.hasAggregation ? manifest.aggregation.rule : AggregationName.mean.rawValue
    try require(
      aggregations.isEmpty || aggregations.contains(rule),
      "aggregation rule is '\(rule)'",
      "the policy allows \(aggregations.joined(separator: ", ")) (aggregations)"
    )
    let fingerprint = manifest.model.fingerprint.map { String(format: "%02x", $0) }.joined()
    try require(
      models.isEmpty || models.contains { $0.count >= 8 && fingerprint.hasPrefix($0.lowercased()) },
      "base model is \(fingerprint.prefix(16))…",
      "the policy allows \(models.joined(separator: ", ")) (models)"
    )
    guard manifest.hasPrivacy else { return }
    try require(
      !manifest.privacy.seededNoise || allowSeededNoise,
      "noise comes from a seed that everybody knows, which protects nobody",
      "the policy allows that only with allow_seeded_noise"
    )
    try require(
      manifest.strategy.weighting != "examples",
      "weighting is 'examples', which tells how many examples this client has",
      "under privacy only uniform or capped weights are sent"
    )
    try require(
      manifest.strategy.weighting != "capped" || declaredExamples > 0,
      "weighting is 'capped', which needs a number of examples",
      "the policy declares none; set declared_examples to a number that is public anyway"
    )
    let delta = manifest.privacy.delta
    try require(delta <= maxDelta, "delta is \(delta)", "the policy allows at most \(maxDelta) (max_delta)")
    let noise = manifest.privacy.noiseMultiplier
    try require(
      noise >= minNoiseMultiplier,
      "noise multiplier is \(noise)",
      "the policy asks for at least \(minNoiseMultiplier) (min_noise_multiplier)"
    )
    if let terms = try RecordPrivacy(manifest) {
      try checkClaim(terms, manifest)
    } else {
      try checkCoordinatorsClaim(manifest.privacy)
    }
  }

  /// At level `client` the coordinator clips, noises and ends the run before its ε is passed; whoever trusts it with that
  /// still says how large that ε may be.
  private func checkCoordinatorsClaim(_ claim: WirePrivacySpec) throws {
    try require(claim.delta > 0, "delta is \(claim.delta)", "a claim needs one above 0")
    try require(claim.epsilon > 0, "epsilon is \(claim.epsilon)", "a claim needs one above 0")
    try require(
      claim.epsilon <= maxEpsilon,
      "epsilon is \(claim.epsilon)",
      "the policy allows at most \(maxEpsilon) (max_epsilon)"
    )
  }

  /// The whole run must cost no more than it claims, and no more than the budget.
  private func checkClaim(_ terms: RecordPrivacy, _ manifest: WireRunManifest) throws {
    let (steps, overflow) = terms.participations.multipliedReportingOverflow(by: Int(manifest.training.localSteps))
    try require(!overflow, "rounds and local steps are too many to count", "fewer are needed")
    let accountant = PrivacyAccountant(relation: terms.relation)
    let cost: Double
    let atOwnDelta: Double
    do {
      let phase = try terms.phase(steps: steps)
      cost = try accountant.epsilon(of: [phase], delta: terms.delta).epsilon
      atOwnDelta = try accountant.epsilon(of: [phase], delta: maxDelta).epsilon
    } catch {
      throw ManifestRefusal(code: "policy", reason: "the run's privacy terms cannot be accounted for: \(error)")
    }
    try require(
      cost <= terms.epsilon,
      "epsilon is said to be \(terms.epsilon), but \(steps) steps with these terms spend \(cost)",
      "a claim must hold"
    )
    try require(
      atOwnDelta <= maxEpsilon,
      "privacy terms spend ε = \(atOwnDelta) at δ = \(maxDelta)",
      "the policy allows \(maxEpsilon) for this data set (max_epsilon)"
    )
  }

  private func require(_ condition: Bool, _ found: String, _ expected: String) throws {
    if !condition { throw ManifestRefusal(code: "policy", reason: "the run's \(found); \(expected)") }
  }
}
