import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol
import Foundation

/// What `fedlora simulate [SCENARIO]` runs: several strategies on the same clients, data and seeds.
public struct ScenarioConfiguration: Codable, Sendable, Equatable {
  /// Names the results folder.
  public var name: String
  /// Seed of partition, initialisation, cohorts and batches.
  public var seed: UInt64
  /// Folder under which the results folder is made.
  public var output: String
  /// Number of rounds.
  public var rounds: Int
  /// The base model; `embedded` as path takes the one that comes with fedlora.
  public var model: ModelSection
  /// The data.
  public var data: DataSection
  /// The clients.
  public var clients: ClientsSection
  /// Methods to compare, one after the other: strategies by name, or names of `overrides` that say which strategy they are.
  public var strategies: [String]
  /// Reference points to compute beside them.
  public var baselines: [Baseline]
  /// Epochs of the centralised baseline over the pooled training data.
  public var centralisedEpochs: Double
  /// Everything about the strategy but its name.
  public var strategy: StrategySection
  /// The adapter.
  public var adapter: AdapterSection
  /// Local training.
  public var training: TrainingSection
  /// Who takes part in a round.
  public var cohort: CohortSection
  /// In which sense the runs are private.
  public var privacy: PrivacySection
  /// How the updates of a round become one.
  public var aggregation: AggregationSection
  /// Which clients are hostile, and what they send.
  public var poison: PoisonSection
  /// What `--compare` plays.
  public var compare: CompareSection
  /// How language models are asked on held-out examples.
  public var evaluation: EvaluationSection
  /// Changes for one method, by its name in `strategies`.
  public var overrides: [String: Overrides]

  enum CodingKeys: String, CodingKey {
    case name, seed, output, rounds, model, data, clients, strategies, baselines
    case centralisedEpochs = "centralised_epochs"
    case strategy, adapter, training, cohort, privacy, aggregation, poison, compare, evaluation, overrides
  }

  /// A reference point.
  public enum Baseline: String, Codable, Sendable, CaseIterable {
    /// Always the most frequent class; of a regression always the training set's mean.
    case majority
    /// A linear head on the frozen encoder, trained on the pooled data; of a language model the base model as it is.
    case frozen
    /// Each client alone, with as many steps as in the federation.
    case local
    /// LoRA on the pooled data.
    case centralised
  }

  /// Where examples come from.
  public struct DataSection: Codable, Sendable, Equatable {
    /// JSONL, CSV or TSV file; `embedded` takes the set that comes with fedlora.
    public var train: String
    /// Held-out examples of the same form.
    public var test: String
    /// Column names; empty finds the usual ones.
    public var text: String
    /// The second text of a pair.
    public var textPair: String
    /// The class.
    public var label: String
    /// Causal LM: what is given.
    public var prompt: String
    /// Causal LM: what is learnt; without prompt and response the text is learnt whole.
    public var response: String
    /// Causal LM: conversations, of which what the assistant says is learnt.
    public var messages: String
    /// Causal LM: answers to choose from, of which `response` names the right one.
    public var choices: String
    /// The natural client id.
    public var client: String
    /// Class names in index order; empty takes those of the training file.
    public var labels: [String]
    /// Use only the first so many training examples after a seeded shuffle; 0 uses all.
    public var trainLimit: Int
    enum CodingKeys: String, CodingKey {
      case train, test, text
      case textPair = "text_pair"
      case label, prompt, response, messages, choices, client, labels
      case trainLimit = "train_limit"
    }
  }

