import FedLoRACheckpoint
import FedLoRAConfiguration
import FedLoRACoordinator
import FedLoRAEngine
import FedLoRAFederation
import FedLoRASimulation
import FedLoRATestSupport
import Foundation
import Testing

/// A scenario that takes a second: the embedded encoder, few examples, two local steps.
private func small(_ scratch: ScratchFolder, _ extra: [String] = []) throws -> (ScenarioConfiguration, String) {
  try ScenarioConfiguration.load(
    nil,
    assignments: [
      "name=small", "output='\(scratch.url.path)'", "rounds=2", "clients.count=3", "cohort.min_clients=3",
      "cohort.clients_per_round=3", "cohort.quorum=3", "training.local_steps=2", "training.batch_size=8",
      "data.train_limit=240", "baselines=[]", "overrides={}", "strategies=[fedsa-lora]", "adapter.rank=4",
    ] + extra
  )
}

@Suite("A simulation", .timeLimit(.minutes(2)))
struct SimulationTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func run(_ extra: [String] = []) async throws -> SimulationReport {
    let (scenario, text) = try small(scratch, extra)
    return try await SimulationRun(scenario: scenario, effectiveConfiguration: text, command: "the command").run()
  }

  private func adapter(_ report: SimulationReport, _ path: String) throws -> PEFTAdapterFolder {
    try PEFTAdapterFolder(reading: URL(fileURLWithPath: report.folder).appendingPathComponent("\(path)"))
  }

  @Test("leaves configuration, command, metrics, summary and adapters in its results folder")
  func results() async throws {
    let report = try await run(["baselines=[majority]"])
    let folder = URL(fileURLWithPath: report.folder)
    #expect(try String(contentsOf: folder.appendingPathComponent("command.txt"), encoding: .utf8) == "the command\n")
    let (again, _) = try ScenarioConfiguration.load(folder.appendingPathComponent("config.yaml"), assignments: [])
    #expect(again == (try small(scratch, ["baselines=[majority]"]).0))
    let summary = try JSONDecoder().decode(
      SimulationReport.self,
      from: Data(contentsOf: folder.appendingPathComponent("summary.json"))
    )
    #expect(summary == report)
    #expect(report.rows.map(\.name) == ["majority", "fedsa-lora"])
    #expect(report.rows.map(\.isBaseline) == [true, false])
    #expect(report.clients.map(\.name) == ["client-1", "client-2", "client-3"])
    #expect(report.clients.map(\.trainExamples).reduce(0, +) == 240)
    let row = try #require(report.rows.last)
    #expect(row.bytesUp > 0 && row.bytesDown > row.bytesUp)
    #expect(row.clientAccuracies.count == 3)
    #expect(row.worstClientAccuracy == row.clientAccuracies.values.min())
    // Beside accuracy what a mean over examples does not tell; the majority is no better than chance by Matthews.
    let majority = try #require(report.rows.first)
    #expect(majority[.matthews]?.allClients == 0 && majority[.f1] == nil)
    let f1 = try #require(row[.macroF1])
    #expect(
      f1.clients.count == 3 && f1.worstClient == f1.clients.values.min() && f1.allClients != nil && f1.global != nil
    )
    #expect(report.measuresTable?.contains("macro_f1") == true)
    for line in report.table.split(separator: "\n").dropFirst(2) { #expect(line.contains("%")) }
    let metrics = try String(contentsOf: folder.appendingPathComponent("metrics.jsonl"), encoding: .utf8)
      .split(separator: "\n").map { try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any] }
    let events = metrics.compactMap { $0?["event"] as? String }
    #expect(events.count == metrics.count)
    #expect(events.filter { $0 == "round-committed" }.count == 2)
    #expect(events.filter { $0 == "update-accepted" }.count == 6)
    #expect(events.first == "loaded" && events.last == "finished")
  }

  @Test("gives the same adapters when it is run again, whatever runs at the same time")
  func reproducible() async throws {
    let strategies = "strategies=[fedsa-lora, fedsvd]"
    let one = try await run([strategies, "clients.concurrency=1"])
    let two = try await run([strategies, "clients.concurrency=2"])
    let other = try await run([strategies, "seed=2"])
    for path in ["fedsa-lora/adapters/client-1", "fedsa-lora/adapters/client-3", "fedsvd/adapters/global"] {
      let file = "\(path)/adapter_model.safetensors"
      let bytes = try [one, two, other].map {
        try Data(contentsOf: URL(fileURLWithPath: $0.folder).appendingPathComponent(file))
      }
      // As claims: a difference between two such files takes minutes to print.
      let (isSame, isOther) = (bytes[0] == bytes[1], bytes[0] != bytes[2])
      #expect(isSame, "\(file)")
      #expect(isOther, "\(file)")
    }
    #expect(one.rows.map(\.clientAccuracies) == two.rows.map(\.clientAccuracies))
  }

  @Test("gives the same bytes however many cores help a client", arguments: [false, true])
  func helped(isPrivate: Bool) async throws {
    let terms =
      isPrivate
      ? [
        "privacy.level=record", "privacy.epsilon=8", "privacy.sampling_rate=0.2", "privacy.seeded_noise=true",
        "strategies=[fedsvd]",
      ] : ["strategies=[fedsa-lora]"]
    let files = isPrivate ? ["global"] : ["client-1", "client-2", "client-3"]
    var all: [[Data]] = []
    for concurrency in [1, 2, 2, 3] {
      let report = try await run(terms + ["clients.threads=2", "clients.concurrency=\(concurrency)"])
      all.append(
        try files.map {
          try Data(
            contentsOf: URL(fileURLWithPath: report.folder)
              .appendingPathComponent("\(isPrivate ? "fedsvd" : "fedsa-lora")/adapters/\($0)/adapter_model.safetensors")
          )
        }
      )
    }
    let areSame = all.allSatisfy { $0 == all[0] }
    #expect(areSame)
  }

  @Test("of FedSA-LoRA leaves one A for all clients, and a B and a head for each")
  func fedsa() async throws {
    let report = try await run()
    let one = try adapter(report, "fedsa-lora/adapters/client-1").tensors
    let two = try adapter(report, "fedsa-lora/adapters/client-2").tensors
    #expect(one.names == two.names && one.count > 4)
    for name in one.names { #expect((one[name] == two[name]) == name.hasSuffix("lora_A.weight"), "\(name)") }
  }

  @Test("of FedSVD leaves one adapter whose rows of A are orthonormal")
  func fedsvd() async throws {
    let report = try await run(["strategies=[fedsvd]"])
    let folder = URL(fileURLWithPath: report.folder).appendingPathComponent("fedsvd/adapters")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["global"])
    let global = try adapter(report, "fedsvd/adapters/global")
    let factors = global.tensors.entries.filter { $0.name.hasSuffix("lora_A.weight") }
    #expect(!factors.isEmpty)
    for (name, tensor) in factors.map({ ($0.name, $0.tensor) }) {
      let (rows, width) = (tensor.shape[0], tensor.shape[1])
      for i in 0..<rows {
        for j in 0...i {
          let product = (0..<width).reduce(0.0) {
            $0 + Double(tensor.values[i * width + $1]) * Double(tensor.values[j * width + $1])
          }
          #expect(abs(product - (i == j ? 1 : 0)) < 1e-5, "\(name), rows \(i) and \(j)")
        }
      }
    }
    #expect(global.configuration.rank == 4)
    #expect(global.configuration.usesRSLoRA == false)
    #expect(!global.configuration.modulesToSave.isEmpty)
  }

  @Test("of every strategy completes", arguments: [StrategyName.fedit, .ffaLoRA, .fedsaRSLoRA, .fedsaVeRA])
  func others(strategy: StrategyName) async throws {
    let report = try await run([
      "strategies=[\(strategy.rawValue)]", "rounds=1", "cohort.clients_per_round=2", "cohort.quorum=2",
    ])
    #expect(report.rows.map(\.name) == [strategy.rawValue])
    let row = try #require(report.rows.first)
    #expect((0...1).contains(row.globalAccuracy ?? -1))
  }

  @Test("is refused where the data do not suffice for its clients")
  func tooFewExamples() async throws {
    await #expect(throws: PartitionError.self) { _ = try await run(["clients.minimum_examples=100"]) }
  }

  @Test("stops when its task is cancelled")
  func cancellation() async throws {
    let (scenario, text) = try small(scratch, ["rounds=5000"])
    let log = EventLog<SimulationEvent>()
    let task = Task {
      try await SimulationRun(scenario: scenario, effectiveConfiguration: text, command: "").run(onEvent: log.record)
    }
    try await log.first {
      if case .coordinator(_, .roundCommitted) = $0 { true } else { false }
    }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await withDeadline { try await task.value } }
  }
}

