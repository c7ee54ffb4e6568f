import FedLoRACheckpoint
import FedLoRADP
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol

/// A manifest in the engine's and the federation's own words.
public struct RunTerms: Sendable {
  /// The federated rule.
  public let strategy: Strategy
  /// The adapter.
  public let adapter: LoRAConfiguration
  /// What is learnt.
  public let task: TaskKind
  /// The head; nil for a language model, which has its own.
  public let head: ClassificationHead?
  /// How a prompt and its response become one text; of no use to a classifier.
  public let promptFormat: PromptFormat
  /// How a round trains.
  public let options: TrainingOptions
  /// Optimizer steps of a round.
  public let localSteps: Int
  /// Longest sequence in tokens.
  public let maxLength: Int
  /// The kinds that a round trains.
  public let trained: TrainedKinds
  /// Kinds that are trained without noise after the last upload.
  public let trainedAfter: TrainedKinds
  /// Nil where the run claims no privacy at record level.
  public let privacy: RecordPrivacy?

  /// Reads a manifest.
  /// - Throws: `ManifestRefusal` naming the field that this version does not understand.
  public init(_ manifest: WireRunManifest) throws {
    func known<T>(_ value: T?, _ field: String, _ text: String) throws -> T {
      guard let value else {
        throw ManifestRefusal(
          code: "unknown-term",
          reason: "the manifest's \(field) is '\(text)', which is not known here"
        )
      }
      return value
    }
    // What becomes of its update is for the client to know, not to do: the rule's numbers are the coordinator's to check.
    if manifest.hasAggregation {
      let name = manifest.aggregation.rule
      _ = try known(AggregationName(rawValue: name), "aggregation rule", name)
    }
    let wire = manifest.strategy
    let name = try known(StrategyName(rawValue: wire.name), "strategy", wire.name)
    let headRole = try known(HeadRole(rawValue: wire.head), "head role", wire.head)
    do {
      strategy = try Strategy(
        name: name,
        head: headRole,
        refactoriseEvery: name == .fedsvd ? Int(wire.refactoriseEvery) : 1
      )
      adapter = try LoRAConfiguration(
        rank: Int(manifest.adapter.rank),
        alpha: manifest.adapter.alpha,
        dropout: manifest.adapter.dropout,
        scaling: known(.init(rawValue: manifest.adapter.scaling), "adapter scaling", manifest.adapter.scaling),
        targets: .suffixes(manifest.adapter.targetModules),
        initialisation: known(
          .init(rawValue: manifest.adapter.initialisation),
          "initialisation",
          manifest.adapter.initialisation
        ),
        form: try known(RunTerms.form(manifest), "adapter form", manifest.adapter.form)
      )
    } catch let error as ManifestRefusal {
      throw error
    } catch {
      throw ManifestRefusal(code: "bad-term", reason: "\(error)")
    }
    let model = manifest.model
    task = model.task.isEmpty ? .classification : try known(TaskKind(rawValue: model.task), "task", model.task)
    head =
      task == .causalLM
      ? nil
      : task.head(
        labelCount: model.labels.count,
        pooling: try known(Pooling(rawValue: model.pooling), "pooling", model.pooling)
      )
    promptFormat =
      model.promptFormat.isEmpty
      ? .plain : try known(try? PromptFormat(model.promptFormat), "prompt format", model.promptFormat)
    let training = manifest.training
    let rule: OptimizerRule
    switch training.optimizer {
    case "adamw":
      rule = .adamW(
        beta1: Float(training.beta1),
        beta2: Float(training.beta2),
        epsilon: Float(training.epsilon),
        weightDecay: Float(training.weightDecay)
      )
    case "sgd": rule = .sgd(momentum: Float(training.momentum), weightDecay: Float(training.weightDecay))
    default: rule = try known(nil, "optimizer", training.optimizer)
    }
    let shape = try known(LearningRateSchedule.Shape(rawValue: training.schedule), "schedule", training.schedule)
    guard training.localSteps > 0, training.batchSize > 0, training.learningRate > 0, training.learningRate.isFinite
    else {
      throw ManifestRefusal(
        code: "bad-term",
        reason: "the manifest's local steps, batch size and learning rate must be positive"
      )
    }
    let (totalSteps, overflow) = Int(training.localSteps).multipliedReportingOverflow(by: Int(manifest.rounds))
    guard !overflow else {
      throw ManifestRefusal(code: "bad-term", reason: "the manifest's rounds and local steps are too many to count")
    }
    localSteps = Int(training.localSteps)
    maxLength = Int(manifest.model.maxLength)
    options = TrainingOptions(
      batchSize: Int(training.batchSize),
      optimizer: rule,
      learningRate: training.learningRate,
      headLearningRate: training.headLearningRate > 0 ? training.headLearningRate : training.learningRate,
      schedule: LearningRateSchedule(
        shape: shape,
        warmupSteps: Int(training.warmupSteps),
        totalSteps: totalSteps
      ),
      maxGradientNorm: training.maxGradientNorm > 0 ? training.maxGradientNorm : nil
    )
    privacy = try RecordPrivacy(manifest)
    let strategy = strategy
    trained = privacy?.trainedInRounds(strategy) ?? RunTerms.kinds { strategy.isTrained($0) }
    trainedAfter = privacy?.personal == .after ? RunTerms.kinds { strategy.role(of: $0) == .personal } : []
  }

  /// How this client's records are to be read.
  public var records: RecordTerms { RecordTerms(task: task, maxLength: maxLength, promptFormat: promptFormat) }

  /// How long `steps` on these examples take beside other clients' steps: the tokens that they go through, about.
  func work(on examples: [EncodedExample], steps: Int) -> Double {
    guard !examples.isEmpty else { return 0 }
    let tokens = Double(examples.reduce(0) { $0 + $1.ids.count })
    let share = privacy?.sampling.rate ?? min(1, Double(options.batchSize) / Double(examples.count))
    return tokens * share * Double(steps)
  }

  private static func form(_ manifest: WireRunManifest) -> LoRAConfiguration.Form? {
    switch manifest.adapter.form {
    case "", "lora": .lora
    case "vera" where manifest.strategy.name != StrategyName.fedsvd.rawValue: .vera(seed: manifest.seed)
    default: nil
    }
  }

  /// The kinds whose tensors satisfy `isIncluded`.
  static func kinds(where isIncluded: (String) -> Bool) -> TrainedKinds {
    var kinds: TrainedKinds = []
    if isIncluded("m.lora_A.weight") { kinds.insert(.loraA) }
    if isIncluded("m.lora_B.weight") { kinds.insert(.loraB) }
    if isIncluded("classifier.weight") { kinds.insert(.head) }
    return kinds
  }
}
