import FedLoRACheckpoint
import FedLoRAClient
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import NIOCore
import Testing

@Suite("A participant can act for nobody else", .timeLimit(.minutes(1)))
struct ActingForOthersTests {
  private let project: Project

  init() throws { project = try Project() }

  private func end(_ coordinator: RunningCoordinator) async throws {
    await coordinator.server.stop(reason: "the test is over")
    _ = try await coordinator.result()
  }

  private func accepted(_ coordinator: RunningCoordinator) -> [String] {
    coordinator.log.events.compactMap { if case .updateAccepted(_, let name, _) = $0 { name } else { nil } }
  }

  @Test("an update counts for the certificate's name, whatever it holds, and takes nobody's place")
  func updates() async throws {
    let coordinator = try await project.serve(try ToyRun(.fedit, head: .shared, rounds: 1, clients: 2))
    let mallory = try await RawParticipant.join(try project.identity("mallory"), port: coordinator.port)
    let alice = try await RawParticipant.join(try project.identity("alice"), port: coordinator.port)
    _ = try await mallory.round()
    _ = try await alice.round()
    // Alice's very bytes, from mallory: they are mallory's.
    let (update, tensors) = alice.update(round: 1, client: "alice")
    try await mallory.send(update, tensors)
    #expect(try await mallory.ack().status == .accepted)
    #expect(accepted(coordinator) == ["mallory"])
    // A second one of mallory's does not stand in for alice either.
    let (another, other) = mallory.update(round: 1, client: "another")
    try await mallory.send(another, other)
    #expect(try await mallory.ack().status != .accepted)
    #expect(accepted(coordinator) == ["mallory"])
    try await alice.send(update, tensors)
    #expect(try await alice.ack().status == .accepted)
    #expect(accepted(coordinator) == ["mallory", "alice"])
    #expect(try await coordinator.counts(ofRound: 1)["accepted"] == 2)
    for participant in [mallory, alice] {
      _ = try await participant.next { if case .goodbye? = $0.message { true } else { false } }
      await participant.connection.close()
    }
    #expect(try await coordinator.result().outcome == .completed)
  }

  @Test("a participant that was not asked has no update in the round")
  func notAsked() async throws {
    let coordinator = try await project.serve(try ToyRun(.fedit, head: .shared, rounds: 1, clients: 2))
    let alice = try await RawParticipant.join(try project.identity("alice"), port: coordinator.port)
    let bob = try await RawParticipant.join(try project.identity("bob"), port: coordinator.port)
    _ = try await alice.round()
    let mallory = try await RawParticipant.join(try project.identity("mallory"), port: coordinator.port)
    let (update, tensors) = mallory.update(round: 1, client: "alice")
    try await mallory.send(update, tensors)
    #expect(try await mallory.ack().status == .late)
    #expect(accepted(coordinator).isEmpty)
    for participant in [alice, bob, mallory] { await participant.connection.close() }
    try await end(coordinator)
  }

  @Test("declining is for oneself")
  func declines() async throws {
    let coordinator = try await project.serve(try ToyRun(.fedit, head: .shared, rounds: 1, clients: 2, quorum: 1))
    let mallory = try await RawParticipant.join(try project.identity("mallory"), port: coordinator.port)
    let alice = try await RawParticipant.join(try project.identity("alice"), port: coordinator.port)
    _ = try await alice.round()
    var decline = WireDecline()
    decline.runID = mallory.manifest.runID
    decline.reason = "in alice's name"
    try await mallory.connection.send(WireEnvelope(.decline(decline)))
    try await coordinator.log.first { if case .declined(0, "mallory", _, _) = $0 { true } else { false } }
    let (update, tensors) = alice.update(round: 1, client: "alice")
    try await alice.send(update, tensors)
    #expect(try await alice.ack().status == .accepted)
    #expect(try await coordinator.counts(ofRound: 1)["accepted"] == 1)
    for participant in [mallory, alice] { await participant.connection.close() }
    try await end(coordinator)
  }

  /// What only a coordinator or an authority says.
  private static let foreignMessages: [WireEnvelope] = [
    WireEnvelope(.welcome(WireWelcome())), WireEnvelope(.round(WireRound())), WireEnvelope(.ack(WireAck())),
    WireEnvelope(.commit(WireCommit())), WireEnvelope(.wait(WireWait())),
    WireEnvelope(.enrolmentRequest(WireEnrolmentRequest())), WireEnvelope(.renewalRequest(WireRenewalRequest())),
    WireEnvelope(.enrolmentAnswer(WireEnrolmentAnswer())),
  ]