@Suite("Baselines", .timeLimit(.minutes(2)))
struct BaselineTests {
  @Test("a linear probe separates what a line separates")
  func probe() {
    var features: [Float] = []
    var labels: [Int] = []
    for index in 0..<60 {
      let label = index % 3
      let tensor = ToyRun.tensor([4], "point", index, "x").values
      features += [
        Float(label == 0 ? 3 : -3) + tensor[0], Float(label == 1 ? 30 : -30) + tensor[1], 7, tensor[2] * 1e-3,
      ]
      labels.append(label)
    }
    let probe = LinearProbe.fit(features: features, width: 4, labels: labels, labelCount: 3)
    #expect(probe.decisions(features) == labels)
    #expect(LinearProbe.fit(features: [], width: 4, labels: [], labelCount: 3).decisions([]).isEmpty)
    // Numbers that a line gives are found again.
    let values = (0..<labels.count).map { 2 * Double(features[4 * $0]) - Double(features[4 * $0 + 1]) + 100 }
    let found = LinearProbe.fit(features: features, width: 4, values: values).values(features)
    #expect(zip(found, values).allSatisfy { abs($0 - $1) < 0.2 })
  }

  @Test("the majority's accuracy is its share, and the frozen encoder beats it")
  func references() async throws {
    let scratch = try ScratchFolder()
    let (scenario, text) = try small(
      scratch,
      ["strategies=[]", "baselines=[majority, frozen, local, centralised]", "centralised_epochs=1"]
    )
    let report = try await SimulationRun(scenario: scenario, effectiveConfiguration: text, command: "").run()
    #expect(report.rows.map(\.name) == ["majority", "frozen", "local", "centralised"])
    let global = report.rows.map { $0.globalAccuracy ?? -1 }
    // Six labels, a hundred held-out examples each.
    #expect(global[0] == 1.0 / 6)
    #expect(global[1] > 0.3)
    #expect(global.allSatisfy { (0...1).contains($0) })
    #expect(report.rows.allSatisfy { $0.isBaseline && $0.bytesUp == 0 })
  }
}
