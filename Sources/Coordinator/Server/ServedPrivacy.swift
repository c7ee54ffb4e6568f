import FedLoRADP
import FedLoRAFederation
import FedLoRAProtocol

/// What a manifest says about privacy, checked in full: an unknown word or a number out of range is refused by its name.
///
/// At level `record` clients protect their own records and hold the terms against their own policies; the coordinator does
/// nothing but check that the terms make sense. In particular it takes no credit for asking only some clients in a round:
/// everybody can compute those cohorts from the seed, so each client is charged for each round that it takes part in.
enum ServedPrivacy: Sendable {
  case none
  case record
  case client(ClientLevelPrivacy)

  init(_ manifest: WireRunManifest, strategy: Strategy, weighting: Weighting) throws {
    let spec = manifest.privacy
    guard manifest.hasPrivacy, !spec.level.isEmpty else {
      self = .none
      return
    }
    do {
      switch spec.level {
      case "record":
        try ServedPrivacy.checkRecordTerms(spec, strategy: strategy)
        self = .record
      case "client": self = .client(try ServedPrivacy.clientTerms(manifest, weighting: weighting))
      default:
        throw PrivacyTermError.unknown(field: "level", value: spec.level, expected: ["", "record", "client"])
      }
    } catch let error as PrivacyTermError {
      throw CoordinatorError.badManifest(error.description)
    }
  }

  private static func relation(_ spec: WirePrivacySpec) throws -> NeighbouringRelation {
    guard let relation = NeighbouringRelation(rawValue: spec.relation) else {
      throw PrivacyTermError.unknown(
        field: "relation",
        value: spec.relation,
        expected: NeighbouringRelation.allCases.map(\.rawValue)
      )
    }
    return relation
  }

  private static func check(_ field: String, _ value: String, oneOf expected: [String]) throws {
    guard expected.contains(value) else {
      throw PrivacyTermError.unknown(field: field, value: value, expected: expected)
    }
  }

  private static func check(unset field: String, _ isUnset: Bool, level: String) throws {
    guard isUnset else { throw PrivacyTermError.notAtThisLevel(field: field, level: level) }
  }

  private static func checkRecordTerms(_ spec: WirePrivacySpec, strategy: Strategy) throws {
    let relation = try relation(spec)
    try check("sampling", spec.sampling, oneOf: ["poisson", "fixed-size"])
    guard spec.sampling == "poisson" || relation == .replaceOne else {
      throw PrivacyTermError.fixedSizeNeedsReplaceOne(relation)
    }
    let (rate, noise) = (spec.samplingRate, spec.noiseMultiplier)
    try PrivacyTermError.check("sampling_rate", rate, rate > 0 && rate <= 1, "above 0 and at most 1")
    try PrivacyTermError.check(positive: "clipping_norm", spec.clippingNorm)
    try check("clipping", spec.clipping, oneOf: ["flat", "automatic"])
    try PrivacyTermError.check("noise_multiplier", noise, noise >= 0 && noise.isFinite, "0 or more and finite")
    try PrivacyTermError.check(positive: "divisor", spec.divisor)
    try PrivacyTermError.check(
      "participations",
      Double(spec.participations),
      spec.participations >= 1,
      "at least 1"
    )
    try PrivacyTermError.check(epsilon: spec.epsilon, delta: spec.delta, noiseMultiplier: noise)
    let keepsTensors = strategy.head == .personal || strategy.name.isFedSA
    try check("personal", spec.personal, oneOf: ["joint", "held", "after"] + (keepsTensors ? [] : [""]))
    if spec.personal == "after" {
      try PrivacyTermError.check("personal_steps", Double(spec.personalSteps), spec.personalSteps >= 1, "at least 1")
    }
    for (field, isUnset) in [
      ("population", spec.population == 0), ("clipping_quantile", spec.clippingQuantile == 0),
      ("clipping_learning_rate", spec.clippingLearningRate == 0), ("quantile_noise", spec.quantileNoise == 0),
    ] { try check(unset: field, isUnset, level: "record") }
  }

  private static func clientTerms(_ manifest: WireRunManifest, weighting: Weighting) throws -> ClientLevelPrivacy {
    let spec = manifest.privacy
    guard ["", "random"].contains(manifest.cohort.selection) else {
      throw PrivacyTermError.publicSelection(manifest.cohort.selection)
    }
    let relation = try relation(spec)
    let (population, rate) = (Int(spec.population), spec.samplingRate)
    try PrivacyTermError.check("sampling_rate", rate, rate > 0 && rate <= 1, "above 0 and at most 1")
    try check("sampling", spec.sampling, oneOf: ["poisson", "fixed-size"])
    try check("clipping", spec.clipping, oneOf: ["flat"])
    try PrivacyTermError.check(
      "population",
      Double(population),
      population >= Int(manifest.cohort.minClients),
      "at least min_clients, \(manifest.cohort.minClients)"
    )
    // Every round is charged for every client, drawn or not: a smaller number would be a promise that nobody keeps.
    try PrivacyTermError.check(
      "participations",
      Double(spec.participations),
      spec.participations == 0 || spec.participations >= manifest.rounds,
      "0, or the number of rounds, \(manifest.rounds), at level 'client'"
    )
    try check(unset: "personal", spec.personal.isEmpty, level: "client")
    try check(unset: "personal_steps", spec.personalSteps == 0, level: "client")
    var adaptive: ClientLevelPrivacy.AdaptiveClipping?
    if spec.clippingQuantile != 0 {
      adaptive = ClientLevelPrivacy.AdaptiveClipping(
        quantile: spec.clippingQuantile,
        learningRate: spec.clippingLearningRate,
        noise: spec.quantileNoise
      )
    }
    return try ClientLevelPrivacy(
      relation: relation,
      sampling: spec.sampling == "poisson"
        ? .poisson(rate: rate) : .fixedSize(cohort: Int(manifest.cohort.clientsPerRound), rate: rate),
      population: population,
      clippingNorm: spec.clippingNorm,
      noiseMultiplier: spec.noiseMultiplier,
      divisor: spec.divisor,
      epsilon: spec.epsilon,
      delta: spec.delta,
      adaptiveClipping: adaptive,
      weighting: weighting,
      seed: spec.seededNoise ? manifest.seed : nil
    )
  }
}
