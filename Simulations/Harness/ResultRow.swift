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
  /// Accuracy of every client that is not hostile on its own held-out examples, by name.
  public var clientAccuracies: [String: Double]

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
  }

  /// Summarises the clients' own accuracies; clients without a held-out example count nowhere.
  init(
    name: String,
    isBaseline: Bool,
    clients: [String: LossSummary],
    global: [LossSummary],
    task: TaskKind,
    bytesUp: Int = 0,
    bytesDown: Int = 0,
    epsilon: Double? = nil,
    seconds: Double
  ) {
    self.name = name
    self.isBaseline = isBaseline
    clientAccuracies = clients.filter { $0.value.count > 0 }.mapValues(\.accuracy)
    let values = clientAccuracies.sorted { $0.key < $1.key }.map(\.value)
    meanClientAccuracy = ResultRow.mean(values)
    worstClientAccuracy = values.min()
    globalAccuracy = ResultRow.mean(global.map(\.accuracy))
    if task == .causalLM {
      let own = clients.filter { $0.value.count > 0 }.sorted { $0.key < $1.key }.map(\.value.perplexity)
      meanClientPerplexity = ResultRow.mean(own)
      worstClientPerplexity = own.max()
      globalPerplexity = ResultRow.mean(global.map(\.perplexity))
    }
    self.bytesUp = bytesUp
    self.bytesDown = bytesDown
    self.epsilon = epsilon
    self.seconds = seconds
  }

  /// What says how good the row is, the more the better: accuracy, or for a language model perplexity with its sign turned.
  var merit: Double? { meanClientPerplexity.map { -$0 } ?? meanClientAccuracy }

  private static func mean(_ values: [Double]) -> Double? {
    values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
  }
}
