import Crypto
import FedLoRACheckpoint
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import SwiftProtobuf

/// A coordinator of the test's making: it plays a script on each connection, one after the other.
struct FakeCoordinator: Sendable {
  typealias Script = @Sendable (FakeSession, EventLog<WireUpdate>) async throws -> Void

  fileprivate let server: PeerServer
  fileprivate let run: ToyRun
  fileprivate let script: Script

  var port: Int { server.port }

  func serve(_ log: EventLog<WireUpdate>) async throws {
    let errors = EventLog<any Error>()
    await server.run { connection in
      do {
        let session = try await FakeSession(connection, run)
        try await script(session, log)
      } catch { errors.record(error) }
    }
    if let error = errors.events.first { throw error }
  }

  func stop() { server.shutdown() }
}

extension FederatedClientTests {
  func fakeCoordinator(_ run: ToyRun, script: @escaping FakeCoordinator.Script) async throws -> FakeCoordinator {
    let authority = project.authority
    let server = try await PeerServer.bind(
      host: "127.0.0.1",
      port: 0,
      identity: try authority.issueCoordinator(),
      logger: Project.silent
    )
    return FakeCoordinator(server: server, run: run, script: script)
  }
}

/// One connection of the fake coordinator, past Ready.
struct FakeSession: Sendable {
  let connection: PeerConnection
  let pendingRound: Int
  private let run: ToyRun

  init(_ connection: PeerConnection, _ run: ToyRun) async throws {
    self.connection = connection
    self.run = run
    guard case .hello? = try await connection.receive()?.envelope.message else { throw RawParticipant.Unexpected() }
    connection.admit()
    var welcome = WireWelcome()
    welcome.manifest = try run.manifest.serializedData()
    welcome.manifestSha256 = Data(SHA256.hash(data: welcome.manifest))
    try await connection.send(WireEnvelope(.welcome(welcome)))
    guard case .ready(let ready)? = try await connection.receive()?.envelope.message else {
      throw RawParticipant.Unexpected()
    }
    pendingRound = Int(ready.pendingRound)
  }

  /// Sends a round and reads the update that comes of it.
  func sendRound(_ number: Int) async throws -> WireUpdate {
    var round = WireRound()
    round.runID = run.manifest.runID
    round.round = UInt64(number)
    try await connection.send(WireEnvelope(.round(round)), payload: run.initialState)
    return try await receiveUpdate()
  }

  func receiveUpdate() async throws -> WireUpdate {
    let layout = try TensorLayout(run.manifest.update)
    guard let inbound = try await connection.receive(expecting: { _ in .update(layout) }), inbound.tensors != nil,
      case .update(let update)? = inbound.envelope.message
    else { throw RawParticipant.Unexpected() }
    return update
  }

  func acknowledge(_ round: Int) async throws {
    var ack = WireAck()
    ack.runID = run.manifest.runID
    ack.round = UInt64(round)
    ack.status = .accepted
    try await connection.send(WireEnvelope(.ack(ack)))
  }

  func complete() async throws {
    var goodbye = WireGoodbye()
    goodbye.outcome = .completed
    try await connection.send(WireEnvelope(.goodbye(goodbye)), payload: run.initialState)
    // The client closes.
    _ = try await connection.receive()
  }
}
