import ArgumentParser
import FedLoRADP
import FedLoRASimulation
import Foundation

extension Privacy {
  /// `fedlora privacy report PATH`.
  struct Report: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "report",
      abstract: "Show what was spent, data set by data set and run by run.",
      discussion: """
        A client keeps one ledger for each data set, in STATE/ledgers. Give one ledger, or a folder: a client's state, or the \
        ledgers of all clients of a simulation.

          fedlora privacy report fedlora-client
          fedlora privacy report fedlora-client/ledgers/ledger-1f2e3d4c5b6a7988.jsonl --epsilon 8

        Ledgers are read without their lock and without changing them, also while the client runs. Each epsilon is an upper \
        bound for the given delta; 'so far' is that of the run and all those above it together.
        """
    )

    @Argument(help: "A ledger, or a folder with ledgers in it or in its folders.")
    var path: String
    @Option(help: "The delta for which epsilon is computed, above 0 and below 1.")
    var delta = 1e-5
    @Option(help: "The epsilon that may be spent, to show how much is left.")
    var epsilon: Double?
    @Option(help: "How to print the report: text or json.")
    var format: OutputFormat = .text

    private struct Entry: Encodable {
      let ledger: String
      let report: PrivacyReport

      private enum CodingKeys: String, CodingKey { case ledger }

      func encode(to encoder: any Encoder) throws {
        try report.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(ledger, forKey: .ledger)
      }
    }

    private struct Entries: Encodable { let ledgers: [Entry] }

    func validate() throws {
      guard delta > 0, delta < 1 else { throw ValidationError("--delta is \(delta), expected above 0 and below 1") }
      if let epsilon, !(epsilon > 0 && epsilon.isFinite) {
        throw ValidationError("--epsilon is \(epsilon), expected above 0")
      }
    }

    func run() async throws {
      let entries = try ledgers().map { file in
        let contents = try LedgerContents(readingFrom: file)
        return Entry(ledger: file.path, report: try PrivacyReport(contents, delta: delta, budget: epsilon))
      }
      if format == .json { return try Output.printJSON(Entries(ledgers: entries)) }
      for (index, entry) in entries.enumerated() {
        if entry.report.hasTornLine {
          Output.note(
            "\(entry.ledger) ends in a part of a line, left by a process that was killed; it counts for nothing"
          )
        }
        if entries.count > 1 { Output.write((index > 0 ? "\n" : "") + "ledger       \(entry.ledger)") }
        Output.write(ReportText(entry.report).lines.joined(separator: "\n"))
      }
    }

    /// The ledger itself, or all beneath the folder, by path.
    private func ledgers() throws -> [URL] {
      let root = URL(fileURLWithPath: path)
      var isFolder: ObjCBool = false
      guard FileManager.default.fileExists(atPath: root.path, isDirectory: &isFolder) else {
        throw CommandFailure(
          status: .badData,
          description: "there is no '\(path)', expected a ledger or a client's state folder"
        )
      }
      guard isFolder.boolValue else { return [root] }
      let below = FileManager.default.enumerator(at: root, includingPropertiesForKeys: nil)
      let found = (below?.compactMap { $0 as? URL } ?? []).filter {
        $0.lastPathComponent.hasPrefix("ledger-") && $0.pathExtension == "jsonl"
      }
      guard !found.isEmpty else {
        throw CommandFailure(
          status: .badData,
          description: "'\(path)' has no ledger in it: no private step was ever paid for there"
        )
      }
      return found.sorted { $0.path < $1.path }
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
    let header = ["run", "rounds", "steps", "rate", "sigma", "C", "noise", "epsilon", "so far"]
    var rows: [[String]] = []
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
    lines += report.runs.isEmpty ? ["nothing was spent"] : [TextTable.draw(header, rows)]
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
}
