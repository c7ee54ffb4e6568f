import FedLoRAConfiguration
import FedLoRADP
import FedLoRASimulation
import FedLoRATestSupport
import Foundation
import Testing

/// Record-level privacy through real clients, their ledgers and a real coordinator.
@Suite("A private simulation", .timeLimit(.minutes(2)))
struct PrivateSimulationTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func scenario(_ extra: [String]) throws -> (ScenarioConfiguration, String) {
    try ScenarioConfiguration.load(
      nil,
      assignments: [
        "name=private", "output='\(scratch.url.path)'", "rounds=3", "clients.count=3", "cohort.min_clients=3",
        "cohort.clients_per_round=2", "cohort.quorum=1", "cohort.selection=balanced", "training.local_steps=2",
        "training.batch_size=8", "data.train_limit=240", "baselines=[]", "overrides={}", "strategies=[fedsvd]",
        "adapter.rank=4", "privacy.level=record", "privacy.epsilon=6", "privacy.sampling_rate=0.1",
      ] + extra
    )
  }

  private func run(_ extra: [String] = []) async throws -> SimulationReport {
    let (scenario, text) = try scenario(extra)
    return try await SimulationRun(scenario: scenario, effectiveConfiguration: text, command: "").run()
  }

  private func ledgers(_ report: SimulationReport, _ method: String) throws -> [LedgerContents] {
    let folder = URL(fileURLWithPath: report.folder).appendingPathComponent("\(method)/ledgers")
    return try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted().flatMap { client in
      let own = folder.appendingPathComponent(client)
      return try FileManager.default.contentsOfDirectory(atPath: own.path).map {
        try LedgerContents(readingFrom: own.appendingPathComponent($0))
      }
    }
  }

  @Test(
    "charges every client for the rounds that it trained, and no more than the target",
    arguments: [
      ["strategies=[fedsvd, ffa-lora]"], ["strategies=[fedit, fedsa-lora]"],
      ["strategies=[fedsa-lora]", "privacy.personal=held"],
      ["strategies=[fedsa-lora]", "privacy.personal=after", "privacy.personal_steps=2"],
      ["privacy.sampling=fixed-size", "privacy.epsilon=50"], ["privacy.clipping=automatic"],
    ]
  )
  func charges(extra: [String]) async throws {
    let report = try await run(extra)
    let (scenario, _) = try scenario(extra)
    for row in report.rows {
      let epsilon = try #require(row.epsilon)
      #expect(epsilon > 0 && epsilon <= scenario.privacy.epsilon)
      let ledgers = try ledgers(report, row.name)
      // Two of three clients in each of three rounds, the balanced way: two rounds each.
      #expect(ledgers.count == 3)
      for ledger in ledgers {
        #expect(ledger.charges.map(\.phase.steps) == [2, 2])
        #expect(!ledger.hasSeededNoise)
      }
      let largest = try ledgers.map { try $0.spent(delta: scenario.privacy.delta).epsilon }.max()
      #expect(largest == epsilon)
    }
    // What a client observed about its records does not travel.
    let metrics = try String(
      contentsOf: URL(fileURLWithPath: report.folder).appendingPathComponent("metrics.jsonl"),
      encoding: .utf8
    )
    #expect(!metrics.contains("\"loss\":0") && !metrics.contains("\"loss\":1") && !metrics.contains("\"loss\":2"))
  }

  @Test("repeats itself with seeded noise, says so in the ledger, and differs without")
  func seeded() async throws {
    func adapter(_ report: SimulationReport) throws -> Data {
      try Data(
        contentsOf: URL(fileURLWithPath: report.folder)
          .appendingPathComponent("fedsvd/adapters/global/adapter_model.safetensors")
      )
    }
    let first = try await run(["privacy.seeded_noise=true"])
    let second = try await run(["privacy.seeded_noise=true", "clients.concurrency=1"])
    let third = try await run()
    let isRepeated = try adapter(first) == adapter(second)
    let isFresh = try adapter(first) != adapter(third)
    #expect(isRepeated && isFresh)
    #expect(try ledgers(first, "fedsvd").allSatisfy(\.hasSeededNoise))
  }

  @Test("a comparison goes on where it was stopped, and plays changed terms again")
  func comparison() async throws {
    let extra = ["compare.seeds=[1, 2]", "compare.epsilons=[0, 6]", "strategies=[fedsvd, ffa-lora]", "rounds=1"]
    let report = try await Comparison(scenario: scenario(extra).0).run()
    #expect(report.runs.count == 8 && report.lines.count == 4)
    #expect(report.lines.map(\.epsilon) == [0, 0, 6, 6])
    #expect(report.lines[0].largestEpsilon == nil && (report.lines[2].largestEpsilon ?? 9) <= 6)
    #expect(report.lines.allSatisfy { $0.clients?.halfWidth != nil && $0.runs == 2 })
    let played = EventLog<String>()
    func again(_ extra: [String]) async throws {
      _ = try await Comparison(scenario: scenario(extra).0).run {
        if case .cell(let name, _, _) = $0 { played.record(name) }
      }
    }
    try await again(extra)
    #expect(played.events.isEmpty)
    let cells = URL(fileURLWithPath: report.folder).appendingPathComponent("cells")
    try FileManager.default.removeItem(at: cells.appendingPathComponent("fedsvd-eps6-seed2.json"))
    try await again(extra)
    #expect(played.events == ["fedsvd-eps6-seed2"])
    try await again(extra + ["training.learning_rate=0.123"])
    #expect(played.events.count == 9)
  }

  @Test("a form in which noise would not bound what is uploaded cannot be written")
  func unsound() throws {
    let error = #expect(throws: ConfigurationError.self) { try scenario(["privacy.personal=unnoised"]) }
    #expect(error?.key == "privacy.personal" && error?.reason.contains("joint, held or after") == true)
    #expect(throws: ConfigurationError.self) {
      try scenario(["strategies=[fedsa-lora]", "privacy.personal=held", "adapter.initialisation=kaiming"])
    }
  }
}
