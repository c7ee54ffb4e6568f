import ArgumentParser
import FedLoRADP
import Foundation

extension Privacy {
  /// `fedlora privacy report --ledger FILE`.
  struct Report: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "report",
      abstract: "Show what was spent, run by run.",
      discussion: """
        Reads a client's ledger without its lock and without changing it, also while the client runs. Each epsilon is an upper
        bound for the given delta; 'so far' is that of the run and all those above it together.
        """
    )

    @Option(help: "The ledger's file.")
    var ledger: String
    @Option(help: "The delta for which epsilon is computed, above 0 and below 1.")
    var delta = 1e-5
    @Option(help: "The epsilon that may be spent, to show how much is left.")
    var epsilon: Double?
    @Option(help: "How to print the report: text or json.")
    var format: OutputFormat = .text

    func run() async throws {
      let contents = try LedgerContents(readingFrom: URL(fileURLWithPath: ledger))
      let report = try PrivacyReport(contents, delta: delta, budget: epsilon)
      if format == .json { return try Output.printJSON(report) }
      if report.hasTornLine {
        Output.note("the ledger ends in a part of a line, left by a process that was killed; it counts for nothing")
      }
      Output.write(ReportText(report).lines.joined(separator: "\n"))
    }
  }
}

/// A report for people.
struct ReportText {
  let lines: [String]

  init(_ report: PrivacyReport) {
    var lines = [
      "data         \(report.dataset)" + (report.fingerprints > 1 ? " (changed \(report.fingerprints - 1) times)" : ""),
      "since        \(report.created)",
      "neighbours   \(report.relation.rawValue)",
      "",
    ]
    var rows = [["run", "rounds", "steps", "rate", "sigma", "C", "noise", "epsilon", "so far"]]
    for run in report.runs {
      for (index, setting) in run.settings.enumerated() {
        let isFirst = index == 0
        rows.append([
          isFirst ? run.id : "",
          isFirst ? Self.rounds(run) : "",
          "\(setting.steps)",
          "\(Self.short(setting.rate))" + (setting.sampling == "poisson" ? "" : " fixed"),
          Self.short(setting.noiseMultiplier),
          Self.short(setting.clippingNorm),
          isFirst ? (run.isSeeded ? "SEEDED" : "secret") : "",
          isFirst ? "\(run.epsilon)" : "",
          isFirst ? "\(run.epsilonSoFar)" : "",
        ])
      }
    }
    lines += report.runs.isEmpty ? ["nothing was spent"] : Self.table(rows)
    lines += ["", "epsilon \(report.epsilon) at delta \(report.delta) (\(report.method.rawValue))"]
    if let budget = report.budget { lines.append(Self.bar(report.epsilon.value, of: budget)) }
    if report.hasSeededNoise {
      lines += ["", "SEEDED noise follows from a known seed and protects nobody; its epsilon is that of secret noise."]
    }
    self.lines = lines
  }

  private static func rounds(_ run: PrivacyReport.Run) -> String {
    run.participations == run.rounds ? "\(run.rounds)" : "\(run.rounds) (\(run.participations) times)"
  }

  private static func short(_ value: Double) -> String { String(format: "%.5g", value) }

  private static func bar(_ spent: Double, of budget: Double) -> String {
    let width = 40
    let share = spent / budget
    let full = share >= 1 ? width : min(width - 1, Int((share * Double(width)).rounded(.up)))
    let bar = String(repeating: "#", count: full) + String(repeating: ".", count: width - full)
    let text = share > 1 ? "OVER the budget of \(budget)" : String(format: "%.1f %% of ", share * 100) + "\(budget)"
    return "[\(bar)] \(text)"
  }

  private static func table(_ rows: [[String]]) -> [String] {
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      zip(row, widths).enumerated().map { column, cell in
        let padding = String(repeating: " ", count: cell.1 - cell.0.count)
        return column == 0 ? cell.0 + padding : padding + cell.0
      }.joined(separator: "  ")
    }
  }
}
