/// What a ledger comes to, run by run, at one δ: for people and for programs that watch a budget.
public struct PrivacyReport: Sendable, Equatable, Encodable {
  /// Steps with the same parameters.
  public struct Setting: Sendable, Equatable, Encodable {
    /// How examples are drawn, `"poisson"` or `"fixed-size"`.
    public let sampling: String
    /// q.
    public let rate: Double
    /// σ, in units of C.
    public let noiseMultiplier: Double
    /// C.
    public let clippingNorm: Double
    /// How many steps had them.
    public var steps: Int

    enum CodingKeys: String, CodingKey {
      case sampling, rate, steps
      case noiseMultiplier = "noise_multiplier"
      case clippingNorm = "clipping_norm"
    }
  }

  /// One run.
  public struct Run: Sendable, Equatable, Encodable {
    /// The run's name.
    public let id: String
    /// The client's names in it; one as a rule.
    public let clients: [String]
    /// The strategies by name; one as a rule.
    public let strategies: [String]
    /// How many rounds the data took part in.
    public let rounds: Int
    /// How often: more than `rounds` when rounds were begun again.
    public let participations: Int
    /// All private steps.
    public let steps: Int
    /// The parameters of its steps, in order of first appearance.
    public let settings: [Setting]
    /// Whether any of its noise came from a known seed and protected nobody.
    public let isSeeded: Bool
    /// ε of this run alone.
    public let epsilon: ReportedEpsilon
    /// ε of this run and all those listed before it.
    public let epsilonSoFar: ReportedEpsilon

    enum CodingKeys: String, CodingKey {
      case id, clients, strategies, rounds, participations, steps, settings, epsilon
      case isSeeded = "seeded"
      case epsilonSoFar = "epsilon_so_far"
    }
  }

  /// The data's fingerprint now.
  public let dataset: String
  /// How many fingerprints the data has had.
  public let fingerprints: Int
  /// When the ledger was begun.
  public let created: String
  /// Which data sets count as neighbours.
  public let relation: NeighbouringRelation
  /// δ, for which every ε here is.
  public let delta: Double
  /// The runs, in order of first appearance.
  public let runs: [Run]
  /// ε of everything.
  public let epsilon: ReportedEpsilon
  /// How `epsilon` was found.
  public let method: CertifiedEpsilon.Method
  /// The ε that may be spent, if one was given.
  public let budget: Double?
  /// Whether any noise came from a known seed, so that ε describes what the steps would have cost with secret noise.
  public let hasSeededNoise: Bool
  /// Whether the file ends in a part of a line, which counts for nothing.
  public let hasTornLine: Bool

  enum CodingKeys: String, CodingKey {
    case dataset, fingerprints, created, relation, delta, runs, epsilon, method, budget
    case hasSeededNoise = "seeded"
    case hasTornLine = "torn_line"
  }

  /// - Parameters:
  ///   - delta: δ, above 0 and below 1.
  ///   - budget: the ε that may be spent, above 0.
  /// - Throws: `PrivacyParameterError` when one is out of range, and what `PrivacyAccountant` throws.
  public init(_ ledger: LedgerContents, delta: Double, budget: Double? = nil) throws {
    try PrivacyParameterError.check(delta: delta)
    if let budget, !(budget > 0 && budget.isFinite) {
      throw PrivacyParameterError.outOfRange("epsilon", budget, "above 0 and finite")
    }
    let accountant = PrivacyAccountant(relation: ledger.relation)
    var before = [PrivatePhase]()
    runs = try ledger.runs.map { id in
      let charges = ledger.charges.filter { $0.runID == id }
      let phases = charges.map(\.phase)
      before += phases
      return Run(
        id: id,
        clients: Self.distinct(charges.map(\.client)),
        strategies: Self.distinct(charges.map(\.strategy)),
        rounds: Set(charges.map(\.round)).count,
        participations: charges.count,
        steps: phases.reduce(0) { $0 + $1.steps },
        settings: Self.settings(of: charges),
        isSeeded: charges.contains { $0.seeded },
        epsilon: ReportedEpsilon(try accountant.epsilon(of: phases, delta: delta).epsilon),
        epsilonSoFar: ReportedEpsilon(try accountant.epsilon(of: before, delta: delta).epsilon)
      )
    }
    let spent = try ledger.spent(delta: delta)
    epsilon = ReportedEpsilon(spent.epsilon)
    method = spent.method
    dataset = ledger.dataset
    fingerprints = ledger.datasets.count
    created = ledger.created
    relation = ledger.relation
    self.delta = delta
    self.budget = budget
    hasSeededNoise = ledger.hasSeededNoise
    hasTornLine = ledger.tornLine != nil
  }

  private static func distinct(_ names: [String]) -> [String] {
    var seen = Set<String>()
    return names.filter { seen.insert($0).inserted }
  }

  private static func settings(of charges: [LedgerCharge]) -> [Setting] {
    var settings = [Setting]()
    for charge in charges {
      let (sampling, rate) =
        switch charge.phase.sampling {
        case .poisson(let rate): ("poisson", rate)
        case .fixedSize(let rate): ("fixed-size", rate)
        }
      let match = settings.firstIndex {
        $0.sampling == sampling && $0.rate == rate && $0.noiseMultiplier == charge.phase.noiseMultiplier
          && $0.clippingNorm == charge.clippingNorm
      }
      if let match {
        settings[match].steps += charge.phase.steps
      } else {
        settings.append(
          Setting(
            sampling: sampling,
            rate: rate,
            noiseMultiplier: charge.phase.noiseMultiplier,
            clippingNorm: charge.clippingNorm,
            steps: charge.phase.steps
          )
        )
      }
    }
    return settings
  }
}

/// An ε in a report; JSON has no number for infinity, so an unbounded one is the string `"infinity"`.
public struct ReportedEpsilon: Sendable, Equatable, Encodable, CustomStringConvertible {
  /// ε; infinity where steps had no noise.
  public let value: Double

  package init(_ value: Double) { self.value = value }

  /// Writes a number, or `"infinity"`.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if value.isFinite { try container.encode(value) } else { try container.encode("infinity") }
  }

  /// Four significant digits, rounded up so that the text is never below the value.
  public var description: String {
    guard value.isFinite, value > 0 else { return value == 0 ? "0" : "infinite" }
    var scale = 1.0
    while value * scale < 1000 { scale *= 10 }
    while value * scale >= 10_000 { scale /= 10 }
    let rounded = (value * scale).rounded(.up) / scale
    return rounded == rounded.rounded() && rounded < 1e15 ? "\(Int(rounded))" : "\(rounded)"
  }
}