  /// The simulated clients.
  public struct ClientsSection: Codable, Sendable, Equatable {
    /// How examples are dealt.
    public enum Partition: String, Codable, Sendable, CaseIterable {
      /// Shuffled and dealt evenly.
      case iid
      /// Shares of each class drawn from a Dirichlet distribution.
      case dirichlet
      /// A fixed number of classes for each client.
      case pathological
      /// By the client that the data name.
      case natural
    }
    /// Number of clients.
    public var count: Int
    /// Clients that train at the same time.
    public var concurrency: Int
    /// Parts into which a client's steps are cut: the most cores that work for one client. The others help where fewer clients
    /// train than there are cores. The result depends on it, and on nothing else about threads.
    public var threads: Int
    /// How they keep the base model in memory.
    public var precision: BasePrecision
    /// How examples are dealt.
    public var partition: Partition
    /// α of the Dirichlet partition.
    public var dirichletAlpha: Double
    /// k of the pathological partition.
    public var labelsPerClient: Int
    /// Fewest training examples of a client.
    public var minimumExamples: Int
    enum CodingKeys: String, CodingKey {
      case count, concurrency, threads, precision, partition
      case dirichletAlpha = "dirichlet_alpha"
      case labelsPerClient = "labels_per_client"
      case minimumExamples = "minimum_examples"
    }
  }

  /// What one method does differently; a missing key takes the scenario's value.
  public struct Overrides: Codable, Sendable, Equatable {
    /// The strategy, where the method is not named after it.
    public var strategy: StrategyName?
    /// Learning rate of A and B.
    public var learningRate: Double?
    /// Learning rate of the head.
    public var headLearningRate: Double?
    /// `adamw` or `sgd`.
    public var optimizer: String?
    /// The learning rate's curve.
    public var schedule: LearningRateSchedule.Shape?
    /// Role of the head.
    public var head: String?
    /// Rank of the adapter: VeRA's, say, which is random and wants to be larger than LoRA's.
    public var rank: Int?
    /// How A starts.
    public var initialisation: String?
    /// Target ε; 0 runs without privacy.
    public var epsilon: Double?
    /// Norm to which gradients or updates are clipped under privacy.
    public var clippingNorm: Double?
    /// FedSA's form of personal tensors under privacy.
    public var personal: String?
    /// The rule by which updates become one.
    public var aggregation: AggregationName?
    /// How many updates of a round the rule is to withstand.
    public var byzantine: Int?
    /// Norm bound: the largest norm of an update's difference.
    public var normBound: Double?
    /// Norm bound: the same in units of the median norm.
    public var normMultiple: Double?
    /// Trimmed mean: the share of values that is left out at each end.
    public var trim: Double?
    /// Multi-Krum: updates that are averaged.
    public var keep: Int?
    enum CodingKeys: String, CodingKey, CaseIterable {
      case strategy
      case learningRate = "learning_rate"
      case headLearningRate = "head_learning_rate"
      case optimizer, schedule, head, rank, initialisation, epsilon
      case clippingNorm = "clipping_norm"
      case personal, aggregation, byzantine
      case normBound = "norm_bound"
      case normMultiple = "norm_multiple"
      case trim, keep
    }

    static let keys = CodingKeys.allCases.map(\.rawValue)
  }

  /// Every key with its default: the embedded default scenario.
  public static let defaults = """
    name: embedded-default
    seed: 1
    output: fedlora-runs
    rounds: 24
    \(SharedDefaults.model(path: "embedded"))
    data:
      train: embedded
      test: embedded
      text: ""
      text_pair: ""
      label: ""
      prompt: ""
      response: ""
      messages: ""
      choices: ""
      client: ""
      labels: []
      train_limit: 0
    clients:
      count: 6
      concurrency: 2
      threads: 1
      precision: f32
      partition: dirichlet
      dirichlet_alpha: 0.5
      labels_per_client: 2
      minimum_examples: 16
    strategies: [fedsa-lora, fedsvd]
    baselines: [majority, frozen]
    centralised_epochs: 2
    \(SharedDefaults.strategy)
    \(SharedDefaults.adapter)
    \(SharedDefaults.training)
    cohort:
      min_clients: 6
      clients_per_round: 3
      quorum: 2
      deadline_seconds: 600
      over_selected: 0
      upload_grace_seconds: 0
      max_attempts: 3
      most_connected: 0
      buffer_size: 0
      staleness_exponent: 0.5
      max_staleness: 10
      selection: random
    \(PrivacySection.defaults)
    \(AggregationSection.defaults)
    \(PoisonSection.defaults)
    \(CompareSection.defaults)
    \(EvaluationSection.defaults)
    overrides: {}
    """

