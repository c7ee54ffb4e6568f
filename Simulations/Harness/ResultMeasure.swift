import FedLoRAEngine
import Foundation

/// One measure of a strategy or baseline.
public struct ResultMeasure: Codable, Sendable, Equatable {
  /// Which one.
  public var measure: Measure
  /// Mean over clients, without hostile ones, of the measure on the client's own held-out examples. Clients for which
  /// it is not defined, such as a correlation where all is alike, are left out.
  public var meanClient: Double?
  /// The worst of these clients.
  public var worstClient: Double?
  /// Of all clients' own held-out examples together, each under its client's model: from the sum of the clients'
  /// counts, not a mean of their measures. Nil where counts do not tell it, as with ranks.
  public var allClients: Double?
  /// On the pooled held-out set: of the global model, or the mean over the models that the row's `globalAccuracy` is
  /// of.
  public var global: Double?
  /// By client.
  public var clients: [String: Double]

  enum CodingKeys: String, CodingKey {
    case measure
    case meanClient = "mean_client"
    case worstClient = "worst_client"
    case allClients = "all_clients"
    case global, clients
  }

  /// All measures that are defined for some client or globally, in the order in which they are shown.
  static func all(clients: [String: TaskScore], global: [TaskScore]) -> [ResultMeasure] {
    let together = clients.sorted { $0.key < $1.key }.map(\.value).reduce(TaskScore(), +)
    return Measure.allCases.compactMap { measure in
      let own = clients.compactMapValues { $0[measure] }
      let values = own.sorted { $0.key < $1.key }.map(\.value)
      let pooled = global.compactMap { $0[measure] }
      guard !values.isEmpty || !pooled.isEmpty else { return nil }
      return ResultMeasure(
        measure: measure,
        meanClient: ResultRow.mean(values),
        worstClient: measure.isLowerBetter ? values.max() : values.min(),
        allClients: together[measure],
        global: ResultRow.mean(pooled),
        clients: own
      )
    }
  }

  /// A table of measures, one line for each of each row; nil where there are none.
  static func table(_ rows: [(name: String, measures: [ResultMeasure])]) -> String? {
    let lines = rows.flatMap { row in
      row.measures.map { measure in
        [row.name, measure.measure.rawValue]
          + [measure.meanClient, measure.worstClient, measure.allClients, measure.global].map(shown)
      }
    }
    guard !lines.isEmpty else { return nil }
    return TextTable.draw(
      ["strategy", "measure", "clients' mean", "worst client", "all clients' examples", "global"],
      lines
    )
  }

  private static func shown(_ value: Double?) -> String { value.map { String(format: "%.4f", $0) } ?? "-" }
}
