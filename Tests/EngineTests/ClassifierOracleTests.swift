import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Testing

/// Classifiers against PyTorch and PEFT in double precision.
@Suite struct ClassifierOracleTests {
  private func runner(_ model: AdaptedModel, threads: Int = 1) -> ModelRunner {
    ModelRunner(model: model, pool: ComputePool(threadCount: threads), tokensPerSlice: 16)
  }

  private func trainedKinds(_ oracle: OracleFolder) throws -> TrainedKinds {
    let trained = try oracle.facts().trained
    return trained.contains { $0.hasPrefix("classifier") || $0.hasPrefix("score") } ? .all : [.loraA, .loraB]
  }

  @Test(arguments: OracleFolder.all)
  func logitsAndLossMatch(_ oracle: OracleFolder) throws {
    let (model, parameters) = try oracle.load()
    let expected = try oracle.expected()
    let (batch, _) = try oracle.batch(0)
    let found = try runner(model).logits(batch, parameters: parameters)
    #expect(largestDifference(found, try expected.floats("lora.logits")) < 1e-4)
    let summary = try runner(model).evaluate(batch, parameters: parameters)
    #expect(abs(summary.meanLoss - Double(try expected.floats("lora.loss")[0])) < 1e-5)
  }

  @Test(arguments: OracleFolder.all)
  func hiddenStatesMatchLayerByLayer(_ oracle: OracleFolder) throws {
    let (model, parameters) = try oracle.load()
    let expected = try oracle.expected()
    let (batch, kept) = try oracle.batch(0)
    var bare = parameters
    for entry in model.layout.entries where entry.kind == .loraB {
      bare.replaceSubrange(entry.range, with: [Float](repeating: 0, count: entry.count))
    }
    let states = try runner(model).hiddenStates(batch, parameters: bare)
    let hidden = model.base.spec.hiddenSize
    #expect(states.count == model.base.spec.layerCount + 1)
    // A decoder's last one is told after the final norm, which the logits' test covers.
    for (layer, state) in states.dropLast(model.base.spec.isDecoder ? 1 : 0).enumerated() {
      let full = try expected.floats("base.hidden.\(layer)")
      let wanted = kept.flatMap { full[$0 * hidden..<($0 + 1) * hidden] }
      #expect(largestDifference(state, wanted) < 1e-4, "hidden state \(layer)")
    }
  }

  @Test(arguments: OracleFolder.all, [1, 2])
  func gradientsMatch(_ oracle: OracleFolder, threads: Int) throws {
    let (model, parameters) = try oracle.load()
    let expected = try oracle.expected()
    let (batch, _) = try oracle.batch(0)
    var gradient = [Float](repeating: .nan, count: model.layout.count)
    let trained = try trainedKinds(oracle)
    _ = try runner(model, threads: threads).gradient(
      of: batch,
      parameters: parameters,
      trained: trained,
      dropoutKey: nil,
      into: &gradient
    )
    let names = try oracle.facts().trained
    #expect(!names.isEmpty)
    var untrained = Set(model.layout.entries.map(\.name))
    for name in names {
      let entry = try #require(model.entry(oracle: name))
      untrained.remove(entry.name)
      let difference = relativeDifference(Array(gradient[entry.range]), try expected.floats("grad.\(name)"))
      #expect(difference < 1e-3, "\(name)")
    }
    for entry in model.layout.entries where untrained.contains(entry.name) {
      #expect(gradient[entry.range].allSatisfy { $0 == 0 }, "\(entry.name) is not trained")
    }
  }

  @Test(arguments: OracleFolder.all, ["sgd", "adamw"])
  func parametersMatchAfterThreeSteps(_ oracle: OracleFolder, optimizer: String) throws {
    let (model, start) = try oracle.load()
    let expected = try oracle.expected()
    let options = try oracle.facts().optim
    let trained = try trainedKinds(oracle)
    let (rule, rate) = options.rule(optimizer)
    var state = Optimizer(rule, layout: model.layout, trained: trained)
    var parameters = start
    var gradient = [Float](repeating: 0, count: model.layout.count)
    let runner = runner(model)
    let losses = try expected.floats("\(optimizer).losses")
    for step in 0..<3 {
      let (batch, _) = try oracle.batch(step)
      let summary = try runner.gradient(
        of: batch,
        parameters: parameters,
        trained: trained,
        dropoutKey: nil,
        into: &gradient
      )
      #expect(abs(summary.meanLoss - Double(losses[step])) < 1e-4)
      state.step(&parameters, gradient: gradient, learningRate: Float(rate), headLearningRate: Float(rate))
    }
    for name in try oracle.facts().trained {
      let entry = try #require(model.entry(oracle: name))
      let wanted = try expected.floats("\(optimizer).after3.\(name)")
      #expect(largestDifference(Array(parameters[entry.range]), wanted) < 1e-4, "\(name)")
    }
  }
}
