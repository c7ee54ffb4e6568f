import FedLoRAConfiguration
import FedLoRACoordinator
import FedLoRADP
import FedLoRASimulation
import FedLoRATestSupport
import Foundation
import Testing

/// Privacy of whole clients through the configuration of a scenario: secret cohorts, clipped updates, noise at the coordinator.
@Suite("A simulation that protects whole clients", .timeLimit(.minutes(2)))
struct ClientLevelSimulationTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func scenario(_ extra: [String]) throws -> (ScenarioConfiguration, String) {
    try ScenarioConfiguration.load(
      nil,
      assignments: [
        "name=clients", "output='\(scratch.url.path)'", "rounds=4", "clients.count=4", "cohort.min_clients=4",
        "cohort.clients_per_round=4", "cohort.quorum=1", "training.local_steps=2", "training.batch_size=8",
        "data.train_limit=240", "baselines=[]", "overrides={}", "strategies=[fedsvd]", "adapter.rank=4",
        "privacy.level=client", "privacy.epsilon=6", "privacy.sampling_rate=0.5", "privacy.clipping_norm=0.5",
        "privacy.clipping_quantile=0.5",
      ] + extra
    )
  }

  /// The report, and what the coordinator said on the way.
  private func run(_ extra: [String] = []) async throws -> (SimulationReport, [CoordinatorEvent]) {
    let (scenario, text) = try scenario(extra)
    let log = EventLog<CoordinatorEvent>()
    let report = try await SimulationRun(scenario: scenario, effectiveConfiguration: text, command: "").run {
      if case .coordinator(_, let event) = $0 { log.record(event) }
    }
    return (report, log.events)
  }

  /// What the coordinator reported after each round.
  private func epsilons(_ events: [CoordinatorEvent]) -> [Double] {
    events.compactMap { if case .roundCommitted(_, _, _, _, _, let epsilon) = $0 { epsilon } else { nil } }
  }

  private func outcome(_ events: [CoordinatorEvent]) -> RunOutcome? {
    for case .finished(let outcome) in events { return outcome }
    return nil
  }

  @Test(
    "spends what the accountant says for its rounds, all of the target and no more",
    arguments: [
      [], ["strategies=[fedsa-lora]"], ["privacy.clipping_quantile=0"], ["strategy.weighting=capped"],
      ["privacy.sampling=fixed-size", "privacy.sampling_rate=1", "privacy.epsilon=20"],
    ]
  )
  func spends(extra: [String]) async throws {
    let (report, events) = try await run(extra)
    let (scenario, _) = try scenario(extra)
    let method = try #require(scenario.strategies.compactMap(scenario.method).first)
    let noise = try #require(try scenario.calibratedNoise(of: method))
    let isFixedSize = scenario.privacy.sampling == "fixed-size"
    let sampling: ExampleSampling =
      isFixedSize ? .fixedSize(rate: scenario.privacy.samplingRate) : .poisson(rate: scenario.privacy.samplingRate)
    let accountant = PrivacyAccountant(relation: isFixedSize ? .replaceOne : .addOrRemoveOne)
    let expected = try (1...4).map {
      try accountant.epsilon(
        of: [PrivatePhase(sampling: sampling, noiseMultiplier: noise, steps: $0)],
        delta: scenario.privacy.delta
      ).epsilon
    }
    #expect(epsilons(events) == expected)
    #expect(outcome(events) == .completed)
    #expect(report.rows.map(\.epsilon) == [expected[3]])
    #expect(expected[3] <= scenario.privacy.epsilon && expected[3] > 0.999 * scenario.privacy.epsilon)
    #expect(report.table.contains("ε"))
    // Nothing is charged to the ledgers of clients' records, about which this level says nothing.
    let ledgers = URL(fileURLWithPath: report.folder).appendingPathComponent("\(method.name)/ledgers")
    #expect(!FileManager.default.fileExists(atPath: ledgers.path))
    let metrics = try String(
      contentsOf: URL(fileURLWithPath: report.folder).appendingPathComponent("metrics.jsonl"),
      encoding: .utf8
    )
    #expect(!metrics.contains("\"loss\":0") && !metrics.contains("\"loss\":1") && !metrics.contains("\"loss\":2"))
  }

  @Test("ends at its budget before its last round, with what it has")
  func budget() async throws {
    // Noise for about two of four rounds.
    let two = try Calibration.noiseMultiplier(
      epsilon: 6,
      delta: 1e-5,
      sampling: .poisson(rate: 0.5),
      steps: 2,
      relation: .addOrRemoveOne
    )
    let (report, events) = try await run(["privacy.noise_multiplier=\(two)"])
    let spent = epsilons(events)
    #expect(spent.count == 2 && (spent.last ?? 9) <= 6)
    guard case .budgetSpent(let reason)? = outcome(events) else {
      Issue.record("\(String(describing: outcome(events)))")
      return
    }
    #expect(reason.contains("2 private releases"))
    #expect(report.rows.first?.epsilon == spent.last)
    #expect(report.rows.first?.meanClientAccuracy != nil)
  }

  @Test("draws cohorts from secret randomness, and repeats itself only where its terms say so")
  func secrecy() async throws {
    func cohorts(_ extra: [String]) async throws -> [[String]] {
      try await run(["rounds=6", "privacy.epsilon=8"] + extra).1.compactMap {
        if case .roundOpened(_, _, let cohort) = $0 { cohort } else { nil }
      }
    }
    let seeded = try await cohorts(["privacy.seeded_noise=true"])
    #expect(seeded.count == 6 && Set(seeded.map(\.count)).count > 1)
    #expect(try await cohorts(["privacy.seeded_noise=true"]) == seeded)
    // Equal by chance with probability 2⁻²⁴.
    #expect(try await cohorts([]) != seeded)
  }

  @Test(
    "is refused by the key where its terms cannot hold",
    arguments: [
      ("cohort.selection", ["cohort.selection=balanced"]), ("privacy.clipping", ["privacy.clipping=automatic"]),
      ("privacy.population", ["privacy.population=3"]),
      ("privacy.clipping_learning_rate", ["privacy.clipping_learning_rate=0"]),
      ("privacy.clipping_quantile", ["privacy.clipping_quantile=1"]),
      ("privacy.relation", ["privacy.sampling=fixed-size", "privacy.relation=add-or-remove-one"]),
    ]
  )
  func refusals(key: String, extra: [String]) throws {
    let error = #expect(throws: ConfigurationError.self) { try scenario(extra) }
    #expect(error?.key == key)
  }

  @Test("is refused by the key where only the calibrated noise shows it")
  func lateRefusals() async throws {
    for (key, extra) in [
      ("privacy.quantile_noise", ["privacy.quantile_noise=0.01"]),
      ("strategy.weighting", ["strategy.weighting=examples"]),
    ] {
      let error = await #expect(throws: ConfigurationError.self) { _ = try await run(extra) }
      #expect(error?.key == key)
    }
  }
}
