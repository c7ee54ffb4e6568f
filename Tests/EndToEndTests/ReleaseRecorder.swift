import Crypto
import FedLoRACheckpoint
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import SwiftProtobuf
import Synchronization

/// A coordinator of the test's making that asks one client for round after round and keeps a record of its own of all that
/// the client ever sent: the other side's view of what was released.
///
/// A round that the client did not answer is asked for again when it comes back, as often as it takes.
final class ReleaseRecorder: Sendable {
  /// What one round's updates were, and what was declined.
  struct Record: Sendable {
    /// Digests of the updates of each round; more than one different one would be two releases.
    var releases: [Int: Set<Data>] = [:]
    /// Codes of declined rounds.
    var declines: [String] = []
    /// The round that is asked for.
    var round = 1
    /// The shortest time from a question to its answer.
    var fastest: Duration?

    var released: Int { releases.values.reduce(0) { $0 + $1.count } }
  }

  private struct Unexpected: Error { let message: String }

  private let server: PeerServer
  private let manifest: WireRunManifest
  private let state: TensorSet
  private let kept = Mutex(Record())
  /// A line for each decline.
  let declined = EventLog<String>()
  /// The number of each round that was answered.
  let answered = EventLog<Int>()
  /// What broke a session that no kill explains.
  let faults = EventLog<String>()

  init(_ manifest: WireRunManifest, _ state: TensorSet, identity: TLSIdentity) async throws {
    self.manifest = manifest
    self.state = state
    server = try await PeerServer.bind(host: "127.0.0.1", port: 0, identity: identity, logger: Project.silent)
  }

  var port: Int { server.port }
  var record: Record { kept.withLock { $0 } }

  func stop() { server.shutdown() }

  func serve() async {
    await server.run { connection in
      do { try await self.session(connection) } catch let error as Unexpected {
        self.faults.record(error.message)
      } catch {
        // A killed client leaves all kinds of broken connections.
      }
    }
  }

  private func session(_ connection: PeerConnection) async throws {
    guard case .hello? = try await connection.receive()?.envelope.message else { return }
    connection.admit()
    var welcome = WireWelcome()
    welcome.manifest = try manifest.serializedData()
    welcome.manifestSha256 = Data(SHA256.hash(data: welcome.manifest))
    try await connection.send(WireEnvelope(.welcome(welcome)))
    guard let answer = try await connection.receive()?.envelope.message else { return }
    guard case .ready(let ready) = answer else { throw Unexpected(message: "\(answer)") }
    var asked = ContinuousClock.now
    if ready.pendingRound == 0 { try await ask(connection) }
    let layout = try TensorLayout(manifest.update)
    while let inbound = try await connection.receive(expecting: { _ in .update(layout) }) {
      switch inbound.envelope.message {
      case .update(let update)?:
        if update.round != ready.pendingRound {
          let time = ContinuousClock.now - asked
          kept.withLock { $0.fastest = min($0.fastest ?? time, time) }
        }
        try await accept(update, connection)
        asked = .now
        try await ask(connection)
      case .decline(let decline)?:
        kept.withLock { $0.declines.append(decline.code) }
        declined.record(decline.code)
      default: throw Unexpected(message: inbound.envelope.messageName)
      }
    }
  }

  private func ask(_ connection: PeerConnection) async throws {
    var round = WireRound()
    round.runID = manifest.runID
    round.round = UInt64(record.round)
    round.deadlineSeconds = 60
    try await connection.send(WireEnvelope(.round(round)), payload: state)
  }

  private func accept(_ update: WireUpdate, _ connection: PeerConnection) async throws {
    let number = Int(update.round)
    kept.withLock {
      $0.releases[number, default: []].insert(update.tensors.sha256)
      $0.round = max($0.round, number + 1)
    }
    answered.record(number)
    var ack = WireAck()
    ack.runID = manifest.runID
    ack.round = update.round
    ack.status = .accepted
    try await connection.send(WireEnvelope(.ack(ack)))
  }
}
