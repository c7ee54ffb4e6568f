import FedLoRAClient
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

@Suite("A client's identity", .timeLimit(.minutes(1)))
struct IdentityKeeperTests {
  private let scratch: ScratchFolder
  private let authority: AuthorityFolder

  init() throws {
    scratch = try ScratchFolder()
    authority = try AuthorityFolder.create(in: scratch.appending("ca"))
  }

  /// What the keeper says first, while it looks after `folder`.
  private func firstNote(_ folder: URL, within deadline: Duration = .seconds(20)) async throws -> String {
    let notes = EventLog<String>()
    let keeper = IdentityKeeper(folder: folder, interval: .seconds(3600), logger: Project.silent, note: notes.record)
    let running = Task { await keeper.run() }
    defer { running.cancel() }
    return try await notes.first(within: deadline) { _ in true }
  }

  @Test("is renewed where it came from once two thirds of its time are over, and not before")
  func renews() async throws {
    let server = try await EnrolmentServer.bind(authority, host: "127.0.0.1", port: 0, logger: Project.silent)
    let serving = Task { await server.run() }
    let address = EnrolmentAddress(host: "127.0.0.1", port: server.port)
    func enrol(_ name: String, days: Double) async throws -> URL {
      let folder = scratch.appending(name)
      let token = try authority.makeToken(for: try ParticipantName(name), validFor: 60, days: days).token
      try await Enrolment.enrol(token, at: address, to: folder)
      return folder
    }
    // A certificate begins five minutes before it is made: one of ninety seconds is due at once.
    let old = try await enrol("old", days: 90.0 / 86_400)
    let before = try TLSIdentity.load(from: old).serial
    #expect(try await firstNote(old).contains("renewed"))
    #expect(try TLSIdentity.load(from: old).serial != before)
    let young = try await enrol("young", days: 30)
    let kept = try TLSIdentity.load(from: young).serial
    await #expect(throws: DeadlineExceeded.self) { try await firstNote(young, within: .milliseconds(300)) }
    #expect(try TLSIdentity.load(from: young).serial == kept)
    serving.cancel()
    await serving.value
  }

  @Test("is warned about where it cannot be renewed")
  func warns() async throws {
    let name = try ParticipantName("carried")
    let folder = try authority.issueParticipant(name, validity: .days(90.0 / 86_400))
    #expect(try await firstNote(folder).contains("fedlora enroll --renew"))
  }
}
