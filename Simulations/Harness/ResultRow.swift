import FedLoRAEngine

/// One line of a simulation's final table: a strategy or a baseline.
public struct ResultRow: Codable, Sendable, Equatable {
  /// Name of the strategy or baseline.
  public var name: String
  /// Whether it is a reference point rather than a federation.
  public var isBaseline: Bool
  /// Mean over clients, without hostile ones, of the accuracy on the client's own label mix, in [0, 1].
  public var meanClientAccuracy: Double?
  /// The worst client's.
  public var worstClientAccuracy: Double?
  /// Accuracy on the pooled held-out set: of the global model, or, where each client has its own, the mean over at most
  /// ten of the clients' models.
  public var globalAccuracy: Double?
  /// Language models, whose accuracies above are those of tokens: mean over clients, without hostile ones, of the
  /// perplexity on the client's own held-out texts.
  public var meanClientPerplexity: Double?
  /// The worst client's: the highest.
  public var worstClientPerplexity: Double?
  /// Perplexity on the pooled held-out set, of the models that `globalAccuracy` is of.
  public var globalPerplexity: Double?
  /// Bytes that the clients sent, frames included.
  public var bytesUp: Int
  /// Bytes that the clients received, frames included.
  public var bytesDown: Int
  /// Largest ε that any client spent, by its ledger; at client level what the run spent, by the coordinator's account. Nil
  /// without privacy.
  public var epsilon: Double?
  /// Seconds that the coordinator took to make one update of a round's updates, mean over rounds; nil without a federation, and
  /// where clients are the unit of privacy.
  public var aggregationSeconds: Double?
  /// Wall-clock seconds.
  public var seconds: Double
  /// Accuracy of every client that is not hostile on its own held-out examples, by name; empty for a regression.
  public var clientAccuracies: [String: Double]
  /// Measures of the task beside accuracy and perplexity; nil where there are none.
  public var measures: [ResultMeasure]?

  enum CodingKeys: String, CodingKey {
    case name
    case isBaseline = "is_baseline"
    case meanClientAccuracy = "mean_client_accuracy"
    case worstClientAccuracy = "worst_client_accuracy"
    case globalAccuracy = "global_accuracy"
    case bytesUp = "bytes_up"
    case bytesDown = "bytes_down"
    case epsilon
    case aggregationSeconds = "aggregation_seconds"
    case meanClientPerplexity = "mean_client_perplexity"
    case worstClientPerplexity = "worst_client_perplexity"
    case globalPerplexity = "global_perplexity"
    case seconds
    case clientAccuracies = "client_accuracies"
    case measures
  }

  /// Summarises the clients' own scores; clients without a held-out example count nowhere.
  init(
    name: String,
    isBaseline: Bool,
    clients: [String: TaskScore],
    global: [TaskScore],
    task: TaskKind,
    bytesUp: Int = 0,
    bytesDown: Int = 0,
    epsilon: Double? = nil,
    seconds: Double
  ) {
    self.name = name
    self.isBaseline = isBaseline
    let own = clients.filter { $0.value.losses.count > 0 }
    // A regression has no right ones.
    clientAccuracies = task == .regression ? [:] : own.mapValues(\.losses.accuracy)
    let values = clientAccuracies.sorted { $0.key < $1.key }.map(\.value)
    meanClientAccuracy = ResultRow.mean(values)
    worstClientAccuracy = values.min()
    globalAccuracy = task == .regression ? nil : ResultRow.mean(global.map(\.losses.accuracy))
    if task == .causalLM {
      let perplexities = own.sorted { $0.key < $1.key }.map(\.value.losses.perplexity)
      meanClientPerplexity = ResultRow.mean(perplexities)
      worstClientPerplexity = perplexities.max()
      globalPerplexity = ResultRow.mean(global.map(\.losses.perplexity))
    }
    let found = ResultMeasure.all(clients: own, global: global)
    measures = found.isEmpty ? nil : found
    self.bytesUp = bytesUp
    self.bytesDown = bytesDown
    self.epsilon = epsilon
    self.seconds = seconds
  }

  /// What says how good the row is, the more the better: accuracy, or with its sign turned perplexity for a language
  /// model and the mean squared error for a regression.
  var merit: Double? {
    meanClientPerplexity.map { -$0 } ?? meanClientAccuracy ?? self[.meanSquaredError]?.meanClient.map { -$0 }
  }

  /// One of `measures`.
  public subscript(measure: Measure) -> ResultMeasure? { measures?.first { $0.measure == measure } }

  static func mean(_ values: [Double]) -> Double? {
    values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
  }
}
