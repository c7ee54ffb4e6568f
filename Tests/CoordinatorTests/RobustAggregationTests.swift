import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAFederation
import Foundation
import Testing

/// Robust rules over the files of a run's store.
@Suite("Robust aggregation of stored updates")
struct RobustAggregationTests {
  private let folder: TemporaryFolder
  private let store: RunStore
  private let start: TensorSet
  private let names = ["e", "a", "d b", "c", "b"]

  init() throws {
    var generator = SeededGenerator(seed: 3)
    folder = try TemporaryFolder()
    start = TensorSet([
      "m.lora_A.weight": try generator.tensor([2, 3001]), "m.lora_B.weight": try generator.tensor([70, 2]),
      "classifier.bias": try generator.tensor([3]), "classifier.empty": Tensor(zeros: [0, 4]),
    ])
    store = try RunStore.create(
      at: folder.url.appendingPathComponent("run"),
      run: RunStore.Description(runID: "r", seed: 1, manifest: Data([1])),
      initialState: start
    )
    try store.openAttempt(round: 1, attempt: 1, cohort: names)
  }

  private func updates(_ strategy: Strategy) throws -> [String: TensorSet] {
    var generator = SeededGenerator(seed: 9)
    return try Dictionary(
      uniqueKeysWithValues: names.map { name in
        var update = start.filter(strategy.isUploaded)
        for entry in update.entries { update[entry.name] = try generator.tensor(entry.tensor.shape) }
        return (name, update)
      }
    )
  }

  private func fill(_ updates: [String: TensorSet]) throws -> [Contribution] {
    try names.map { name in
      _ = try store.storeUpdate(
        round: 1,
        name: name,
        examples: 3,
        metrics: [:],
        digest: name,
        tensors: try #require(updates[name])
      )
      return Contribution(name: name, examples: 3, digest: name)
    }
  }

  @Test(
    "is what the rule makes of the same updates in memory, whatever the order",
    arguments: [
      RobustRule.Kind.normBound(.stated(0.5)), .median, .trimmedMean(fraction: 0), .krum, .multiKrum(keep: 0),
      .geometricMedian(smoothing: 1e-6, iterations: 100),
    ],
    [StrategyName.fedit, .fedsvd]
  )
  func files(kind: RobustRule.Kind, name: StrategyName) throws {
    let strategy = try Strategy(name: name, head: .shared)
    let updates = try updates(strategy)
    let contributions = try fill(updates)
    let rule = try RobustRule(kind, byzantine: 1)
    let sent = start.filter(strategy.isUploaded)
    let wanted = try rule.combine(updates.map { UpdateRow(name: $0.key, tensors: $0.value) }, start: sent)
    for order in [contributions, contributions.reversed()] {
      let found = try store.aggregateRobustly(round: 1, contributions: order, strategy: strategy, rule: rule)
      #expect(found.state == (try strategy.nextState(round: 1, previous: start, mean: wanted.tensors)))
      #expect(found.leftOut == wanted.leftOut && found.scaledDown == wanted.scaledDown)
    }
  }

  @Test("names a file that is gone, cut short, or of other tensors")
  func damage() throws {
    let strategy = try Strategy(name: .fedit, head: .shared)
    let contributions = try fill(try updates(strategy))
    let rule = try RobustRule(.median, byzantine: 1)
    let file = store.directory.appendingPathComponent("updates/000001/a.safetensors")
    func aggregate() throws -> RunStore.RobustRound {
      try store.aggregateRobustly(round: 1, contributions: contributions, strategy: strategy, rule: rule)
    }
    let whole = try Data(contentsOf: file)
    try whole.dropLast(4).write(to: file)
    #expect(throws: SafetensorsError.self) { try aggregate() }
    for other in [
      start.filter { $0 != "classifier.bias" }, start.merging(TensorSet(["x": Tensor(zeros: [1])])),
      start.merging(TensorSet(["classifier.bias": Tensor(zeros: [1, 3])])),
    ] {
      try SafetensorsFile.write(other, to: file)
      let error = #expect(throws: SafetensorsError.self) { try aggregate() }
      #expect(error?.file == file.path)
    }
    try FileManager.default.removeItem(at: file)
    #expect(throws: SafetensorsError.self) { try aggregate() }
    try whole.write(to: file)
    _ = try aggregate()
  }

  @Test("refuses a round of fewer updates than the rule needs")
  func tooFew() throws {
    let strategy = try Strategy(name: .fedit, head: .shared)
    let contributions = try fill(try updates(strategy))
    #expect(throws: RobustAggregationError.tooFewUpdates(rule: .krum, byzantine: 1, found: 4, needed: 5)) {
      try store.aggregateRobustly(
        round: 1,
        contributions: Array(contributions.dropFirst()),
        strategy: strategy,
        rule: RobustRule(.krum, byzantine: 1)
      )
    }
  }
}
