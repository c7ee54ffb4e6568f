import FedLoRAEngine
import FedLoRAFederation

/// The base model of a run.
public struct ModelSection: Codable, Sendable, Equatable {
  /// A Hugging Face folder.
  public var path: String
  /// `classification`, `regression` or `causal-lm`.
  public var task: TaskKind
  /// Classification and regression: `mean`, `pooler`, `dense` or `last`.
  public var pooling: Pooling
  /// Longest sequence in tokens, special tokens included; longer texts are truncated.
  public var maxLength: Int
  /// Causal LM: how a prompt and its response become one text, for example `Question: {prompt}\nAnswer: {response}`.
  public var promptFormat: String
  enum CodingKeys: String, CodingKey {
    case path, task, pooling
    case maxLength = "max_length"
    case promptFormat = "prompt_format"
  }
}

/// The federated rule of a run.
public struct StrategySection: Codable, Sendable, Equatable {
  /// The rule.
  public var name: StrategyName
  /// `frozen`, `personal`, `shared`, or `default`: personal under FedSA, shared otherwise.
  public var head: String
  /// `uniform`, `examples` or `capped`.
  public var weighting: String
  /// Most examples that count for one client under `capped`.
  public var weightCap: Int
  /// FedSVD: re-factorise after every k-th round.
  public var refactoriseEvery: Int
  enum CodingKeys: String, CodingKey {
    case name, head, weighting
    case weightCap = "weight_cap"
    case refactoriseEvery = "refactorise_every"
  }
}

/// The adapter of a run.
public struct AdapterSection: Codable, Sendable, Equatable {
  /// Rank r.
  public var rank: Int
  /// alpha.
  public var alpha: Double
  /// Dropout on the adapter's input.
  public var dropout: Double
  /// `lora`, `rslora`, or `default`: rslora under fedsa-rslora, lora otherwise.
  public var scaling: String
  /// Suffixes of module paths, as PEFT's list form.
  public var targetModules: [String]
  /// `kaiming` or `orthonormal` A with B zero; `orthonormal-b` with A zero; or `default`: orthonormal-b where FedSA holds
  /// B under privacy, kaiming otherwise.
  public var initialisation: String
  /// `lora`, `vera` (only scales of frozen random A and B train), or `default`: vera under fedsa-vera, lora otherwise.
  public var form: String
  enum CodingKeys: String, CodingKey {
    case rank, alpha, dropout, scaling, form
    case targetModules = "target_modules"
    case initialisation
  }
}

/// Local training of a run.
public struct TrainingSection: Codable, Sendable, Equatable {
  /// Optimizer steps of a client in a round.
  public var localSteps: Int
  /// Examples of a step.
  public var batchSize: Int
  /// `adamw` or `sgd`.
  public var optimizer: String
  /// For A and B.
  public var learningRate: Double
  /// For the head; 0 takes `learning_rate`.
  public var headLearningRate: Double
  /// SGD only.
  public var momentum: Double
  /// Both optimizers.
  public var weightDecay: Double
  /// `constant`, `linear` or `cosine` over all local steps of the run.
  public var schedule: LearningRateSchedule.Shape
  /// Steps of warm-up.
  public var warmupSteps: Int
  /// Largest gradient norm; 0 switches clipping off.
  public var maxGradientNorm: Double
  enum CodingKeys: String, CodingKey {
    case localSteps = "local_steps"
    case batchSize = "batch_size"
    case optimizer
    case learningRate = "learning_rate"
    case headLearningRate = "head_learning_rate"
    case momentum
    case weightDecay = "weight_decay"
    case schedule
    case warmupSteps = "warmup_steps"
    case maxGradientNorm = "max_gradient_norm"
  }
}

/// Who takes part in a round.
public struct CohortSection: Codable, Sendable, Equatable {
  /// Clients that must be ready before round 1 starts.
  public var minClients: Int
  /// Clients selected for a round.
  public var clientsPerRound: Int
  /// Updates without which a round is not committed.
  public var quorum: Int
  /// Seconds until a round closes.
  public var deadlineSeconds: Double
  /// `random`, or `balanced`: who took part least comes first.
  public var selection: String
  /// Clients that are asked beyond `clients_per_round`; the round closes with the first `clients_per_round` updates.
  public var overSelected: Int
  /// Seconds by which a round may close later than its deadline while updates are still arriving.
  public var uploadGraceSeconds: Double
  /// Failed attempts at one round after which the run fails.
  public var maxAttempts: Int
  /// Idle clients beyond so many are asked to come back later; 0 lets all stay connected.
  public var mostConnected: Int
  /// Asynchronous rounds: updates that close a round, whichever round's state they started from; 0 waits for each cohort.
  public var bufferSize: Int
  /// Asynchronous rounds: an update that started s rounds ago counts (1 + s)^(−this) of a fresh one.
  public var stalenessExponent: Double
  /// Asynchronous rounds: updates that started more rounds ago do not count.
  public var maxStaleness: Int
  enum CodingKeys: String, CodingKey {
    case minClients = "min_clients"
    case clientsPerRound = "clients_per_round"
    case quorum
    case overSelected = "over_selected"
    case uploadGraceSeconds = "upload_grace_seconds"
    case maxAttempts = "max_attempts"
    case mostConnected = "most_connected"
    case bufferSize = "buffer_size"
    case stalenessExponent = "staleness_exponent"
    case maxStaleness = "max_staleness"
    case deadlineSeconds = "deadline_seconds"
    case selection
  }
}
