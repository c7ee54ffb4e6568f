/// What `fedlora simulate --compare` plays: every method, at every ε, with every seed.
public struct CompareSection: Codable, Sendable, Equatable {
  /// Seeds of partition, start, cohorts, batches and dropout; methods are paired by them.
  public var seeds: [UInt64]
  /// Target ε of the runs; 0 runs without privacy. Empty takes the scenario's own privacy section.
  public var epsilons: [Double]
  /// Attacks under which every method is played: `none`, or one of `poison.attack`, by the clients of the section `poison`.
  /// Empty plays that section as it is.
  public var attacks: [String]
  /// Seed on which the learning rate of each method is chosen; it must not be among `seeds`.
  public var tuningSeed: UInt64
  /// Factors on both learning rates that are tried; fewer than two switch tuning off.
  public var tuningFactors: [Double]
  /// Rounds of a tuning run; 0 takes as many as the runs have.
  public var tuningRounds: Int

  enum CodingKeys: String, CodingKey {
    case seeds, epsilons, attacks
    case tuningSeed = "tuning_seed"
    case tuningFactors = "tuning_factors"
    case tuningRounds = "tuning_rounds"
  }

  static let defaults = """
    compare:
      seeds: [1, 2, 3]
      epsilons: []
      attacks: []
      tuning_seed: 100
      tuning_factors: []
      tuning_rounds: 0
    """
}

extension CompareSection {
  func validate(_ ranges: Ranges) throws {
    try ranges.require(Set(seeds).count == seeds.count, "compare.seeds", "names a seed twice")
    for epsilon in epsilons { try ranges.notNegative(epsilon, "compare.epsilons") }
    try ranges.require(Set(epsilons).count == epsilons.count, "compare.epsilons", "names a value twice")
    for attack in attacks {
      try ranges.oneOf(["none"] + PoisonSection.Attack.allCases.map(\.rawValue), attack, "compare.attacks")
    }
    try ranges.require(Set(attacks).count == attacks.count, "compare.attacks", "names an attack twice")
    for factor in tuningFactors { try ranges.positive(factor, "compare.tuning_factors") }
    try ranges.require(
      tuningFactors.count < 2 || !seeds.contains(tuningSeed),
      "compare.tuning_seed",
      "is \(tuningSeed), which is also one of compare.seeds; rates chosen on a seed flatter it"
    )
    try ranges.atLeast(0, tuningRounds, "compare.tuning_rounds")
  }
}
