import ArgumentParser
import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation
import Synchronization

/// Rounds in which nobody trains.
struct Rounds: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Rounds a second, and how long an update takes to be acknowledged."
  )

  @Option(help: "Clients, all of them in every round.") var clients = 10
  @Option(help: "Size of an update, and of the state, in MB.") var megabytes = 1.5
  @Option(help: "Rounds.") var rounds = 20

  func run() async throws {
    let elements = Int(megabytes * 1e6 / 4)
    let server = try ServedProcess(
      clients: clients,
      perRound: clients,
      quorum: clients,
      rounds: rounds,
      elements: elements
    )
    let all = try server.clients(clients)
    let record = LoadClient.Record()
    let before = server.usage
    let watch = Task {
      // The process is gone with the last round; what it took is looked up while it lives.
      var last = server.usage
      while !Task.isCancelled {
        last = server.usage ?? last
        try? await Task.sleep(for: .milliseconds(50))
      }
      return last
    }
    defer { watch.cancel() }
    try await LoadCrowd.takePart(all, in: server, record)
    watch.cancel()
    let usage = await watch.value
    let summary = try server.summary()
    // The first commit is counted from; before it everybody connects.
    var times = Times()
    for seconds in summary.roundSeconds { times.add(seconds: seconds) }
    let total = summary.roundSeconds.reduce(0, +)
    let size = Double(server.run.state.entries.reduce(0) { $0 + $1.tensor.values.count } * 4)
    let received = size * Double(clients * summary.rounds)
    // Every round's state, and the last one.
    let sent = size * Double(clients * (summary.rounds + 1))
    let processor = (usage?.processorSeconds ?? 0) - (before?.processorSeconds ?? 0)
    let submissions = record.submissions.withLock { $0 }
    let fields: [(String, Double, Int)] = [
      ("clients", Double(clients), 0), ("megabytes", megabytes, 1), ("rounds", Double(summary.rounds), 0),
      ("rounds_per_second", total > 0 ? Double(summary.roundSeconds.count) / total : 0, 3),
      ("round_p50_ms", times.quantile(0.5) * 1000, 1), ("submit_to_ack_p50_ms", submissions.quantile(0.5) * 1000, 1),
      ("submit_to_ack_p99_ms", submissions.quantile(0.99) * 1000, 1),
      ("received_over_payload", Double(summary.bytesReceived) / received, 4),
      ("sent_over_payload", Double(summary.bytesSent) / sent, 4),
      ("coordinator_peak_mb", usage?.peakMemory ?? 0, 0),
      ("coordinator_cpu_s_per_round", processor / Double(max(1, summary.rounds)), 4),
    ]
    print("{" + fields.map { "\"\($0.0)\": " + String(format: "%.\($0.2)f", $0.1) }.joined(separator: ", ") + "}")
  }
}
