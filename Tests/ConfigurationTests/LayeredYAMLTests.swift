import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRAFederation
import FedLoRATestSupport
import Foundation
import Testing

@Suite("Configuration files")
struct LayeredYAMLTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func file(_ text: String, _ name: String = "run.yaml") throws -> URL {
    let url = scratch.appending(name)
    try Data(text.utf8).write(to: url)
    return url
  }

  private func runFault(_ text: String, set assignments: [String] = []) throws -> ConfigurationError? {
    let url = try file(text)
    do { _ = try RunConfiguration.load(url, assignments: assignments) } catch let error as ConfigurationError {
      return error
    }
    return nil
  }

  private func scenarioFault(_ text: String, set assignments: [String] = []) throws -> ConfigurationError? {
    let url = try file(text)
    do { _ = try ScenarioConfiguration.load(url, assignments: assignments) } catch let error as ConfigurationError {
      return error
    }
    return nil
  }

  @Test("an empty run file gives the defaults, and every key is shown")
  func runDefaults() throws {
    let (run, effective) = try RunConfiguration.load(try file("labels: [a, b]\n"), assignments: [])
    #expect(run.name == "run")
    #expect(run.rounds == 10)
    #expect(run.listen.host == "127.0.0.1" && run.listen.port == 7443)
    #expect(run.strategy.name == .fedsaLoRA)
    #expect(!run.adapter.targetModules.isEmpty)
    #expect(run.cohort.minClients == 3 && run.cohort.quorum == 2 && run.cohort.deadlineSeconds == 600)
    // What is shown is a run file that means the same.
    let (again, same) = try RunConfiguration.load(try file(effective), assignments: [])
    #expect(again == run)
    #expect(same == effective)
    for key in ["max_gradient_norm", "refactorise_every", "deadline_seconds"] { #expect(effective.contains(key)) }
  }

  @Test("no scenario gives the embedded default, and every key is shown")
  func scenarioDefaults() throws {
    let (scenario, effective) = try ScenarioConfiguration.load(nil, assignments: [])
    #expect(scenario.name == "embedded-default")
    #expect(scenario.model.path == "embedded" && scenario.data.train == "embedded")
    let (again, _) = try ScenarioConfiguration.load(try file(effective), assignments: [])
    #expect(again == scenario)
  }

  @Test("the scenarios that come with fedlora can be read")
  func ownScenarios() throws {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("Simulations/Scenarios")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".yaml") }
    #expect(!names.isEmpty)
    for name in names {
      let (scenario, _) = try ScenarioConfiguration.load(folder.appendingPathComponent(name), assignments: [])
      #expect(scenario.name + ".yaml" == name)
    }
  }

  @Test("an unknown key names its place and suggests the nearest")
  func unknownKey() throws {
    let fault = try #require(try runFault("training:\n  learning_rat: 0.1\n"))
    #expect(fault.source.hasSuffix("run.yaml"))
    #expect(fault.key == "training.learning_rat")
    #expect(fault.reason == "unknown key; did you mean 'learning_rate'?")
    let far = try #require(try runFault("bananas: 3\n"))
    #expect(far.key == "bananas")
    #expect(far.reason.contains("known here are adapter, aggregation, cohort"))
    let assigned = try #require(try runFault("", set: ["cohort.quorom=3"]))
    #expect(assigned.source == "--set")
    #expect(assigned.description.contains("'cohort.quorom'") && assigned.description.contains("'quorum'"))
    let override = try #require(try scenarioFault("overrides:\n  fedsvd:\n    lerning_rate: 0.1\n"))
    #expect(override.key == "overrides.fedsvd.lerning_rate")
    #expect(override.reason.contains("learning_rate"))
  }

  @Test(
    "a value of the wrong kind names the key and what was expected",
    arguments: [
      ("rounds: many\n", "rounds", "a whole number"),
      ("training:\n  learning_rate: fast\n", "training.learning_rate", "a number"),
      ("rounds: 2.5\n", "rounds", "a whole number"), ("seed: -1\n", "seed", ""),
      ("labels: [a, [b]]\n", "labels.1", "a single value"),
      ("training: 3\n", "training", "a section with batch_size"),
      ("strategy:\n  name: fedavg\n", "strategy.name", "fedavg"),
      ("name:\n", "name", ""), ("listen:\n  port: [1]\n", "listen.port", "a single value"),
    ]
  )
  func wrongKind(text: String, key: String, expected: String) throws {
    let fault = try #require(try runFault(text))
    #expect(fault.key == key, "\(fault)")
    #expect(expected.isEmpty || fault.reason.contains(expected), "\(fault)")
    #expect(fault.source.hasSuffix("run.yaml"))
  }

  @Test("files that are not YAML, not a mapping or not there are named")
  func unreadable() throws {
    #expect(try runFault("a: [1\n")?.reason.contains("not valid YAML") == true)
    #expect(try runFault("- a\n- b\n")?.reason.contains("not a YAML mapping") == true)
    let missing = scratch.appending("missing.yaml")
    do {
      _ = try RunConfiguration.load(missing, assignments: [])
      Issue.record("a missing file was read")
    } catch let error as ConfigurationError {
      #expect(error.source == missing.path)
    }
  }

  @Test(
    "texts that are nested deeper than a parser's stack are refused",
    arguments: ["{a: ", "[", "- ", "? ", "{\"a\":"]
  )
  func nested(opener: String) throws {
    let deep = String(repeating: opener, count: 20_000)
    for fault in [try runFault("strategy:\n  " + deep), try runFault("name: a", set: ["strategy=" + deep])] {
      #expect(try #require(fault).description.contains("read"))
    }
    let lines = (0..<500).map { String(repeating: " ", count: $0) + "a:" }.joined(separator: "\n")
    let fault = try runFault(lines)
    #expect(try #require(fault).description.contains("column"))
  }

  @Test("assignments lie over the file, the last one wins")
  func assignments() throws {
    let url = try file("labels: [x, y]\nrounds: 5\ntraining:\n  batch_size: 4\n")
    let (run, effective) = try RunConfiguration.load(
      url,
      assignments: ["rounds=6", "rounds=7", "adapter.target_modules=[key]", "name='007'", "labels=[a, b]"]
    )
    #expect(run.rounds == 7)
    #expect(run.training.batchSize == 4)
    #expect(run.adapter.targetModules == ["key"])
    #expect(run.name == "007")
    #expect(run.labels == ["a", "b"])
    #expect(effective.contains("rounds: 7"))
    #expect(try runFault("", set: ["rounds"])?.reason.contains("key=value") == true)
    #expect(try runFault("", set: ["training=3"])?.key == "training")
    #expect(try runFault("", set: ["=3"]) != nil)
    #expect(try runFault("", set: ["a=[1"])?.reason.contains("not YAML") == true)
  }

  @Test("texts stay as they are written, whatever else YAML could take them for")
  func texts() throws {
    let (run, effective) = try RunConfiguration.load(
      try file("labels: [no, yes, 007, 1.50, ~x, 'null']\nname: 2024-01-02\n"),
      assignments: ["directory=1e3"]
    )
    #expect(run.labels == ["no", "yes", "007", "1.50", "~x", "null"])
    #expect(run.name == "2024-01-02")
    #expect(run.directory == "1e3")
    #expect(try RunConfiguration.load(try file(effective), assignments: []).0 == run)
  }

  @Test("overrides change one strategy only, and must name one")
  func overrides() throws {
    let (scenario, _) = try ScenarioConfiguration.load(
      try file(
        """
        strategies: [fedsa-lora, fedsvd]
        strategy: { refactorise_every: 2 }
        overrides:
          fedsvd: { learning_rate: 0.5, head: frozen, optimizer: sgd, initialisation: orthonormal }
        """
      ),
      assignments: ["overrides.fedsa-lora.head_learning_rate=0.25"]
    )
    let svd = try #require(scenario.method("fedsvd"))
    #expect(svd.training.learningRate == 0.5 && svd.training.optimizer == "sgd" && svd.strategy.head == "frozen")
    #expect(svd.adapter.initialisation == "orthonormal")
    #expect(svd.strategy.refactoriseEvery == 2)
    let sa = try #require(scenario.method("fedsa-lora"))
    #expect(sa.training.headLearningRate == 0.25)
    #expect(sa.training.learningRate == scenario.training.learningRate && sa.strategy.head == "default")
    #expect(sa.strategy.refactoriseEvery == 1)
    #expect(try ScenarioConfiguration.load(try file("overrides: {}\n"), assignments: []).0.overrides.isEmpty)
    // What suits the embedded default is no business of another scenario.
    #expect(try ScenarioConfiguration.load(try file("rounds: 3\n"), assignments: []).0.overrides.isEmpty)
    let (embedded, text) = try ScenarioConfiguration.load(nil, assignments: [])
    #expect(embedded.method("fedsvd")?.training.learningRate == 0.005)
    #expect(try ScenarioConfiguration.load(try file(text), assignments: []).0 == embedded)
    #expect(try ScenarioConfiguration.load(nil, assignments: ["overrides={}"]).0.overrides.isEmpty)
    let fault = try #require(try scenarioFault("overrides:\n  fedavg: { learning_rate: 1 }\n"))
    #expect(fault.key == "overrides.fedavg")
    #expect(fault.reason.contains("fedsvd"))
  }

  @Test(
    "scenarios that cannot run are refused with the key",
    arguments: [
      (["clients.count=2", "cohort.min_clients=3"], "cohort.min_clients"), (["clients.count=0"], "clients.count"),
      (["clients.concurrency=0"], "clients.concurrency"), (["clients.threads=0"], "clients.threads"),
      (["strategies=[]", "baselines=[]"], "strategies"), (["strategies=[fedavg]"], "strategies.0"),
      (["rounds=0"], "rounds"), (["cohort.quorum=9"], "cohort.quorum"),
      (["cohort.clients_per_round=0"], "cohort.clients_per_round"),
      (["cohort.deadline_seconds=.inf"], "cohort.deadline_seconds"),
      (["cohort.deadline_seconds=0"], "cohort.deadline_seconds"),
      (["cohort.deadline_seconds=1e300"], "cohort.deadline_seconds"),
      (["training.optimizer=adam"], "training.optimizer"),
      (["training.learning_rate=0"], "training.learning_rate"), (["training.batch_size=0"], "training.batch_size"),
      (["strategy.weighting=exampels"], "strategy.weighting"), (["strategy.head=mine"], "strategy.head"),
      (["adapter.scaling=big"], "adapter.scaling"), (["adapter.rank=0"], "adapter.rank"),
      (["clients.dirichlet_alpha=0"], "clients.dirichlet_alpha"), (["centralised_epochs=.nan"], "centralised_epochs"),
      (["data.train_limit=-1"], "data.train_limit"), (["model.max_length=1"], "model.max_length"),
    ]
  )
  func impossible(assignments: [String], key: String) throws {
    let fault = try #require(try scenarioFault("", set: assignments))
    #expect(fault.key == key, "\(fault)")
  }
}
