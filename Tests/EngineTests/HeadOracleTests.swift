import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Testing

/// Regressions, and heads with a dense layer, against transformers' own classifiers in double precision
/// (Tests/Oracles/make_head_fixtures.py).
@Suite("Heads of transformers' classifiers")
struct HeadOracleTests {
  private static let oracles = ["regression", "dense-heads"].flatMap {
    OracleFolder.folders(under: OracleFolder.packageRoot.appendingPathComponent("Tests/EngineTests/Fixtures/\($0)"))
  }

  private func runner(_ model: AdaptedModel, threads: Int = 1) -> ModelRunner {
    ModelRunner(model: model, pool: ComputePool(threadCount: threads), tokensPerSlice: 16)
  }

  @Test("have all fixtures") func fixtures() { #expect(Self.oracles.count == 5) }

  @Test("with a dense layer train it alone as well, and are saved as PEFT saves them")
  func dense() throws {
    let dense = Self.oracles.filter { $0.url.path.contains("dense-heads") }
    #expect(dense.count == 3)
    for oracle in dense {
      let (model, parameters) = try oracle.load()
      let (batch, _) = try oracle.batch(0)
      let expected = try oracle.expected()
      var gradient = [Float](repeating: .nan, count: model.layout.count)
      _ = try runner(model).gradient(
        of: batch,
        parameters: parameters,
        trained: .head,
        dropoutKey: nil,
        into: &gradient
      )
      var heads = 0
      for entry in model.layout.entries {
        let found = Array(gradient[entry.range])
        guard entry.kind == .head else {
          #expect(found.allSatisfy { $0 == 0 }, "\(entry.name)")
          continue
        }
        heads += 1
        #expect(relativeDifference(found, try expected.floats("grad.\(entry.name)")) < 1e-3, "\(entry.name)")
      }
      #expect(heads == 4)
      let peft = try PEFTAdapterFolder(reading: oracle.url.appendingPathComponent("adapter"))
      let own = model.adapter.peft(
        baseModel: nil,
        spec: model.base.spec,
        task: .classification,
        pooling: model.head?.pooling
      )
      #expect(Set(peft.configuration.modulesToSave).isSubset(of: own.modulesToSave))
      #expect(Set(model.canonical(peft.tensors).entries.map(\.name)) == Set(model.layout.entries.map(\.name)))
    }
    // BERT's own classifier has a pooler instead.
    let bert = try FrozenModel(folder: try #require(OracleFolder.all.first).url.appendingPathComponent("model"))
    let adapter = try LoRAConfiguration(rank: 2, alpha: 4, targets: .suffixes(["query"]))
    let error = #expect(throws: ModelError.self) {
      try AdaptedModel(base: bert, adapter: adapter, head: ClassificationHead(labelCount: 2, pooling: .dense))
    }
    #expect(error.map { "\($0)" }?.contains("dense") == true)
  }

  @Test("give transformers' outputs, loss and gradients", arguments: oracles, [1, 2])
  func gradients(_ oracle: OracleFolder, threads: Int) throws {
    let (model, parameters) = try oracle.load()
    let expected = try oracle.expected()
    let (batch, _) = try oracle.batch(0)
    let runner = runner(model, threads: threads)
    let found = try runner.logits(batch, parameters: parameters)
    #expect(largestDifference(found, try expected.floats("lora.logits")) < 1e-4)
    var gradient = [Float](repeating: .nan, count: model.layout.count)
    let summary = try runner.gradient(
      of: batch,
      parameters: parameters,
      trained: .all,
      dropoutKey: nil,
      into: &gradient
    )
    let loss = Double(try expected.floats("lora.loss")[0])
    #expect(abs(summary.meanLoss - loss) < 1e-4 * loss && summary.count == batch.count)
    #expect(abs(try runner.evaluate(batch, parameters: parameters).meanLoss - loss) < 1e-4 * loss)
    let names = try oracle.facts().trained
    #expect(names.count == model.layout.entries.count)
    for name in names {
      let entry = try #require(model.entry(oracle: name))
      #expect(
        relativeDifference(Array(gradient[entry.range]), try expected.floats("grad.\(name)")) < 1e-3,
        "\(name)"
      )
    }
  }

