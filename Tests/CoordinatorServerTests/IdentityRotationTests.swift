import FedLoRAClient
import FedLoRACoordinator
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

@Suite("A running coordinator", .timeLimit(.minutes(1)))
struct IdentityRotationTests {
  private let project: Project
  private let authority: AuthorityFolder

  init() throws {
    project = try Project()
    authority = try AuthorityFolder.create(in: project.folder.appending("ca"))
  }

  private var folder: URL { project.folder.appending("coordinator") }

  private func identity(_ name: String) throws -> TLSIdentity {
    try TLSIdentity.load(from: try authority.issueParticipant(try ParticipantName(name)))
  }

  private func serve(_ run: ToyRun? = nil) async throws -> RunningCoordinator {
    try await project.serve(try run ?? ToyRun(), identityFolder: authority.coordinator)
  }

  private func end(_ coordinator: RunningCoordinator) async throws {
    await coordinator.server.stop(reason: "the test is over")
    _ = try await coordinator.result()
  }

  private func reload() async throws -> OperatorReply {
    let reply = try await withDeadline { [folder] in
      try await OperatorSocket.ask(OperatorRequest(.reload), folder: folder)
    }
    return try #require(reply)
  }

  /// The reason that the coordinator gives when it closes.
  private func farewell(_ participant: RawParticipant) async throws -> FedLoRAProtocol.ReasonCode? {
    do {
      _ = try await participant.next { _ in false }
      return nil
    } catch TransportError.peerReported(let code, _) { return code }
  }

  @Test("takes a revocation into effect by itself, also on the connection that is open, and on nobody else's")
  func revocation() async throws {
    let coordinator = try await serve()
    let (alice, bob) = (try identity("alice"), try identity("bob"))
    let first = try await RawParticipant.join(alice, port: coordinator.port)
    let second = try await RawParticipant.join(bob, port: coordinator.port)
    _ = try authority.revoke(.participant(try ParticipantName("alice")))
    #expect(try await farewell(first) == .revoked)
    try await coordinator.log.first { if case .refused(_, "revoked", _) = $0 { true } else { false } }
    try await coordinator.log.first { if case .clientLost("alice", _) = $0 { true } else { false } }
    await #expect(throws: TransportError.self) { try await RawParticipant.join(alice, port: coordinator.port) }
    #expect(coordinator.server.refusals[.revoked] == 2)
    #expect(coordinator.server.identityStatus.revoked == 1 && coordinator.server.identityStatus.listNumber == 2)
    #expect(!coordinator.log.events.contains { if case .clientLost("bob", _) = $0 { true } else { false } })
    // A client of ours does not try for ever.
    let client = FederatedClient(
      identity: alice,
      host: "127.0.0.1",
      port: coordinator.port,
      stateDirectory: project.folder.appending("alice"),
      trainer: ToyTrainer(),
      logger: Project.silent
    )
    await #expect(throws: TransportError.self) { _ = try await withDeadline { try await client.run() } }
    await second.connection.close()
    try await end(coordinator)
  }

  @Test("is told to reload, and an older list or a missing one brings nobody back")
  func olderList() async throws {
    let old = try Data(contentsOf: authority.coordinator.appendingPathComponent("crl.pem"))
    let coordinator = try await serve()
    let alice = try identity("alice")
    _ = try authority.revoke(.participant(try ParticipantName("alice")))
    let reply = try await reload()
    #expect(reply.isAccepted && reply.message.contains("revocation list 2"), "\(reply.message)")
    let file = authority.coordinator.appendingPathComponent("crl.pem")
    try old.write(to: file)
    #expect(try await reload().isAccepted)
    try FileManager.default.removeItem(at: file)
    #expect(try await reload().isAccepted)
    #expect(coordinator.server.identityStatus.listNumber == 2)
    await #expect(throws: TransportError.self) { try await RawParticipant.join(alice, port: coordinator.port) }
    try await end(coordinator)
  }

  @Test("takes a new certificate into use by itself; who is connected stays so")
  func rotation() async throws {
    let coordinator = try await serve()
    let before = coordinator.server.identityStatus
    let alice = try await RawParticipant.join(try identity("alice"), port: coordinator.port)
    #expect(alice.connection.peerSerial == before.serial)
    let renewed = try authority.renewCoordinator(validity: .days(100))
    try await coordinator.log.first { if case .notice("identity-reloaded", _) = $0 { true } else { false } }
    #expect(coordinator.server.identityStatus.serial == renewed.serial && renewed.serial != before.serial)
    #expect(abs(coordinator.server.identityStatus.expiry.daysLeft() - 100) < 0.1)
    let status = try await withDeadline { [folder] in
      try await OperatorSocket.ask(OperatorRequest(.status), folder: folder)?.status
    }
    #expect(try abs(#require(status?.certificateDaysLeft) - 100) < 0.1)
    let bob = try await RawParticipant.join(try identity("bob"), port: coordinator.port)
    #expect(bob.connection.peerSerial == renewed.serial)
    try await coordinator.log.first { if case .clientReady("bob", 2) = $0 { true } else { false } }
    for participant in [alice, bob] { await participant.connection.close() }
    try await end(coordinator)
  }

