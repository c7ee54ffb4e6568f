import ArgumentParser
import FedLoRACoordinator
import FedLoRAProtocol
import Foundation
import Logging
import Synchronization

/// The coordinator's process.
struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The coordinator of the other commands; prints its port, and at its end what it took.",
    shouldDisplay: false
  )

  @Option var folder: String
  @Option var clients: Int
  @Option var perRound: Int
  @Option var quorum: Int
  @Option var rounds: Int
  @Option var elements: Int

  /// What it prints at its end, as JSON.
  struct Summary: Codable {
    /// Seconds between one commit and the next.
    let roundSeconds: [Double]
    let rounds: Int
    let bytesSent: Int
    let bytesReceived: Int
    let counts: [String: Int]
  }

  func run() async throws {
    CoordinatorProcess.prepare()
    let run = try LoadRun(clients: clients, perRound: perRound, quorum: quorum, rounds: rounds, elements: elements)
    let commits = Mutex<(times: [ContinuousClock.Instant], counts: [String: Int])>(([], [:]))
    let root = URL(fileURLWithPath: folder)
    let server = try await CoordinatorServer.start(
      manifest: run.manifest,
      initialState: run.state,
      directory: root.appendingPathComponent("run"),
      identity: try TLSIdentity.load(from: root.appendingPathComponent("ca/coordinator")),
      host: "127.0.0.1",
      port: 0,
      configuration: LoadRun.transport,
      logger: Logger(label: "load") { _ in SwiftLogNoOpLogHandler() },
      onEvent: { event in
        guard case .roundCommitted(_, _, let counts, _, _, _) = event else { return }
        commits.withLock { seen in
          seen.times.append(.now)
          for (code, count) in counts { seen.counts[code, default: 0] += count }
        }
      }
    )
    print("port \(server.port)")
    fflush(nil)
    let result = try await server.run()
    let (times, counts) = commits.withLock { $0 }
    let seconds = zip(times, times.dropFirst()).map { pair in
      let time = pair.1 - pair.0
      return Double(time.components.seconds) + Double(time.components.attoseconds) * 1e-18
    }
    let summary = Summary(
      roundSeconds: seconds,
      rounds: result.roundsCommitted,
      bytesSent: result.traffic.sent,
      bytesReceived: result.traffic.received,
      counts: counts
    )
    print(String(decoding: try JSONEncoder().encode(summary), as: UTF8.self))
  }
}