  @Test("give each example's own gradient its norm", arguments: oracles)
  func examples(_ oracle: OracleFolder) throws {
    let (model, parameters) = try oracle.load()
    let (batch, _) = try oracle.batch(0)
    let found = try runner(model, threads: 2).exampleGradients(batch, parameters: parameters, trained: .all)
    let wanted = try oracle.expected().floats("dp.norms")
    #expect(found.count == wanted.count)
    for (gradient, wanted) in zip(found, wanted) {
      let norm = gradient.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      #expect(abs(norm - Double(wanted)) < 1e-3 * Double(wanted))
    }
  }

  @Test("are after three steps where PyTorch's are", arguments: oracles, ["sgd", "adamw"])
  func steps(_ oracle: OracleFolder, optimizer: String) throws {
    let (model, start) = try oracle.load()
    let (expected, options) = (try oracle.expected(), try oracle.facts().optim)
    let (rule, rate) = options.rule(optimizer)
    var state = Optimizer(rule, layout: model.layout, trained: .all)
    var (parameters, gradient) = (start, [Float](repeating: 0, count: model.layout.count))
    let runner = runner(model)
    for (step, loss) in try expected.floats("\(optimizer).losses").enumerated() {
      let summary = try runner.gradient(
        of: try oracle.batch(step).0,
        parameters: parameters,
        trained: .all,
        dropoutKey: nil,
        into: &gradient
      )
      #expect(abs(summary.meanLoss - Double(loss)) < 2e-4 * Double(loss))
      state.step(&parameters, gradient: gradient, learningRate: Float(rate), headLearningRate: Float(rate))
    }
    for name in try oracle.facts().trained {
      let entry = try #require(model.entry(oracle: name))
      let wanted = try expected.floats("\(optimizer).after3.\(name)")
      #expect(largestDifference(Array(parameters[entry.range]), wanted) < 1e-4, "\(name)")
    }
  }

  @Test("score examples by their outputs, and classifiers by their decisions")
  func scores() async throws {
    let oracle = try #require(Self.oracles.first)
    let (model, parameters) = try oracle.load()
    let (batch, _) = try oracle.batch(0)
    let examples = (0..<batch.count).map { index in
      let range = batch.offsets[index]..<batch.offsets[index + 1]
      return EncodedExample(
        ids: Array(batch.tokens[range]),
        typeIds: Array(batch.tokenTypes[range]),
        value: batch.values[index]
      )
    }
    let runner = runner(model)
    let score = try await runner.pool.perform {
      try Evaluation.score(runner, parameters: parameters, examples: examples)
    }
    let outputs = try oracle.expected().floats("lora.logits").map(Double.init)
    let values = batch.values.map(Double.init)
    let loss = Double(try oracle.expected().floats("lora.loss")[0])
    #expect(abs(try #require(score[.meanSquaredError]) - loss) < 1e-4 * loss)
    #expect(abs(try #require(score[.pearson]) - (try #require(try Correlation.pearson(outputs, values)))) < 1e-4)
    #expect(score[.spearman] == (try Correlation.spearman(outputs, values)))
    #expect(score[.macroF1] == nil)

    let classifier = try #require(OracleFolder.all.first)
    let (model2, parameters2) = try classifier.load()
    let (labelled, _) = try classifier.batch(0)
    let texts = (0..<labelled.count).map { index in
      let range = labelled.offsets[index]..<labelled.offsets[index + 1]
      return EncodedExample(
        ids: Array(labelled.tokens[range]),
        typeIds: Array(labelled.tokenTypes[range]),
        label: labelled.labels[index]
      )
    }
    let other = self.runner(model2)
    let (counted, plain) = try await other.pool.perform {
      (
        try Evaluation.score(other, parameters: parameters2, examples: texts),
        try Evaluation.run(other, parameters: parameters2, examples: texts)
      )
    }
    #expect(counted.losses.correct == plain.correct && counted.losses.count == plain.count)
    #expect(abs(counted.losses.lossSum - plain.lossSum) < 1e-9)
    #expect(counted.confusion?.total == labelled.count && counted.confusion?.correct == plain.correct)
    #expect(counted[.macroF1] != nil && counted[.f1] == nil && counted[.meanSquaredError] == nil)
  }
}
