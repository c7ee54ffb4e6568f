import FedLoRAClient
import FedLoRAConfiguration
import FedLoRAEngine
import Foundation

/// Reference points beside the federations, on the same data and the same engine.
struct Baselines: Sendable {
  let scenario: ScenarioConfiguration
  let data: SimulationData
  let slots: EngineSlots
  let report: @Sendable (SimulationEvent) -> Void

  func run(_ baseline: ScenarioConfiguration.Baseline) async throws -> ResultRow {
    let start = ContinuousClock.now
    report(.started(name: baseline.rawValue, rounds: nil))
    let (clients, global): ([String: TaskScore], [TaskScore]) =
      switch baseline {
      case .majority: try majority()
      case .frozen: try await frozen()
      case .local: try await local()
      case .centralised: try await centralised()
      }
    let row = ResultRow(
      name: baseline.rawValue,
      isBaseline: true,
      clients: clients,
      global: global,
      task: scenario.model.task,
      seconds: (ContinuousClock.now - start).seconds
    )
    report(.finished(row))
    return row
  }

  /// The most frequent class of all training examples, or the mean of their numbers, for everybody.
  private func majority() throws -> ([String: TaskScore], [TaskScore]) {
    let score: ([EncodedExample]) throws -> TaskScore
    if scenario.model.task == .regression {
      let mean = data.train.reduce(0) { $0 + Double($1.value) } / Double(max(1, data.train.count))
      score = { examples in
        try TaskScore(found: examples.map { _ in mean }, expected: examples.map { Double($0.value) })
      }
    } else {
      var counts = [Int](repeating: 0, count: data.labels.count)
      for example in data.train { counts[example.label] += 1 }
      let choice = counts.indices.max { (counts[$0], -$0) < (counts[$1], -$1) } ?? 0
      score = { examples in
        TaskScore(labels: examples.map(\.label), decisions: examples.map { _ in choice }, classCount: counts.count)
      }
    }
    let clients = Dictionary(uniqueKeysWithValues: try data.clients.map { ($0.name, try score($0.test)) })
    return (clients, [try score(data.test)])
  }

  /// A linear head on the frozen encoder's pooled vectors, trained on the pooled data; a language model as it is.
  private func frozen() async throws -> ([String: TaskScore], [TaskScore]) {
    let terms = try adapterAndHead()
    let (data, seed) = (data, scenario.seed)
    if terms.head == nil {
      return try await slots.withRunner(adapter: terms.adapter, head: nil) { runner in
        // A fresh adapter adds nothing.
        let start = try AdapterInitialisation.parameters(of: runner.model, seed: seed)
        var clients: [String: TaskScore] = [:]
        for client in data.clients {
          clients[client.name] = try Evaluation.score(runner, parameters: start, held: data.held(client))
        }
        return (clients, [try Evaluation.score(runner, parameters: start, held: data.heldOut)])
      }
    }
    // A layer that is to be trained first says nothing as it stands.
    let head =
      terms.head?.pooling == .dense
      ? scenario.model.task.head(labelCount: data.labels.count, pooling: .mean) : terms.head
    return try await slots.withRunner(adapter: terms.adapter, head: head) { runner in
      let still = [Float](repeating: 0, count: runner.model.layout.count)
      let width = runner.model.base.spec.hiddenSize
      let train = try Evaluation.features(runner, parameters: still, examples: data.train)
      let isRegression = terms.head?.isRegression == true
      let probe =
        isRegression
        ? LinearProbe.fit(features: train, width: width, values: data.train.map { Double($0.value) })
        : LinearProbe.fit(
          features: train,
          width: width,
          labels: data.train.map(\.label),
          labelCount: data.labels.count
        )
      func score(_ examples: [EncodedExample]) throws -> TaskScore {
        let features = try Evaluation.features(runner, parameters: still, examples: examples)
        if isRegression {
          return try TaskScore(found: probe.values(features), expected: examples.map { Double($0.value) })
        }
        return TaskScore(
          labels: examples.map(\.label),
          decisions: probe.decisions(features),
          classCount: data.labels.count
        )
      }
      var clients: [String: TaskScore] = [:]
      for client in data.clients { clients[client.name] = try score(client.test) }
      return (clients, [try score(data.test)])
    }
  }

