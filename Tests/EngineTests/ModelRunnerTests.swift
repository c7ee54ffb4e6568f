import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Testing

@Suite struct ModelRunnerTests {
  private func setUp() throws -> (AdaptedModel, [Float], PackedBatch) {
    let oracle = try #require(OracleFolder.all.first)
    let (model, parameters) = try oracle.load()
    return (model, parameters, try oracle.batch(0).0)
  }

  @Test func theSameStepGivesTheSameBits() throws {
    let (model, parameters, batch) = try setUp()
    for threads in [1, 2, 3] {
      var results: [[Float]] = []
      for _ in 0..<3 {
        let runner = ModelRunner(model: model, pool: ComputePool(threadCount: threads), tokensPerSlice: 8)
        defer { runner.pool.shutDown() }
        var gradient = [Float](repeating: .nan, count: model.layout.count)
        _ = try runner.gradient(of: batch, parameters: parameters, trained: .all, dropoutKey: 1, into: &gradient)
        results.append(gradient)
      }
      #expect(results[0] == results[1] && results[1] == results[2])
    }
  }

  @Test func aSliceOfAWideModelHasFewerTokens() throws {
    // MiniLM, RoBERTa-base, BERT-large.
    let sizes = [110_000, 443_000, 1_180_000].map(ModelRunner.tokensPerSlice(bytesPerToken:))
    #expect(sizes == [1024, 605, 512])
    for oracle in OracleFolder.all {
      let (model, parameters) = try oracle.load()
      let batch = try oracle.batch(0).0
      let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 1))
      defer { runner.pool.shutDown() }
      #expect(runner.tokensPerSlice == 1024)
      let kept = ModelRunner.bytesPerToken(of: model) * batch.tokens.count
      _ = try runner.logits(batch, parameters: parameters)
      let inference = runner.activationByteCount
      var gradient = [Float](repeating: 0, count: model.layout.count)
      _ = try runner.gradient(of: batch, parameters: parameters, trained: .all, dropoutKey: nil, into: &gradient)
      // Beside what is kept there is what every pass needs; layers that no pass comes back to share two buffers.
      #expect(runner.activationByteCount > kept && runner.activationByteCount < inference + 2 * kept)
    }
  }

  @Test func aSequenceDoesNotSeeItsNeighbours() throws {
    let (model, parameters, batch) = try setUp()
    let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 1))
    defer { runner.pool.shutDown() }
    let together = try runner.logits(batch, parameters: parameters)
    for index in 0..<batch.count {
      var alone = PackedBatch()
      let range = batch.offsets[index]..<batch.offsets[index + 1]
      alone.append(tokens: Array(batch.tokens[range]), tokenTypes: Array(batch.tokenTypes[range]), label: 0)
      let labels = (model.head?.labelCount ?? 0)
      let row = Array(together[index * labels..<(index + 1) * labels])
      #expect(largestDifference(try runner.logits(alone, parameters: parameters), row) < 1e-5)
    }
  }

  @Test func untrainedKindsGetNoGradient() throws {
    let (model, parameters, batch) = try setUp()
    let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 1))
    defer { runner.pool.shutDown() }
    var all = [Float](repeating: 0, count: model.layout.count)
    _ = try runner.gradient(of: batch, parameters: parameters, trained: .all, dropoutKey: nil, into: &all)
    for kind in [TrainedKinds.loraA, .loraB, .head] {
      var some = all
      _ = try runner.gradient(of: batch, parameters: parameters, trained: kind, dropoutKey: nil, into: &some)
      for entry in model.layout.entries {
        if kind.includes(entry.kind) {
          #expect(largestDifference(Array(some[entry.range]), Array(all[entry.range])) < 1e-6)
        } else {
          #expect(some[entry.range].allSatisfy { $0 == 0 })
        }
      }
    }
  }

  @Test func batchesThatDoNotFitAreRefused() throws {
    let (model, parameters, _) = try setUp()
    let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 1))
    defer { runner.pool.shutDown() }
    func refuse(_ tokens: [Int32], label: Int = 0, types: [Int32]? = nil) {
      var batch = PackedBatch()
      batch.append(tokens: tokens, tokenTypes: types ?? [Int32](repeating: 0, count: tokens.count), label: label)
      #expect(throws: ModelError.self) { try runner.evaluate(batch, parameters: parameters) }
    }
    refuse([])
    refuse([Int32(model.base.spec.vocabularySize)])
    refuse([-1])
    refuse([Int32](repeating: 1, count: model.base.spec.maximumPositions + 1))
    refuse([1], label: (model.head?.labelCount ?? 0))
    refuse([1], types: [9])
    #expect(throws: ModelError.self) { try runner.evaluate(PackedBatch(), parameters: []) }
  }

  @Test func badOptionsAndTargetsAreNamed() throws {
    let (model, _, _) = try setUp()
    let head = model.head
    #expect(throws: ModelError.self) { try LoRAConfiguration(rank: 0, alpha: 1, targets: .suffixes(["query"])) }
    #expect(throws: ModelError.self) {
      try LoRAConfiguration(rank: 1, alpha: 1, dropout: 1, targets: .suffixes(["query"]))
    }
    let none = try LoRAConfiguration(rank: 1, alpha: 1, targets: .suffixes(["uery"]))
    let error = #expect(throws: ModelError.self) { try AdaptedModel(base: model.base, adapter: none, head: head) }
    #expect(error?.description.contains("attention.self.query") == true)
    let wide = try LoRAConfiguration(rank: 999, alpha: 1, targets: .suffixes(["query"]))
    #expect(throws: ModelError.self) { try AdaptedModel(base: model.base, adapter: wide, head: head) }
    #expect(try TargetModules.pattern(".*layer\\.0.*(query|key)").matches("bert.encoder.layer.0.attention.self.key"))
    #expect(try !TargetModules.pattern("layer").matches("bert.encoder.layer.0.attention.self.key"))
    #expect(try TargetModules.suffixes(["dense"]).matches("a.output.dense"))
    #expect(try !TargetModules.suffixes(["dense"]).matches("a.xdense"))
  }
}
