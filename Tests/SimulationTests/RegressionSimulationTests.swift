import FedLoRACheckpoint
import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRASimulation
import FedLoRATestSupport
import Foundation
import Testing

/// The embedded tickets with a number each: how long they are.
@Suite("A simulation of a regression", .timeLimit(.minutes(2)))
struct RegressionSimulationTests {
  private let scratch: ScratchFolder

  init() throws {
    scratch = try ScratchFolder()
    for (name, source, count) in [
      ("train", try EmbeddedAssets.train, 300), ("test", try EmbeddedAssets.test, 120),
    ] {
      let data = try DatasetReader.read(source)
      let lines = data.examples.prefix(count).enumerated().map { index, example in
        #"{"text": "\#(example.text)", "score": \#(Double(example.text.utf8.count) / 20), "client": "c\#(index % 3)"}"#
      }
      try Data(lines.joined(separator: "\n").utf8).write(to: scratch.url.appendingPathComponent("\(name).jsonl"))
    }
  }

  private func scenario(_ extra: [String]) throws -> (ScenarioConfiguration, String) {
    try ScenarioConfiguration.load(
      nil,
      assignments: [
        "name=lengths", "output='\(scratch.url.path)'", "rounds=4", "model.task=regression",
        "data.train='\(scratch.url.path)/train.jsonl'", "data.test='\(scratch.url.path)/test.jsonl'", "clients.count=3",
        "clients.partition=natural", "cohort.min_clients=3", "cohort.clients_per_round=3", "cohort.quorum=3",
        "training.local_steps=8", "training.batch_size=16", "training.learning_rate=0.004",
        "training.head_learning_rate=0.02", "baselines=[majority, frozen]", "overrides={}",
        "strategies=[fedit, fedsa-lora]",
        "adapter.rank=4",
      ] + extra
    )
  }

  private func run(_ extra: [String] = []) async throws -> SimulationReport {
    let (scenario, text) = try scenario(extra)
    return try await SimulationRun(scenario: scenario, effectiveConfiguration: text, command: "").run()
  }

  @Test("beats the mean, tells errors and correlations, and exports an adapter of a classifier with one output")
  func learns() async throws {
    let report = try await run()
    let mean = try #require(report.rows.first { $0.name == "majority" }?[.meanSquaredError])
    for name in ["frozen", "fedit", "fedsa-lora"] {
      let row = try #require(report.rows.first { $0.name == name })
      let error = try #require(row[.meanSquaredError])
      #expect(try #require(error.allClients) < 0.5 * (try #require(mean.allClients)), "\(name)")
      #expect(try #require(error.worstClient) >= (try #require(error.meanClient)))
      let pearson = try #require(row[.pearson])
      #expect(try #require(pearson.global) > 0.6 && (try #require(pearson.allClients)) > 0.6, "\(name)")
      #expect(pearson.clients.count == 3)
      let spearman = try #require(row[.spearman])
      #expect(spearman.meanClient != nil && spearman.global != nil && spearman.allClients == nil)
      #expect(row.meanClientAccuracy == nil && row.clientAccuracies.isEmpty && row[.macroF1] == nil)
    }
    #expect(report.table.contains("squared error") && !report.table.contains("%"))
    #expect(report.measuresTable?.contains("pearson") == true)
    let adapter = try PEFTAdapterFolder(
      reading: URL(fileURLWithPath: report.folder).appendingPathComponent("fedit/adapters/global")
    )
    #expect(adapter.configuration.taskType == "SEQ_CLS" && adapter.configuration.modulesToSave.contains("classifier"))
    #expect(adapter.tensors["classifier.weight"]?.shape.first == 1)
    let saved = try Data(contentsOf: URL(fileURLWithPath: report.folder).appendingPathComponent("summary.json"))
    #expect(try JSONDecoder().decode(SimulationReport.self, from: saved) == report)
  }

  @Test("spends epsilon at record level as a classifier does, and is compared by its error")
  func isPrivate() async throws {
    let (own, _) = try scenario([
      "strategies=[fedit]", "rounds=1", "training.local_steps=2", "privacy.level=record", "privacy.epsilon=6",
      "privacy.clipping_norm=1", "compare.seeds=[1, 2]",
    ])
    let report = try await Comparison(scenario: own).run()
    #expect(report.runs.allSatisfy { run in run.row.epsilon.map { $0 > 0 && $0 <= 6 } == true })
    let line = try #require(report.lines.first)
    let error = try #require(line.measures.first { $0.measure == .meanSquaredError }?.clients)
    #expect(error.mean > 0 && error.halfWidth != nil && line.clients == nil)
    #expect(report.table.contains("squared error") && report.measuresTable?.contains("mse") == true)
  }

  @Test(
    "what needs classes is refused by its key",
    arguments: [
      ("clients.partition=dirichlet", "clients.partition"), ("data.labels=[a, b]", "data.labels"),
      ("model.prompt_format='{prompt} {response}'", "model.prompt_format"),
    ]
  )
  func refused(_ assignment: String, _ key: String) throws {
    do {
      _ = try scenario([assignment])
      Issue.record("\(assignment) was taken")
    } catch let error as ConfigurationError { #expect("\(error)".contains(key)) }
  }
}
