import ArgumentParser
import FedLoRACoordinator
import Foundation

/// `fedlora log`.
struct Log: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print a run's event log.",
    discussion: """
      One line an event: clients that come and go, rounds, updates, refusals with their reason codes.

        fedlora log run.yaml --follow
        fedlora log run.yaml --client clinic-a --round 12
        fedlora log run.yaml --event update-refused --format json

      With --format json each line is one JSON object, as in the file events.jsonl in the run's folder.
      """
  )

  @Argument(help: RunLocation.help)
  var path: String
  @Flag(help: "Go on printing what is added, until the run is over.")
  var follow = false
  @Option(help: "Only events of this round.")
  var round: Int?
  @Option(help: "Only events of this client.")
  var client: String?
  @Option(help: "Only events of this kind, such as round-committed.")
  var event: String?
  @Option(help: "How to print the events: text or json.")
  var format: OutputFormat = .text

  func run() async throws {
    let folder = try RunLocation.folder(path)
    _ = try RunOverview(reading: folder)
    var reader = RunLogReader(folder: folder)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    while true {
      let entries = reader.next()
      for entry in entries where isWanted(entry) {
        Output.write(format == .json ? String(decoding: try encoder.encode(entry), as: UTF8.self) : entry.text)
      }
      guard follow else { return }
      // The last lines may come after the coordinator has let go of the run.
      if entries.isEmpty, try !RunOverview(reading: folder).isServed { return }
      try await Task.sleep(for: .milliseconds(200))
    }
  }

  private func isWanted(_ entry: RunLogEntry) -> Bool {
    (round == nil || entry.round == round) && (event == nil || entry.event == event)
      && (client == nil || entry.client == client || entry.cohort?.contains(client ?? "") == true)
  }
}
