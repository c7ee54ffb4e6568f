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
    enum CodingKeys: String, CodingKey {
      case name, origin
      case trainExamples = "train_examples"
      case testExamples = "test_examples"
      case labelCounts = "label_counts"
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
    let header = ["strategy", "clients' mean", "worst client", "global", "MB up", "MB down", "seconds"]
    let lines = rows.map { row in
      [
        row.isBaseline ? "(\(row.name))" : row.name, SimulationReport.percent(row.meanClientAccuracy),
        SimulationReport.percent(row.worstClientAccuracy), SimulationReport.percent(row.globalAccuracy),
        row.isBaseline ? "-" : String(format: "%.2f", Double(row.bytesUp) / 1e6),
        row.isBaseline ? "-" : String(format: "%.2f", Double(row.bytesDown) / 1e6),
        String(format: "%.1f", row.seconds),
      ]
    }
    let all = [header] + lines
    let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
    func line(_ cells: [String]) -> String {
      cells.enumerated().map { column, cell in
        let padding = String(repeating: " ", count: widths[column] - cell.count)
        return column == 0 ? cell + padding : padding + cell
      }.joined(separator: "  ")
    }
    let rule = widths.map { String(repeating: "-", count: $0) }.joined(separator: "  ")
    return ([line(header), rule] + lines.map(line)).joined(separator: "\n")
  }

  private static func percent(_ value: Double?) -> String { value.map { String(format: "%.1f %%", 100 * $0) } ?? "-" }

  /// Largest resident memory of this process so far, in MiB.
  public static func peakMemoryMegabytes() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return Double(usage.ru_maxrss) / 1024
  }
}
