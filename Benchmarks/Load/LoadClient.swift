import FedLoRAProtocol
import Foundation
import Synchronization

/// A participant that answers every round at once.
struct LoadClient: Sendable {
  let name: String
  let identity: TLSIdentity
  let port: Int
  let payload: TensorPayload
  let layout: TensorLayout
  /// How often it leaves after an update, or instead of one, and comes back.
  var churn = 0.0

  /// What all clients have seen together.
  final class Record: Sendable {
    let submissions = Mutex(Times())
    let joined = Mutex(0)
    let traffic = Mutex(Traffic())
    let updates = Mutex(0)
    /// Whether one of them gave up.
    let hasFailed = Atomic(false)
  }

  private enum End { case over, left }

  /// Takes part until the run is over.
  func run(_ record: Record) async throws {
    while true {
      do { if try await session(record) == .over { return } } catch is TransportError where churn > 0 {
        // The coordinator may have dropped the connection that this one replaces.
      }
      try await Task.sleep(for: .milliseconds(Int.random(in: 10...200)))
    }
  }

  private func session(_ record: Record) async throws -> End {
    let client = try PeerClient(identity: identity, configuration: LoadRun.transport)
    let connection = try await client.connect(host: "127.0.0.1", port: port, timeout: .seconds(120))
    do {
      let end = try await takePart(connection, record)
      await connection.close()
      record.traffic.withLock { $0 = $0 + connection.traffic }
      return end
    } catch {
      await connection.close()
      throw error
    }
  }

  private func takePart(_ connection: PeerConnection, _ record: Record) async throws -> End {
    var hello = WireHello()
    hello.protocolVersion = protocolVersion
    hello.clientName = name
    try await connection.send(WireEnvelope(.hello(hello)))
    var sent: [UInt64: ContinuousClock.Instant] = [:]
    let expectation = layout
    while let inbound = try await connection.receive(expecting: { _ in .state(expectation) }) {
      switch inbound.envelope.message {
      case .welcome(let welcome):
        var ready = WireReady()
        ready.runID = "load"
        ready.manifestSha256 = welcome.manifestSha256
        ready.examples = 1
        try await connection.send(WireEnvelope(.ready(ready)))
        record.joined.withLock { $0 += 1 }
      case .round(let round):
        if churn > 0, Double.random(in: 0..<1) < churn / 2 { return .left }
        var update = WireUpdate()
        update.runID = round.runID
        update.round = round.round
        update.examples = 1
        sent[round.round] = .now
        try await connection.send(WireEnvelope(.update(update)), payload: payload)
        record.updates.withLock { $0 += 1 }
      case .ack(let ack):
        if let start = sent.removeValue(forKey: ack.round) {
          record.submissions.withLock { $0.add(ContinuousClock.now - start) }
        }
        if churn > 0, Double.random(in: 0..<1) < churn / 2 { return .left }
      case .goodbye: return .over
      default: break
      }
    }
    return churn > 0 ? .left : .over
  }
}