  /// Each client alone, with the steps that it would take in the federation on average.
  private func local() async throws -> ([String: TaskScore], [TaskScore]) {
    let cohort = min(scenario.cohort.clientsPerRound, data.clients.count)
    let steps = max(1, scenario.rounds * scenario.training.localSteps * cohort / data.clients.count)
    let results = try await withThrowingTaskGroup(of: (String, TaskScore, TaskScore).self) { group in
      for client in data.clients {
        group.addTask {
          let (own, all) = try await train(
            client.train,
            steps: steps,
            seed: SeededGenerator.derive(scenario.seed, "local", .name(client.name)),
            shape: .constant,
            tests: [data.held(client), data.heldOut]
          )
          return (client.name, own, all)
        }
      }
      var collected: [(String, TaskScore, TaskScore)] = []
      for try await result in group {
        collected.append(result)
        report(.progress(name: "local", fraction: Double(collected.count) / Double(data.clients.count)))
      }
      return collected
    }
    let clients = Dictionary(uniqueKeysWithValues: results.map { ($0.0, $0.1) })
    return (clients, results.map(\.2))
  }

  /// LoRA on the pooled data, with a linear decay over the stated epochs.
  private func centralised() async throws -> ([String: TaskScore], [TaskScore]) {
    let batch = scenario.training.batchSize
    let steps = max(1, Int((scenario.centralisedEpochs * Double(data.train.count) / Double(batch)).rounded()))
    let tests = data.clients.map(data.held) + [data.heldOut]
    let results = try await trainAll(
      data.train,
      steps: steps,
      seed: SeededGenerator.derive(scenario.seed, "centralised"),
      shape: .linear,
      tests: tests,
      onStep: { report(.progress(name: "centralised", fraction: Double($0) / Double(steps))) }
    )
    let clients = Dictionary(uniqueKeysWithValues: zip(data.clients.map(\.name), results))
    return (clients, results.suffix(1))
  }

  private func train(
    _ examples: [EncodedExample],
    steps: Int,
    seed: UInt64,
    shape: LearningRateSchedule.Shape,
    tests: [HeldOut]
  ) async throws -> (TaskScore, TaskScore) {
    let results = try await trainAll(examples, steps: steps, seed: seed, shape: shape, tests: tests, onStep: { _ in })
    return (results[0], results[1])
  }

  private func trainAll(
    _ examples: [EncodedExample],
    steps: Int,
    seed: UInt64,
    shape: LearningRateSchedule.Shape,
    tests: [HeldOut],
    onStep: @escaping @Sendable (Int) -> Void
  ) async throws -> [TaskScore] {
    let terms = try adapterAndHead()
    let section = scenario.training
    let rule: OptimizerRule =
      section.optimizer == "sgd"
      ? .sgd(momentum: Float(section.momentum), weightDecay: Float(section.weightDecay))
      : .adamW(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: Float(section.weightDecay))
    let options = TrainingOptions(
      batchSize: section.batchSize,
      optimizer: rule,
      learningRate: section.learningRate,
      headLearningRate: section.headLearningRate > 0 ? section.headLearningRate : section.learningRate,
      schedule: LearningRateSchedule(shape: shape, totalSteps: steps),
      maxGradientNorm: section.maxGradientNorm > 0 ? section.maxGradientNorm : nil
    )
    let start = scenario.seed
    let flag = StopFlag()
    return try await withTaskCancellationHandler {
      try await slots.withRunner(adapter: terms.adapter, head: terms.head) { runner in
        var parameters = try AdapterInitialisation.parameters(of: runner.model, seed: start)
        let training = LocalTraining(options: options, trained: .all, seed: seed)
        _ = try training.run(runner, parameters: &parameters, examples: examples, steps: steps, firstStep: 0) {
          step,
          _ in
          if flag.isRaised { throw CancellationError() }
          onStep(step)
        }
        return try tests.map { try Evaluation.score(runner, parameters: parameters, held: $0) }
      }
    } onCancel: {
      flag.raise()
    }
  }

  private func adapterAndHead() throws -> (adapter: LoRAConfiguration, head: ClassificationHead?) {
    let section = scenario.adapter
    let adapter = try LoRAConfiguration(
      rank: section.rank,
      alpha: section.alpha,
      dropout: section.dropout,
      scaling: section.scaling == "rslora" ? .rslora : .lora,
      targets: .suffixes(section.targetModules),
      initialisation: LoRAConfiguration.Initialisation(rawValue: section.initialisation) ?? .kaiming,
      form: section.form == "vera" ? .vera(seed: scenario.seed) : .lora
    )
    return (adapter, scenario.model.task.head(labelCount: data.labels.count, pooling: scenario.model.pooling))
  }
}

extension Duration {
  /// This span in seconds.
  var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