  /// What was found good for the embedded default alone: a scenario of one's own starts without it.
  static let embeddedOverrides = """
    overrides:
      fedsvd:
        learning_rate: 0.005
    """

  /// Reads a scenario (nil is the embedded default), with `assignments` laid over it.
  /// - Throws: `ConfigurationError` naming file and key.
  public static func load(_ url: URL?, assignments: [String]) throws -> (ScenarioConfiguration, effective: String) {
    var yaml = try LayeredYAML(defaults: defaults, openSections: ["overrides": Overrides.keys])
    let source = url?.path ?? "embedded default"
    if let url {
      let text: String
      do { text = try String(contentsOf: url, encoding: .utf8) } catch {
        throw ConfigurationError(source: url.path, reason: "cannot be read as UTF-8 text")
      }
      try yaml.overlay(text, source: url.path)
    } else {
      try yaml.overlay(embeddedOverrides, source: source)
    }
    for assignment in assignments { try yaml.set(assignment) }
    let scenario = try yaml.decode(ScenarioConfiguration.self, source: source)
    try scenario.validate(source: source)
    return (scenario, try yaml.text())
  }

  /// A method with its overrides applied.
  public struct Method: Sendable, Equatable {
    /// Its name in tables and folders.
    public let name: String
    /// The federated rule.
    public var strategy: StrategySection
    /// The adapter.
    public var adapter: AdapterSection
    /// Local training.
    public var training: TrainingSection
    /// In which sense it is private.
    public var privacy: PrivacySection
    /// How the updates of a round become one.
    public var aggregation: AggregationSection
  }

  /// The noise multiplier of a method over all rounds of this scenario; nil without privacy.
  /// - Throws: `ConfigurationError`, or `PrivacyParameterError` where no noise reaches the target.
  public func calibratedNoise(of method: Method) throws -> Double? {
    try PrivacyTermsBuilder(
      section: method.privacy,
      rounds: rounds,
      localSteps: method.training.localSteps,
      batchSize: method.training.batchSize,
      cohort: cohort,
      weighting: method.strategy.weighting
    ).terms()?.noiseMultiplier
  }

  /// The method of this name; nil where the name is neither a strategy's nor that of an override with a strategy.
  public func method(_ name: String) -> Method? {
    let own = overrides[name]
    guard let rule = own?.strategy ?? StrategyName(rawValue: name) else { return nil }
    var method = Method(
      name: name,
      strategy: strategy,
      adapter: adapter,
      training: training,
      privacy: privacy,
      aggregation: aggregation
    )
    method.strategy.name = rule
    if rule != .fedsvd { method.strategy.refactoriseEvery = 1 }
    guard let own else { return method }
    if let value = own.learningRate { method.training.learningRate = value }
    if let value = own.headLearningRate { method.training.headLearningRate = value }
    if let value = own.optimizer { method.training.optimizer = value }
    if let value = own.schedule { method.training.schedule = value }
    if let value = own.head { method.strategy.head = value }
    if let value = own.rank { method.adapter.rank = value }
    if let value = own.initialisation { method.adapter.initialisation = value }
    if let value = own.epsilon { method.privacy.epsilon = value }
    if own.epsilon == 0 { method.privacy.level = .none }
    if let value = own.clippingNorm { method.privacy.clippingNorm = value }
    if let value = own.personal { method.privacy.personal = value }
    if let value = own.aggregation { method.aggregation.rule = value }
    if let value = own.byzantine { method.aggregation.byzantine = value }
    if let value = own.normBound { method.aggregation.normBound = value }
    if let value = own.normMultiple { method.aggregation.normMultiple = value }
    if let value = own.trim { method.aggregation.trim = value }
    if let value = own.keep { method.aggregation.keep = value }
    return method
  }
}
