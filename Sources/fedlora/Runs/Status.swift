import ArgumentParser
import FedLoRACoordinator
import FedLoRAProtocol
import FedLoRASimulation
import Foundation

/// `fedlora status`.
struct Status: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "How runs stand: what is durable, and what their coordinators are doing.",
    discussion: """
      Give run files or folders; a folder that is no run is searched for runs. Without any, the current folder is.

        fedlora status
        fedlora status run.yaml

      States: pending, starting, running, finished:completed, finished:failed, finished:stopped. A stopped run can be gone
      on with: fedlora resume run.yaml.
      """
  )

  @Argument(help: "Run files, runs' folders, or folders with runs in them.")
  var paths: [String] = []
  @Option(help: "How to print the runs: text or json.")
  var format: OutputFormat = .text

  private struct Entry: Encodable {
    let overview: RunOverview
    let live: LiveStatus?

    private enum CodingKeys: String, CodingKey { case live }

    func encode(to encoder: any Encoder) throws {
      try overview.encode(to: encoder)
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encodeIfPresent(live, forKey: .live)
    }
  }

  private struct Runs: Encodable { let runs: [Entry] }

  func run() async throws {
    var entries: [Entry] = []
    for path in paths.isEmpty ? ["."] : paths {
      for folder in try Status.folders(path) {
        let overview = try RunOverview(reading: folder)
        let reply = overview.isServed ? try? await OperatorSocket.ask(OperatorRequest(.status), folder: folder) : nil
        entries.append(Entry(overview: overview, live: reply?.status))
      }
    }
    if format == .json { return try Output.printJSON(Runs(runs: entries)) }
    if entries.isEmpty { return Output.note("no run here; fedlora coordinator run.yaml begins one") }
    Output.write(Status.table(entries))
    if entries.count == 1, let live = entries[0].live { Output.write("\n" + Status.text(live)) }
  }

  /// The folder itself where it holds a run, else those below it that do.
  private static func folders(_ path: String) throws -> [URL] {
    let folder = try RunLocation.folder(path)
    func isRun(_ url: URL) -> Bool {
      FileManager.default.fileExists(atPath: url.appendingPathComponent("run.sqlite").path)
    }
    if isRun(folder) { return [folder] }
    let below = (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []
    let runs = below.filter(isRun).sorted { $0.path < $1.path }
    // A run file whose run was never begun, or a folder that was meant to be one.
    if runs.isEmpty, path != "." { throw RunStoreError.noRun(path: folder.path) }
    return runs
  }

  private static func table(_ entries: [Entry]) -> String {
    let rows = entries.map { entry in
      let run = entry.overview
      return [
        run.run, run.state.rawValue, "\(run.rounds)", "\(run.clients)", run.lastUpdates.map(String.init) ?? "-",
        run.committedAt ?? "-", run.directory, run.reason,
      ]
    }
    return TextTable.draw(["run", "state", "rounds", "clients", "updates", "last commit", "folder", "reason"], rows)
  }

  private static func text(_ live: LiveStatus) -> String {
    var lines = [
      "round \(live.round) is \(live.phase)" + (live.attempt > 1 ? ", attempt \(live.attempt)" : "")
        + (live.deadlineSeconds.map { String(format: ", %.0f s to the deadline", $0) } ?? "")
        + (live.isStopping ? "; the run stops after it" : ""),
      "ready: \(live.ready.isEmpty ? "nobody" : live.ready.joined(separator: ", "))",
    ]
    for (name, status) in live.members.sorted(by: { $0.key < $1.key }) { lines.append("  \(name): \(status)") }
    return lines.joined(separator: "\n")
  }
}
