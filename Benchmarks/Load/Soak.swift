import ArgumentParser
import FedLoRAProtocol
import Foundation
import Synchronization

/// A long run with clients that come and go.
struct Soak: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Memory and file descriptors of a coordinator over many rounds; fails where they grow.",
    discussion: """
      Compares the medians of the second and of the last quarter: memory may differ by a tenth and 8 MiB, descriptors by the
      number of clients.
      """
  )

  @Option(help: "Rounds.") var rounds = 2000
  @Option(help: "Clients that come and go.") var clients = 24
  @Option(help: "Clients that are asked in a round.") var perRound = 8
  @Option(help: "Size of an update, and of the state, in kB.") var kilobytes = 64
  @Option(help: "How often a client leaves around an update and comes back.") var churn = 0.1

  func run() async throws {
    let server = try ServedProcess(
      clients: perRound,
      perRound: perRound,
      quorum: max(1, perRound / 2),
      rounds: rounds,
      elements: kilobytes * 250
    )
    let all = try server.clients(clients, churn: churn)
    let record = LoadClient.Record()
    let watch = Task {
      var samples: [ProcessUsage] = []
      while !Task.isCancelled {
        if let usage = server.usage { samples.append(usage) }
        try? await Task.sleep(for: .seconds(1))
      }
      return samples
    }
    await withTaskGroup(of: Void.self) { group in
      // A client that is away at the end finds nobody any more.
      for client in all { group.addTask { try? await client.run(record) } }
      await group.waitForAll()
    }
    watch.cancel()
    let samples = await watch.value.dropLast(2)
    let summary = try server.summary()
    func median(_ part: ArraySlice<ProcessUsage>, _ value: (ProcessUsage) -> Double) -> Double {
      let sorted = part.map(value).sorted()
      return sorted.isEmpty ? 0 : sorted[sorted.count / 2]
    }
    let quarter = samples.count / 4
    let (early, late) = (samples.dropFirst(quarter).prefix(quarter), samples.suffix(quarter))
    let (memory, laterMemory) = (median(early, \.memory), median(late, \.memory))
    let (open, laterOpen) = (median(early) { Double($0.descriptors) }, median(late) { Double($0.descriptors) })
    print(
      String(
        format:
          "{\"rounds\": %d, \"updates\": %d, \"memory_mb\": [%.1f, %.1f], \"descriptors\": [%.0f, %.0f], \"seconds\": %d}",
        summary.rounds,
        summary.counts["accepted"] ?? 0,
        memory,
        laterMemory,
        open,
        laterOpen,
        samples.count
      )
    )
    guard laterMemory <= memory * 1.1 + 8, laterOpen <= open + Double(clients) else { throw ExitCode.failure }
  }
}