  @Test("what a coordinator says is refused from a participant, before and after Hello, and the run lives on")
  func coordinatorsMessages() async throws {
    let coordinator = try await project.serve(try ToyRun(.fedit, head: .shared, rounds: 1, clients: 2))
    let alice = try await RawParticipant.join(try project.identity("alice"), port: coordinator.port)
    for (index, message) in Self.foreignMessages.enumerated() {
      let early = try await PeerClient(identity: try project.identity("early-\(index)"))
        .connect(host: "127.0.0.1", port: coordinator.port)
      try await early.send(message)
      let late = try await RawParticipant.join(try project.identity("late-\(index)"), port: coordinator.port)
      try await late.connection.send(message)
      for connection in [early, late.connection] {
        do {
          let layout = try TensorLayout(alice.manifest.state)
          while try await connection.receive(expecting: { _ in .state(layout) }) != nil {}
          Issue.record("\(message.messageName) was let through")
        } catch TransportError.peerReported(let code, _) {
          #expect([.unexpectedStream, "unexpected-message"].contains(code), "\(message.messageName): \(code)")
        }
      }
    }
    #expect(coordinator.server.refusals.values.reduce(0, +) >= Self.foreignMessages.count)
    #expect(accepted(coordinator).isEmpty)
    // Nobody's round was closed, committed or ended by it.
    let overview = try RunOverview(reading: project.folder.appending("coordinator"))
    #expect(overview.rounds == 0 && overview.isServed)
    await alice.connection.close()
    try await end(coordinator)
  }

  @Test("what an operator says on the local socket means nothing on the run's port")
  func operatorsRequests() async throws {
    let coordinator = try await project.serve(try ToyRun())
    for line in ["{\"verb\":\"abort\",\"reason\":\"\"}\n", "\0\0\0\u{20}{\"verb\":\"abort\",\"reason\":\"x\"}\n   "] {
      let connection = try await PeerClient(identity: try project.identity("mallory"))
        .connect(host: "127.0.0.1", port: coordinator.port)
      try await connection.write(ByteBuffer(string: line))
      await #expect(throws: TransportError.self) { while try await connection.receive() != nil {} }
    }
    let overview = try RunOverview(reading: project.folder.appending("coordinator"))
    #expect(overview.isServed && overview.state == .pending)
    try await end(coordinator)
  }

  @Test("a participant's certificate serves no client as coordinator")
  func asCoordinator() async throws {
    let server = try await PeerServer.bind(
      host: "127.0.0.1",
      port: 0,
      identity: try project.identity("mallory"),
      logger: Project.silent
    )
    async let running: Void = server.run { _ in Issue.record("a client believed a participant") }
    let client = try project.client("alice", port: server.port)
    await #expect {
      _ = try await withDeadline { try await client.run() }
    } throws: { error in
      guard case .untrustedPeer(_, .wrongRole, let text)? = error as? TransportError else { return false }
      return text.contains("mallory")
    }
    server.shutdown()
    await running
  }

  @Test("who says no Hello in time is refused and told so")
  func noHello() async throws {
    var configuration = TransportConfiguration()
    configuration.helloTimeout = .milliseconds(300)
    let coordinator = try await project.serve(try ToyRun(), configuration: configuration)
    let connection = try await PeerClient(identity: try project.identity("mute"))
      .connect(host: "127.0.0.1", port: coordinator.port)
    do {
      while try await connection.receive() != nil {}
      Issue.record("a silent client was let go without a word")
    } catch TransportError.peerReported(let code, _) { #expect(code == .helloTimeout) }
    try await coordinator.log.first { if case .refused(_, "hello-timeout", _) = $0 { true } else { false } }
    #expect(coordinator.server.refusals[.helloTimeout] == 1)
    // Hello in time, and no limit afterwards.
    let good = try await RawParticipant.greet(try project.identity("good"), port: coordinator.port)
    try await Task.sleep(for: .milliseconds(600))
    try await good.ready()
    try await coordinator.log.first { if case .clientReady("good", _) = $0 { true } else { false } }
    await good.connection.close()
    try await end(coordinator)
  }
}

@Suite("Strangers at the door", .timeLimit(.minutes(1)))
struct StrangerTests {
  @Test("keep a client out only as long as they stand there: it comes back by itself")
  func crowdedDoor() async throws {
    let project = try Project()
    var configuration = TransportConfiguration()
    configuration.maximumPendingHandshakesPerNetwork = 1
    let coordinator = try await project.serve(
      try ToyRun(rounds: 1, clients: 1),
      configuration: configuration
    )
    let stranger = try silentConnection(to: coordinator.port)
    while coordinator.server.pendingConnections == 0 { try await Task.sleep(for: .milliseconds(5)) }
    let client = try project.client("alice", port: coordinator.port)
    let running = Task { try await client.run() }
    try await coordinator.log.first { if case .refused(_, "too-many-connections", _) = $0 { true } else { false } }
    close(stranger)
    #expect(try await withDeadline { try await running.value }.ending == .completed)
    #expect(try await coordinator.result().outcome == .completed)
  }

  /// A TCP connection that says nothing.
  private func silentConnection(to port: Int) throws -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    try #require(result == 0)
    return descriptor
  }
}