  @Test("keeps what it has where the new files cannot be used, and says why")
  func unusable() async throws {
    let coordinator = try await serve()
    let before = coordinator.server.identityStatus
    let certificate = authority.coordinator.appendingPathComponent("certificate.pem")
    try Data("nonsense".utf8).write(to: certificate)
    let broken = try await reload()
    #expect(!broken.isAccepted && broken.message.contains("certificate.pem"), "\(broken.message)")
    try await coordinator.log.first { if case .notice("identity-refused", _) = $0 { true } else { false } }
    let stranger = try AuthorityFolder.create(in: project.folder.appending("stranger"))
    for name in ["key.pem", "certificate.pem", "ca.pem", "crl.pem"] {
      try Data(contentsOf: stranger.coordinator.appendingPathComponent(name))
        .write(to: authority.coordinator.appendingPathComponent(name))
    }
    let foreign = try await reload()
    #expect(!foreign.isAccepted && foreign.message.contains("another authority"), "\(foreign.message)")
    #expect(coordinator.server.identityStatus == before)
    let alice = try await RawParticipant.join(try identity("alice"), port: coordinator.port)
    await alice.connection.close()
    try await end(coordinator)
  }

  @Test("hears of revocations also once its own certificate has ended")
  func revocationAfterItsOwnEnd() async throws {
    try authority.renewCoordinator(
      validity: try CertificateValidity(
        notBefore: Date(timeIntervalSinceNow: -60),
        notAfter: Date(timeIntervalSinceNow: 5)
      )
    )
    let coordinator = try await serve()
    let alice = try await RawParticipant.join(try identity("alice"), port: coordinator.port)
    while coordinator.server.identityStatus.expiry.daysLeft() > 0 { try await Task.sleep(for: .milliseconds(100)) }
    _ = try authority.revoke(.participant(try ParticipantName("alice")))
    #expect(try await farewell(alice) == .revoked)
    #expect(coordinator.server.identityStatus.listNumber == 2)
    try await end(coordinator)
  }

  @Test("ends the connection of a certificate that ends while it is open")
  func endsWhileOpen() async throws {
    let coordinator = try await serve()
    let short = try authority.authority.issueParticipant(
      try ParticipantName("short"),
      validity: try CertificateValidity(
        notBefore: Date(timeIntervalSinceNow: -60),
        notAfter: Date(timeIntervalSinceNow: 3)
      )
    )
    let participant = try await RawParticipant.join(short, port: coordinator.port)
    #expect(try await farewell(participant) == .expired)
    try await end(coordinator)
  }

  @Test("is joined again by a client whose certificate was renewed while the one before ended")
  func renewedClient() async throws {
    let coordinator = try await serve(try ToyRun(rounds: 1, clients: 1))
    let name = try ParticipantName("alice")
    let place = project.folder.appending("alice-identity")
    let short = try authority.authority.issueParticipant(
      name,
      validity: try CertificateValidity(
        notBefore: Date(timeIntervalSinceNow: -60),
        notAfter: Date(timeIntervalSinceNow: 4)
      )
    )
    try short.save(to: place)
    let gate = Gate()
    let trainer = ToyTrainer { _ in try await gate.pass() }
    let client = FederatedClient(
      identity: short,
      host: "127.0.0.1",
      port: coordinator.port,
      stateDirectory: project.folder.appending("alice"),
      trainer: trainer,
      backoff: Backoff(initial: .milliseconds(10), longest: .milliseconds(200)),
      reload: { try TLSIdentity.load(from: place) },
      logger: Project.silent
    )
    let running = Task { try await client.run() }
    try await coordinator.log.first { if case .roundOpened(1, _, _) = $0 { true } else { false } }
    try FileManager.default.removeItem(at: place)
    try authority.authority.issueParticipant(name).save(to: place)
    try await coordinator.log.first { if case .refused(_, "expired", _) = $0 { true } else { false } }
    gate.open()
    #expect(try await withDeadline { try await running.value }.ending == .completed)
    #expect(try await coordinator.result().outcome == .completed)
    #expect(trainer.trained == [1])
  }

  @Test("warns in time of its own certificate's end")
  func warns() async throws {
    try authority.renewCoordinator(validity: .days(5))
    let coordinator = try await serve()
    let event = try await coordinator.log.first {
      if case .notice("certificate-ends", _) = $0 { true } else { false }
    }
    guard case .notice(_, let text) = event else { return }
    #expect(text.contains("renew-coordinator"))
    // The identity that takes its place is no reason to warn.
    let count = coordinator.log.events.count { if case .notice("certificate-ends", _) = $0 { true } else { false } }
    try authority.renewCoordinator()
    #expect(try await reload().isAccepted)
    #expect(
      coordinator.log.events.count { if case .notice("certificate-ends", _) = $0 { true } else { false } } == count
    )
    try await end(coordinator)
  }

  @Test("warns at its start and once a day")
  func daily() {
    let start = Date(timeIntervalSince1970: 1_800_000_000)
    var reminder = ExpiryReminder()
    let due = (0..<72).filter { reminder.isDue(at: start.addingTimeInterval(Double($0) * 3600)) }
    #expect(due == [0, 24, 48])
  }
}
