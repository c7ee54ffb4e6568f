import FedLoRAEngine
import FedLoRAFederation
import Foundation

/// What `fedlora coordinator RUN.yaml` serves.
public struct RunConfiguration: Codable, Sendable, Equatable {
  /// Identifies the run in logs and folders.
  public var name: String
  /// Everything random that both sides must agree on comes from it.
  public var seed: UInt64
  /// Number of rounds.
  public var rounds: Int
  /// Where the coordinator listens.
  public var listen: ListenSection
  /// What strangers and participants may cost the coordinator.
  public var limits: LimitsSection
  /// Whether it also gives certificates to new participants.
  public var enrolment: EnrolmentSection
  /// Whether and where it shows metrics.
  public var metrics: MetricsSection
  /// Folder of the coordinator's certificate, as `fedlora ca init` makes it.
  public var identity: String
  /// Folder of the run's durable state.
  public var directory: String
  /// Class names in index order.
  public var labels: [String]
  /// The base model.
  public var model: ModelSection
  /// The federated rule.
  public var strategy: StrategySection
  /// The adapter.
  public var adapter: AdapterSection
  /// Local training.
  public var training: TrainingSection
  /// Who takes part in a round.
  public var cohort: CohortSection
  /// In which sense the run is private.
  public var privacy: PrivacySection
  /// How the updates of a round become one.
  public var aggregation: AggregationSection

  /// Where the coordinator listens.
  public struct ListenSection: Codable, Sendable, Equatable {
    /// An address of this machine.
    public var host: String
    /// 0 takes a free port and prints it.
    public var port: Int
  }

  /// Every key with its default.
  public static let defaults = """
    name: run
    seed: 1
    rounds: 10
    listen:
      host: 127.0.0.1
      port: 7443
    \(LimitsSection.defaults)
    \(EnrolmentSection.defaults)
    \(MetricsSection.defaults)
    identity: ca/coordinator
    directory: run
    labels: []
    \(SharedDefaults.model(path: "model"))
    \(SharedDefaults.strategy)
    \(SharedDefaults.adapter)
    \(SharedDefaults.training)
    cohort:
      min_clients: 3
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
    """

  /// Reads a run file, with `assignments` (`key=value`) laid over it.
  /// - Throws: `ConfigurationError` naming file and key.
  public static func load(_ url: URL, assignments: [String]) throws -> (RunConfiguration, effective: String) {
    var yaml = try LayeredYAML(defaults: defaults)
    let text: String
    do { text = try String(contentsOf: url, encoding: .utf8) } catch {
      throw ConfigurationError(source: url.path, reason: "cannot be read as UTF-8 text")
    }
    try yaml.overlay(text, source: url.path)
    for assignment in assignments { try yaml.set(assignment) }
    let configuration = try yaml.decode(RunConfiguration.self, source: url.path)
    try configuration.validate(source: url.path)
    return (configuration, try yaml.text())
  }
}

/// Defaults that run files and scenarios share.
enum SharedDefaults {
  static func model(path: String) -> String {
    """
    model:
      path: \(path)
      task: classification
      pooling: mean
      max_length: 128
      prompt_format: "{prompt}{response}"
    """
  }

  static let strategy = """
    strategy:
      name: fedsa-lora
      head: default
      weighting: uniform
      weight_cap: 1000
      refactorise_every: 1
    """

  static let adapter = """
    adapter:
      rank: 8
      alpha: 16
      dropout: 0.05
      scaling: default
      target_modules: [query, key, value, dense]
      initialisation: default
      form: default
    """

  static let training = """
    training:
      local_steps: 10
      batch_size: 32
      optimizer: adamw
      learning_rate: 0.002
      head_learning_rate: 0.005
      momentum: 0
      weight_decay: 0.01
      schedule: constant
      warmup_steps: 0
      max_gradient_norm: 1
    """
}
