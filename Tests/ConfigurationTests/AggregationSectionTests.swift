import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

@Suite("The section 'aggregation'")
struct AggregationSectionTests {
  private static let model = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("EngineTests/Fixtures/bert/mean/model")
  private let base: FrozenModel
  private let scratch: ScratchFolder

  init() throws {
    base = try FrozenModel(folder: Self.model)
    scratch = try ScratchFolder()
  }

  private func manifest(_ assignments: [String]) throws -> WireRunManifest {
    let url = scratch.appending("run.yaml")
    try Data(
      """
      labels: [no, yes]
      model: { max_length: 24 }
      adapter: { rank: 2, target_modules: [query, value] }
      cohort: { min_clients: 9, clients_per_round: 9, quorum: 7 }

      """.utf8
    ).write(to: url)
    return try RunDefinition(try RunConfiguration.load(url, assignments: assignments).0, base: base).manifest
  }

  private func fault(_ assignments: [String]) -> ConfigurationError? {
    do {
      _ = try manifest(assignments)
      return nil
    } catch { return error as? ConfigurationError }
  }

  @Test("leaves the manifest of a mean as it was before there were other rules")
  func mean() throws {
    let made = try manifest([])
    #expect(!made.hasAggregation)
    #expect(try manifest(["aggregation.rule=mean"]) == made)
  }

  @Test("states the rule and what it uses, and nothing else")
  func rules() throws {
    func spec(_ rule: String, _ extra: String...) throws -> WireAggregationSpec {
      try manifest(["aggregation.rule=\(rule)", "aggregation.byzantine=2"] + extra.map { "aggregation.\($0)" })
        .aggregation
    }
    var wanted = WireAggregationSpec()
    wanted.byzantine = 2
    for rule in ["median", "krum", "multi-krum", "trimmed-mean"] {
      wanted.rule = rule
      #expect(try spec(rule) == wanted)
    }
    wanted.trim = 0.3
    #expect(try spec("trimmed-mean", "trim=0.3") == wanted)
    wanted.trim = 0
    (wanted.rule, wanted.keep) = ("multi-krum", 4)
    #expect(try spec("multi-krum", "keep=4") == wanted)
    wanted.keep = 0
    (wanted.rule, wanted.normMultiple) = ("norm-bound", 1)
    #expect(try spec("norm-bound") == wanted)
    (wanted.normMultiple, wanted.normBound) = (0, 2.5)
    #expect(try spec("norm-bound", "norm_bound=2.5") == wanted)
    wanted.normBound = 0
    (wanted.rule, wanted.smoothing, wanted.iterations) = ("geometric-median", 1e-6, 100)
    #expect(try spec("geometric-median") == wanted)
  }

  @Test(
    "is refused by the key that is at fault",
    arguments: [
      (["rule=mode"], "aggregation.rule"), (["byzantine=1"], "aggregation.byzantine"),
      (["rule=krum"], "aggregation.byzantine"), (["rule=krum", "byzantine=-1"], "aggregation.byzantine"),
      (["rule=krum", "byzantine=3"], "cohort.quorum"), (["rule=median", "byzantine=4"], "cohort.quorum"),
      (["rule=trimmed-mean", "byzantine=1", "trim=0.1"], "cohort.quorum"),
      (["rule=multi-krum", "byzantine=2", "keep=6"], "cohort.quorum"),
      (["rule=median", "byzantine=1", "keep=2"], "aggregation.keep"),
      (["rule=median", "byzantine=1", "norm_multiple=2"], "aggregation.norm_multiple"),
      (["rule=krum", "byzantine=1", "iterations=7"], "aggregation.iterations"),
      (["rule=krum", "byzantine=1", "smoothing=1"], "aggregation.smoothing"),
      (["rule=norm-bound", "byzantine=1", "norm_bound=1", "norm_multiple=2"], "aggregation.norm_multiple"),
      (["rule=norm-bound", "byzantine=1", "norm_multiple=0"], "aggregation.norm_multiple"),
      (["rule=trimmed-mean", "byzantine=1", "trim=0.5"], "aggregation.trim"),
      (["rule=median", "byzantines=1"], "aggregation.byzantines"),
    ]
  )
  func refusals(settings: [String], key: String) {
    #expect(fault(settings.map { "aggregation.\($0)" })?.key == key)
  }

  @Test("does not go together with weights by examples or with privacy of whole clients, and says why")
  func combinations() throws {
    let median = ["aggregation.rule=median", "aggregation.byzantine=2"]
    #expect(fault(median) == nil)
    for weighting in ["examples", "capped"] {
      let error = fault(median + ["strategy.weighting=\(weighting)"])
      #expect(error?.key == "strategy.weighting" && error?.reason.contains("state their own number") == true)
    }
    let client = fault(median + ["privacy.level=client", "privacy.epsilon=8"])
    #expect(client?.key == "aggregation.rule" && client?.reason.contains("privacy level 'client'") == true)
    #expect(fault(["privacy.level=client", "privacy.epsilon=8"]) == nil)
    // Each client has noised its own: what becomes of it afterwards cannot weaken that.
    #expect(fault(median + ["privacy.level=record", "privacy.epsilon=8"]) == nil)
    for strategy in StrategyName.allCases { #expect(fault(median + ["strategy.name=\(strategy.rawValue)"]) == nil) }
  }

  private func scenario(_ assignments: [String]) throws -> ScenarioConfiguration {
    try ScenarioConfiguration.load(nil, assignments: assignments).0
  }

  @Test("of a scenario can differ from method to method")
  func overrides() throws {
    let made = try scenario([
      "strategies=[plain, safe]", "overrides.plain.strategy=fedsvd", "overrides.safe.strategy=fedsvd",
      "overrides.safe.aggregation=trimmed-mean", "overrides.safe.byzantine=1", "overrides.safe.trim=0.4",
      "cohort.clients_per_round=6", "cohort.quorum=3",
    ])
    #expect(made.method("plain")?.aggregation == .mean)
    let safe = try #require(made.method("safe")?.aggregation)
    #expect(safe.rule == .trimmedMean && safe.byzantine == 1 && safe.trim == 0.4)
    let error = #expect(throws: ConfigurationError.self) {
      try scenario([
        "strategies=[safe]", "overrides.safe.strategy=fedsvd", "overrides.safe.aggregation=krum",
        "overrides.safe.byzantine=2",
      ])
    }
    #expect(error?.key == "cohort.quorum")
  }

  @Test(
    "has beside it a section 'poison' whose faults are named",
    arguments: [
      (["poison.clients=6"], "poison.clients"), (["poison.clients=-1"], "poison.clients"),
      (["poison.factor=0"], "poison.factor"), (["poison.factor=.nan"], "poison.factor"),
      (["poison.attack=bribery"], "poison.attack"), (["compare.attacks=[zero]"], "poison.clients"),
      (["poison.clients=1", "compare.attacks=[zeros]"], "compare.attacks"),
      (["poison.clients=1", "compare.attacks=[zero, zero]"], "compare.attacks"),
    ]
  )
  func poison(assignments: [String], key: String) {
    let error = #expect(throws: ConfigurationError.self) { try scenario(assignments) }
    #expect(error?.key == key)
  }
}
