import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Testing

@Suite struct LocalTrainingTests {
  private func setUp(dropout: Double = 0.1) throws -> (AdaptedModel, [EncodedExample]) {
    let oracle = try #require(OracleFolder.committed.first)
    let base = try FrozenModel(folder: oracle.url.appendingPathComponent("model"))
    let model = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(rank: 4, alpha: 8, dropout: dropout, targets: .suffixes(["query", "value"])),
      head: ClassificationHead(labelCount: 2, pooling: .mean)
    )
    // The class is whether the first token is below the middle of the vocabulary.
    var generator = SeededGenerator(seed: 5)
    let examples = (0..<64).map { _ in
      let ids = (0..<6).map { _ in Int32(generator.draw(below: base.spec.vocabularySize)) }
      let types = [Int32](repeating: 0, count: 6)
      return EncodedExample(ids: ids, typeIds: types, label: Int(ids[0]) < base.spec.vocabularySize / 2 ? 0 : 1)
    }
    return (model, examples)
  }

  private var options: TrainingOptions {
    TrainingOptions(
      batchSize: 16,
      optimizer: .defaultAdamW,
      learningRate: 0.02,
      headLearningRate: 0.02,
      schedule: LearningRateSchedule(shape: .constant, totalSteps: 100),
      maxGradientNorm: 1
    )
  }

  @Test func trainingLowersTheLoss() throws {
    let (model, examples) = try setUp()
    let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 1))
    defer { runner.pool.shutDown() }
    var parameters = try AdapterInitialisation.parameters(of: model, seed: 1)
    let before = try Evaluation.run(runner, parameters: parameters, examples: examples)
    let training = LocalTraining(options: options, trained: .all, seed: 9)
    _ = try training.run(runner, parameters: &parameters, examples: examples, steps: 80, firstStep: 0)
    let after = try Evaluation.run(runner, parameters: parameters, examples: examples)
    #expect(after.count == examples.count)
    #expect(after.meanLoss < 0.6 * before.meanLoss)
  }

  @Test func theSameSeedGivesTheSameBytesAndAnotherSeedDoesNot() throws {
    let (model, examples) = try setUp()
    func train(seed: UInt64) throws -> [Float] {
      let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 2), tokensPerSlice: 32)
      defer { runner.pool.shutDown() }
      var parameters = try AdapterInitialisation.parameters(of: model, seed: 1)
      _ = try LocalTraining(options: options, trained: .all, seed: seed)
        .run(runner, parameters: &parameters, examples: examples, steps: 5, firstStep: 0)
      return parameters
    }
    let first = try train(seed: 3)
    #expect(try train(seed: 3) == first)
    #expect(try train(seed: 4) != first)
  }

  @Test func aThrowingStepStopsTheTraining() throws {
    let (model, examples) = try setUp()
    let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 1))
    defer { runner.pool.shutDown() }
    var parameters = try AdapterInitialisation.parameters(of: model, seed: 1)
    var steps = 0
    #expect(throws: CancellationError.self) {
      _ = try LocalTraining(options: options, trained: .all, seed: 3)
        .run(runner, parameters: &parameters, examples: examples, steps: 50, firstStep: 0) { step, _ in
          steps = step
          if step == 3 { throw CancellationError() }
        }
    }
    #expect(steps == 3)
    #expect(throws: ModelError.self) {
      _ = try LocalTraining(options: options, trained: .all, seed: 3)
        .run(runner, parameters: &parameters, examples: [], steps: 1, firstStep: 0)
    }
  }

  @Test func theStartHasPEFTsDistributionAndDependsOnSeedAndName() throws {
    let (model, _) = try setUp()
    let values = try AdapterInitialisation.parameters(of: model, seed: 1)
    var seen: [[Float]] = []
    for entry in model.layout.entries {
      let tensor = Array(values[entry.range])
      switch entry.kind {
      case .loraA:
        let bound = 1 / Float(entry.shape[1]).squareRoot()
        #expect(tensor.allSatisfy { abs($0) <= bound })
        #expect((tensor.map(abs).max() ?? 0) > 0.8 * bound)
        #expect(!seen.contains(tensor), "each module has its own stream")
        seen.append(tensor)
      case .loraB: #expect(tensor.allSatisfy { $0 == 0 })
      case .head where entry.shape.count == 2:
        let deviation = (tensor.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(tensor.count)).squareRoot()
        #expect(deviation > 0.01 && deviation < 0.03)
      case .head: #expect(tensor.allSatisfy { $0 == 0 })
      }
    }
    #expect(try AdapterInitialisation.parameters(of: model, seed: 2) != values)
    #expect(try AdapterInitialisation.parameters(of: model, seed: 1) == values)
  }

  @Test func anOrthonormalStartHasOrthonormalRows() throws {
    let (plain, _) = try setUp()
    let model = try AdaptedModel(
      base: plain.base,
      adapter: LoRAConfiguration(rank: 4, alpha: 8, targets: .suffixes(["dense"]), initialisation: .orthonormal),
      head: plain.head
    )
    let values = try AdapterInitialisation.parameters(of: model, seed: 1)
    for entry in model.layout.entries where entry.kind == .loraA {
      let rows = (0..<4).map { row in values[entry.range].dropFirst(row * entry.shape[1]).prefix(entry.shape[1]) }
      for (i, left) in rows.enumerated() {
        for (j, right) in rows.enumerated() {
          let dot = zip(left, right).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
          #expect(abs(dot - (i == j ? 1 : 0)) < 1e-5)
        }
      }
    }
  }
}

@Suite struct ComputePoolTests {
  @Test(.timeLimit(.minutes(1)))
  func aJobThatRunsWhileThePoolIsShutDownStillHasAllThreads() async throws {
    let pool = ComputePool(threadCount: 3)
    let total = try await pool.perform {
      pool.shutDown()
      let counts = UnsafeMutablePointer<Int>.allocate(capacity: 3)
      counts.initialize(repeating: 0, count: 3)
      defer { counts.deallocate() }
      nonisolated(unsafe) let slots = counts
      for _ in 0..<100 { pool.forEachThread { slots[$0] += 1 } }
      return (0..<3).map { slots[$0] }
    }
    #expect(total == [100, 100, 100])
    await #expect(throws: CancellationError.self) { try await pool.perform { 1 } }
  }
}
