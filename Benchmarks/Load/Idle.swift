import ArgumentParser
import FedLoRAProtocol
import Foundation
import Synchronization

/// Sessions that wait for a round.
struct Idle: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Memory of a coordinator for each session that waits.")

  @Option(help: "Sessions.") var sessions = 1000

  func run() async throws {
    // One more is waited for than will come.
    let server = try ServedProcess(
      clients: sessions + 1,
      perRound: sessions + 1,
      quorum: 1,
      rounds: 1,
      elements: 375_000
    )
    let all = try server.clients(sessions)
    let record = LoadClient.Record()
    let before = server.usage?.memory ?? 0
    let start = ContinuousClock.now
    await withTaskGroup(of: Void.self) { group in
      group.addTask {
        while record.joined.withLock({ $0 }) < sessions, ContinuousClock.now - start < .seconds(300) {
          try? await Task.sleep(for: .milliseconds(20))
        }
      }
      // They wait until the server is stopped.
      group.addTask { try? await LoadCrowd.takePart(all, in: server, record) }
      await group.next()
      let joined = ContinuousClock.now - start
      try? await Task.sleep(for: .seconds(5))
      let usage = server.usage
      let count = record.joined.withLock { $0 }
      let perSession = ((usage?.memory ?? 0) - before) * 1024 / Double(max(1, count))
      print(
        String(
          format:
            "{\"sessions\": %d, \"kib_per_session\": %.1f, \"coordinator_mb\": %.1f, \"descriptors\": %d, \"joined_per_second\": %.0f}",
          count,
          perSession,
          usage?.memory ?? 0,
          usage?.descriptors ?? 0,
          Double(count) / (Double(joined.components.seconds) + Double(joined.components.attoseconds) * 1e-18)
        )
      )
      group.cancelAll()
      server.stop()
    }
  }
}
