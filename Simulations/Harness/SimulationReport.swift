import FedLoRAEngine
import Foundation

/// What a simulation found.
public struct SimulationReport: Codable, Sendable, Equatable {
  /// One client's share of the data.
  public struct Client: Codable, Sendable, Equatable {
    /// Its name on the wire.
    public var name: String
    /// What the data call it.
    public var origin: String
    /// Number of training examples.
    public var trainExamples: Int
    /// Number of held-out examples.
    public var testExamples: Int
    /// Training examples of each class.
    public var labelCounts: [String: Int]
    /// Whether it sent something else than what it trained.
    public var isHostile: Bool
    enum CodingKeys: String, CodingKey {
      case name, origin
      case trainExamples = "train_examples"
      case testExamples = "test_examples"
      case labelCounts = "label_counts"
      case isHostile = "is_hostile"
    }
  }

  /// Name of the scenario.
  public var scenario: String
  /// Baselines first, then strategies.
  public var rows: [ResultRow]
  /// The clients.
  public var clients: [Client]
  /// Wall-clock seconds of the whole.
  public var seconds: Double
  /// Largest resident memory of the process so far, in MiB.
  public var peakMemoryMegabytes: Double
  /// The results folder.
  public var folder: String
  enum CodingKeys: String, CodingKey {
    case scenario, rows, clients, seconds
    case peakMemoryMegabytes = "peak_memory_mib"
    case folder
  }

  /// The final table as plain text.
  public var table: String {
    let isPrivate = rows.contains { $0.epsilon != nil }
    let isLanguage = rows.contains { $0.meanClientPerplexity != nil }
    let isRegression = rows.contains { $0[.meanSquaredError] != nil }
    let header =
      ["strategy"]
      + (isLanguage
        ? ["clients' mean perplexity", "worst client", "global", "tokens right"]
        : [isRegression ? "clients' mean squared error" : "clients' mean", "worst client", "global"])
      + ["MB up", "MB down"] + (isPrivate ? ["ε"] : []) + ["seconds"]
    return TextTable.draw(
      header,
      rows.map { row in
        let (up, down) = (Double(row.bytesUp) / 1e6, Double(row.bytesDown) / 1e6)
        var cells = [row.isBaseline ? "(\(row.name))" : row.name]
        cells += isLanguage ? perplexities(row) : isRegression ? errors(row) : accuracies(row)
        cells += row.isBaseline ? ["-", "-"] : [String(format: "%.2f", up), String(format: "%.2f", down)]
        if isPrivate { cells.append(SimulationReport.plain(row.epsilon, digits: 4)) }
        return cells + [String(format: "%.1f", row.seconds)]
      }
    )
  }

  private func perplexities(_ row: ResultRow) -> [String] {
    [
      SimulationReport.plain(row.meanClientPerplexity), SimulationReport.plain(row.worstClientPerplexity),
      SimulationReport.plain(row.globalPerplexity), SimulationReport.percent(row.meanClientAccuracy),
    ]
  }

  private func errors(_ row: ResultRow) -> [String] {
    let error = row[.meanSquaredError]
    return [error?.meanClient, error?.worstClient, error?.global].map { SimulationReport.plain($0, digits: 4) }
  }

  private func accuracies(_ row: ResultRow) -> [String] {
    [row.meanClientAccuracy, row.worstClientAccuracy, row.globalAccuracy].map(SimulationReport.percent)
  }

  /// The measures of the task beside those of `table`; nil where there are none.
  public var measuresTable: String? {
    ResultMeasure.table(rows.map { ($0.isBaseline ? "(\($0.name))" : $0.name, $0.measures ?? []) })
  }

  private static func plain(_ value: Double?, digits: Int = 2) -> String {
    value.map { String(format: "%.*f", digits, $0) } ?? "-"
  }

  private static func percent(_ value: Double?) -> String { value.map { String(format: "%.1f %%", 100 * $0) } ?? "-" }

  /// Largest resident memory of this process so far, in MiB.
  public static func peakMemoryMegabytes() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return Double(usage.ru_maxrss) / 1024
  }
}
