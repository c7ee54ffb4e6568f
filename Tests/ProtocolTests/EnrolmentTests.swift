import Crypto
import FedLoRAProtocol
import Foundation
import Logging
import NIOCore
import NIOSSL
import Testing

/// An authority in a scratch folder whose enrolment service listens on loopback.
struct EnrolmentDeployment {
  let scratch: URL
  let authority: AuthorityFolder
  let server: EnrolmentServer
  let refusals: AsyncStream<RefusedPeer>

  var address: EnrolmentAddress { EnrolmentAddress(host: "127.0.0.1", port: server.port) }

  static func with(
    limiter: AttemptLimiter = AttemptLimiter(),
    configuration: TransportConfiguration = EnrolmentServer.bounds,
    _ body: (EnrolmentDeployment) async throws -> Void
  ) async throws {
    let scratch = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: scratch) }
    let authority = try AuthorityFolder.create(in: scratch.appendingPathComponent("ca"))
    let (refusals, continuation) = AsyncStream<RefusedPeer>.makeStream()
    let server = try await EnrolmentServer.bind(
      authority,
      host: "127.0.0.1",
      port: 0,
      limiter: limiter,
      configuration: configuration,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
      onRefusal: { continuation.yield($0) }
    )
    let running = Task { await server.run() }
    let deployment = EnrolmentDeployment(scratch: scratch, authority: authority, server: server, refusals: refusals)
    do { try await body(deployment) } catch {
      running.cancel()
      await running.value
      throw error
    }
    running.cancel()
    await running.value
  }

  func token(_ name: String, validFor seconds: Double = 60, at date: Date = Date()) throws -> EnrolmentToken {
    try authority.makeToken(
      for: try ParticipantName(name),
      validFor: seconds,
      days: 30,
      address: address.description,
      at: date
    ).token
  }

  func folder(_ name: String) -> URL { scratch.appendingPathComponent(name) }

  /// The code with which something is refused.
  func refusal(_ body: () async throws -> Void) async -> String {
    do {
      try await body()
      return "accepted"
    } catch TransportError.peerReported(let code, _) {
      return code.rawValue
    } catch { return "\(error)" }
  }
}

@Suite("Enrolment", .timeLimit(.minutes(1)))
struct EnrolmentTests {
  @Test("gives a certificate for a key that stays, readable by its owner only", arguments: IdentityKeyKind.allCases)
  func enrols(kind: IdentityKeyKind) async throws {
    try await EnrolmentDeployment.with { deployment in
      let folder = deployment.folder("alice")
      let token = try EnrolmentToken(try deployment.token("alice").text)
      #expect(token.authorityFingerprint == deployment.authority.authority.fingerprint)
      let identity = try await Enrolment.enrol(token, at: deployment.address, to: folder, key: kind)
      #expect(identity.participant?.rawValue == "alice" && identity.keyKind == kind)
      #expect(abs(identity.expiry.daysLeft() - 30) < 0.01)
      #expect(identity.revocations?.number == 1)
      for (name, wanted) in [("key.pem", 0o600), ("certificate.pem", 0o644), ("ca.pem", 0o644)] {
        let path = folder.appendingPathComponent(name).path
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == wanted)
      }
      #expect(Enrolment.address(of: folder) == deployment.address)
      let issued = try deployment.authority.certificates().filter { $0.name != nil }
      #expect(issued.map(\.serial) == [identity.serial] && issued[0].origin == .enrolled)
      // Neither the token's secret nor the key is in the authority's files.
      let register = try String(contentsOf: deployment.folder("ca/register.json"), encoding: .utf8)
      #expect(!register.contains(token.text.dropFirst(60).prefix(20)))
      #expect(!FileManager.default.fileExists(atPath: deployment.folder("ca/participants").path))
      // It is good for a run.
      let server = try await PeerServer.bind(
        host: "127.0.0.1",
        port: 0,
        identity: try TLSIdentity.load(from: deployment.authority.coordinator)
      )
      async let running: Void = server.run { connection in
        #expect(connection.peer.participant?.rawValue == "alice" && connection.peerSerial == identity.serial)
      }
      let connection = try await PeerClient(identity: identity).connect(host: "127.0.0.1", port: server.port)
      _ = try? await connection.receive()
      await connection.close()
      server.shutdown()
      await running
    }
  }

  @Test("gives the same certificate again where the answer was lost, and to nobody else")
  func lostAnswer() async throws {
    try await EnrolmentDeployment.with { deployment in
      let token = try deployment.token("alice")
      let folder = deployment.folder("alice")
      let first = try await Enrolment.enrol(token, at: deployment.address, to: folder)
      // As if the answer had never come.
      try FileManager.default.removeItem(at: folder.appendingPathComponent("certificate.pem"))
      let again = try await Enrolment.enrol(token, at: deployment.address, to: folder)
      #expect(again.serial == first.serial)
      let thief = await deployment.refusal {
        try await Enrolment.enrol(token, at: deployment.address, to: deployment.folder("thief"))
      }
      #expect(thief == "used-token")
      #expect(await deployment.refusals.first()?.code == .usedToken)
      #expect(try deployment.authority.certificates().count { $0.name != nil } == 1)
      // What was revoked is not given again.
      _ = try deployment.authority.revoke(.participant(try ParticipantName("alice")))
      try FileManager.default.removeItem(at: folder.appendingPathComponent("certificate.pem"))
      let revoked = await deployment.refusal { try await Enrolment.enrol(token, at: deployment.address, to: folder) }
      #expect(revoked == "revoked")
    }
  }

  @Test("gives one certificate to a token that many use at once")
  func race() async throws {
    let limiter = AttemptLimiter(burst: 100, totalBurst: 100)
    try await EnrolmentDeployment.with(limiter: limiter) { deployment in
      let token = try deployment.token("alice")
      let (address, folders) = (deployment.address, (0..<8).map { deployment.folder("racer-\($0)") })
      let codes = await withTaskGroup(of: String.self) { group in
        for folder in folders {
          group.addTask {
            do {
              return try await Enrolment.enrol(token, at: address, to: folder).serial.rawValue
            } catch TransportError.peerReported(let code, _) { return code.rawValue } catch { return "\(error)" }
          }
        }
        return await group.reduce(into: [String]()) { $0.append($1) }
      }
      #expect(codes.filter { $0 == "used-token" }.count == 7, "\(codes)")
      #expect(try deployment.authority.certificates().count { $0.name != nil } == 1)
    }
  }

  @Test("refuses tokens that are unknown, changed, late, revoked, or for another name")
  func refusals() async throws {
    try await EnrolmentDeployment.with(limiter: AttemptLimiter(burst: 100, totalBurst: 100)) { deployment in
      func attempt(_ token: EnrolmentToken) async -> String {
        await deployment.refusal {
          try await Enrolment.enrol(token, at: deployment.address, to: deployment.folder(UUID().uuidString))
        }
      }
      // Another authority's folder with the same certificate does not exist; a token that was never written down does.
      let stranger = try AuthorityFolder.create(in: deployment.folder("stranger"))
      let foreign = try stranger.makeToken(for: try ParticipantName("alice"), validFor: 60, days: 1).token
      #expect(await attempt(foreign).contains("unknown-authority"))
      let good = try deployment.token("alice")
      #expect(await attempt(try Self.changed(good, secret: true)) == "unknown-token")
      #expect(await attempt(try Self.changed(good, secret: false)) == "unknown-token")
      #expect(await attempt(try Self.renamed(good, to: "mallory")) == "name-mismatch")
      let late = try deployment.token("late", validFor: 1, at: Date(timeIntervalSinceNow: -60))
      #expect(await attempt(late) == "expired")
      let revoked = try deployment.token("bob")
      #expect(try deployment.authority.revoke(.participant(try ParticipantName("bob"))).tokens == 1)
      #expect(await attempt(revoked) == "revoked")
      #expect(try deployment.authority.certificates().allSatisfy { $0.name == nil })
      // None of this used the good one up.
      #expect(await attempt(good) == "accepted")
    }
  }

  /// The same word with one bit of its secret, or of its id, changed and the check sum made right.
  private static func changed(_ token: EnrolmentToken, secret: Bool) throws -> EnrolmentToken {
    var bytes = try bytes(token)
    bytes[secret ? 45 : 33] ^= 1
    return try EnrolmentToken(word(bytes))
  }

  private static func renamed(_ token: EnrolmentToken, to name: String) throws -> EnrolmentToken {
    var bytes = try bytes(token)
    let length = Int(bytes[72])
    bytes.replaceSubrange(72..<(73 + length), with: [UInt8(name.utf8.count)] + Array(name.utf8))
    return try EnrolmentToken(word(bytes))
  }

  private static func bytes(_ token: EnrolmentToken) throws -> [UInt8] {
    var base64 = token.text.dropFirst(4).replacingOccurrences(of: "-", with: "+")
      .replacingOccurrences(of: "_", with: "/")
    base64 += String(repeating: "=", count: (4 - base64.count % 4) % 4)
    return Array(try #require(Data(base64Encoded: base64)).dropLast(4))
  }

  private static func word(_ bytes: [UInt8]) -> String {
    let whole = Data(bytes + SHA256.hash(data: bytes).prefix(4))
    return "fl1."
      + whole.base64EncodedString().replacingOccurrences(of: "+", with: "-").replacingOccurrences(of: "/", with: "_")
      .replacingOccurrences(of: "=", with: "")
  }

  @Test("tells a token that was not copied whole")
  func torn() async throws {
    let scratch = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: scratch) }
    let token = try AuthorityFolder.create(in: scratch)
      .makeToken(for: try ParticipantName("a"), validFor: 60, days: 1, address: "[::1]:7444").token
    #expect(try EnrolmentToken("  " + token.text + "\n") == token)
    #expect(EnrolmentAddress(token.address) == EnrolmentAddress(host: "::1", port: 7444))
    #expect(throws: IdentityError.self) {
      try AuthorityFolder.open(scratch)
        .makeToken(
          for: try ParticipantName("a"),
          validFor: 60,
          days: 1,
          address: String(repeating: "ä", count: 128) + ":7444"
        )
    }
    for text in ["", ":7444", "[]:7444", "host", "host:0", "host:65536"] { #expect(EnrolmentAddress(text) == nil) }
    for text in [String(token.text.dropLast()), String(token.text.dropFirst()), "fl1.", "", token.text + "AAAA"] {
      #expect(throws: IdentityError.self) { try EnrolmentToken(text) }
    }
  }

  @Test("renews an identity with a new key, again after a lost answer with the same certificate")
  func renewal() async throws {
    try await EnrolmentDeployment.with { deployment in
      let folder = deployment.folder("alice")
      let first = try await Enrolment.enrol(try deployment.token("alice"), at: deployment.address, to: folder)
      let before = try Data(contentsOf: folder.appendingPathComponent("key.pem"))
      let second = try await Enrolment.renew(folder)
      #expect(second.serial != first.serial && second.participant == first.participant)
      #expect(abs(second.expiry.daysLeft() - 30) < 0.01)
      let after = try Data(contentsOf: folder.appendingPathComponent("key.pem"))
      #expect(
        before != after && !FileManager.default.fileExists(atPath: folder.appendingPathComponent("next-key.pem").path)
      )
      #expect(try TLSIdentity.load(from: folder).serial == second.serial)
      let issued = try deployment.authority.certificates().filter { $0.name != nil }
      #expect(issued.map(\.origin) == [.enrolled, .renewed])
    }
  }

  @Test("leaves a whole identity wherever a renewal was interrupted")
  func interrupted() async throws {
    try await EnrolmentDeployment.with { deployment in
      let folder = deployment.folder("alice")
      func file(_ name: String) -> URL { folder.appendingPathComponent(name) }
      let first = try await Enrolment.enrol(try deployment.token("alice"), at: deployment.address, to: folder)
      let (oldKey, oldCertificate) = (
        try Data(contentsOf: file("key.pem")), try Data(contentsOf: file("certificate.pem"))
      )
      let second = try await Enrolment.renew(folder)
      let newKey = try Data(contentsOf: file("key.pem"))
      let newCertificate = try Data(contentsOf: file("certificate.pem"))
      // The request was sent, and no answer came: the old identity, and the next renewal asks with the same key.
      try oldKey.write(to: file("key.pem"))
      try oldCertificate.write(to: file("certificate.pem"))
      try newKey.write(to: file("next-key.pem"))
      #expect(try TLSIdentity.load(from: folder).serial == first.serial)
      #expect(try await Enrolment.renew(folder).serial == second.serial)
      #expect(try deployment.authority.certificates().count { $0.name != nil } == 2)
      // The certificate was renamed, and the key not yet.
      try oldKey.write(to: file("key.pem"))
      try newKey.write(to: file("next-key.pem"))
      try newCertificate.write(to: file("certificate.pem"))
      #expect(try TLSIdentity.load(from: folder).serial == second.serial)
      let third = try await Enrolment.renew(folder)
      #expect(third.serial != second.serial)
      #expect(try TLSIdentity.load(from: folder).serial == third.serial)
    }
  }

  @Test("leaves a whole identity where many renew it at once")
  func manyRenewals() async throws {
    let limiter = AttemptLimiter(burst: 100, totalBurst: 100)
    try await EnrolmentDeployment.with(limiter: limiter) { deployment in
      let folder = deployment.folder("alice")
      let first = try await Enrolment.enrol(try deployment.token("alice"), at: deployment.address, to: folder)
      let serials = try await withThrowingTaskGroup(of: CertificateSerial?.self) { group in
        for _ in 0..<8 {
          group.addTask {
            // Who comes back after others have renewed twice is told so.
            do { return try await Enrolment.renew(folder).serial } catch IdentityError.invalidFile { return nil }
          }
        }
        return try await group.reduce(into: Set<CertificateSerial>()) { if let serial = $1 { $0.insert(serial) } }
      }
      let present = try TLSIdentity.load(from: folder)
      #expect(serials.contains(present.serial) && present.serial != first.serial)
      #expect(try await Enrolment.renew(folder).serial != present.serial)
    }
  }

  @Test("does not replace the key that a token may be used for already")
  func otherKind() async throws {
    try await EnrolmentDeployment.with { deployment in
      let token = try deployment.token("alice")
      let folder = deployment.folder("alice")
      let first = try await Enrolment.enrol(token, at: deployment.address, to: folder)
      // As if the answer had never come.
      try FileManager.default.removeItem(at: folder.appendingPathComponent("certificate.pem"))
      let key = folder.appendingPathComponent("key.pem")
      await #expect(throws: IdentityError.alreadyExists(path: key.path)) {
        try await Enrolment.enrol(token, at: deployment.address, to: folder, key: .ed25519)
      }
      #expect(try await Enrolment.enrol(token, at: deployment.address, to: folder).serial == first.serial)
    }
  }

  @Test("keeps half of its places for those who have a certificate")
  func placesForParticipants() async throws {
    var configuration = EnrolmentServer.bounds
    configuration.maximumConnections = 2
    try await EnrolmentDeployment.with(configuration: configuration) { deployment in
      let folder = deployment.folder("alice")
      let alice = try await Enrolment.enrol(try deployment.token("alice"), at: deployment.address, to: folder)
      var tls = TLSConfiguration.makeClientConfiguration()
      tls.certificateVerification = .none
      while deployment.server.connectionCount > 0 { await Task.yield() }
      let mute = try await RawClient.connect(port: deployment.server.port, tls: tls)
      while deployment.server.connectionCount < 1 { await Task.yield() }
      let second = try await RawClient.connect(port: deployment.server.port, tls: tls)
      #expect(await deployment.refusals.first()?.code == .tooManyConnections)
      #expect(try await Enrolment.renew(folder).serial != alice.serial)
      for stranger in [mute, second] { await stranger.close() }
    }
  }

  @Test("renews nobody without a certificate, with a revoked one, with the coordinator's, or under another name")
  func refusedRenewal() async throws {
    try await EnrolmentDeployment.with(limiter: AttemptLimiter(burst: 100, totalBurst: 100)) { deployment in
      let folder = deployment.folder("alice")
      let alice = try await Enrolment.enrol(try deployment.token("alice"), at: deployment.address, to: folder)
      _ = try await Enrolment.enrol(
        try deployment.token("mallory"),
        at: deployment.address,
        to: deployment.folder("mallory")
      )
      // Mallory's key and certificate cannot ask for alice's name: the name is the certificate's.
      let mallory = try await Enrolment.renew(deployment.folder("mallory"))
      #expect(mallory.participant?.rawValue == "mallory")
      await #expect(throws: IdentityError.self) {
        try await Enrolment.renew(deployment.authority.coordinator, at: deployment.address)
      }
      _ = try deployment.authority.revoke(.serial(alice.serial))
      let code = await deployment.refusal { try await Enrolment.renew(folder) }
      #expect(code == "revoked" || code.contains("refuses this side"), "\(code)")
      #expect(try TLSIdentity.load(from: folder).serial == alice.serial)
    }
  }

  @Test("gives a participant a bounded number of certificates in a day")
  func tooManyRenewals() async throws {
    try await EnrolmentDeployment.with(limiter: AttemptLimiter(burst: 100, totalBurst: 100)) { deployment in
      let folder = deployment.folder("alice")
      try await Enrolment.enrol(try deployment.token("alice"), at: deployment.address, to: folder)
      for _ in 0..<10 { try await Enrolment.renew(folder) }
      #expect(await deployment.refusal { try await Enrolment.renew(folder) } == "try-later")
    }
  }

  @Test("answers a bounded number of requests of one network")
  func rate() async throws {
    try await EnrolmentDeployment.with(limiter: AttemptLimiter(burst: 2, perSecond: 0)) { deployment in
      var codes: [String] = []
      let foreign = try Self.changed(try deployment.token("alice"), secret: true)
      for index in 0..<3 {
        codes.append(
          await deployment.refusal {
            try await Enrolment.enrol(foreign, at: deployment.address, to: deployment.folder("guess-\(index)"))
          }
        )
      }
      #expect(codes == ["unknown-token", "unknown-token", "try-later"])
      #expect(deployment.server.refusals[.unknownToken] == 2 && deployment.server.refusals[.tryLater] == 1)
    }
  }

  @Test("speaks of nothing else, and lets nobody in who says nothing")
  func nothingElse() async throws {
    var configuration = EnrolmentServer.bounds
    configuration.helloTimeout = .milliseconds(300)
    try await EnrolmentDeployment.with(configuration: configuration) { deployment in
      let identity = try deployment.authority.authority.issueParticipant(try ParticipantName("alice"))
      // A client of a run finds that this is no coordinator.
      await #expect {
        try await PeerClient(identity: identity).connect(host: "127.0.0.1", port: deployment.server.port)
      } throws: { error in
        guard case .untrustedPeer(_, .wrongRole, _)? = error as? TransportError else { return false }
        return true
      }
      _ = await deployment.refusals.first()
      var tls = try identity.configuration(isServer: false)
      tls.certificateVerification = .none
      let mute = try await RawClient.connect(port: deployment.server.port, tls: tls)
      #expect(await deployment.refusals.first()?.code == .helloTimeout)
      await mute.close()
      let rude = try await RawClient.connect(port: deployment.server.port, tls: tls)
      rude.write(try Frame.encode(hello("alice")))
      #expect(await deployment.refusals.first()?.code == "unexpected-message")
      await rude.close()
    }
  }

  @Test("is refused by the participant where the service is the coordinator, a participant, or nobody of the authority")
  func impostors() async throws {
    let scratch = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: scratch) }
    let authority = try AuthorityFolder.create(in: scratch.appendingPathComponent("ca"))
    let token = try authority.makeToken(for: try ParticipantName("alice"), validFor: 60, days: 1).token
    for impostor in [
      try authority.authority.issueCoordinator(), try authority.authority.issueParticipant(try ParticipantName("m")),
      try CertificateAuthority().issueCoordinator(),
    ] {
      let server = try await PeerServer.bind(host: "127.0.0.1", port: 0, identity: impostor)
      async let running: Void = server.run { _ in Issue.record("somebody without a certificate was let in") }
      await #expect {
        try await Enrolment.enrol(
          token,
          at: EnrolmentAddress(host: "127.0.0.1", port: server.port),
          to: scratch.appendingPathComponent("alice")
        )
      } throws: { error in
        guard case .untrustedPeer? = error as? TransportError else { return false }
        return true
      }
      server.shutdown()
      await running
    }
  }
}

@Suite("The limit on attempts")
struct AttemptLimiterTests {
  @Test("holds for a network and for all, and is lifted with time")
  func limits() throws {
    var now = NIODeadline.uptimeNanoseconds(1_000_000_000)
    var limiter = AttemptLimiter(burst: 2, perSecond: 1, totalBurst: 5, totalPerSecond: 1, now: now)
    func admits(_ host: Int) throws -> Bool {
      limiter.admits(try SocketAddress(ipAddress: "10.0.0.\(host)", port: 1), at: now)
    }
    #expect(try admits(1))
    #expect(try admits(1))
    #expect(try !admits(1))
    for host in 2...4 { #expect(try admits(host)) }
    // All together have had theirs.
    #expect(try !admits(5))
    now = now + .seconds(1)
    #expect(try admits(5))
    #expect(try !admits(6))
  }

  @Test("tells apart IPv4 addresses and the /64 of IPv6 addresses")
  func networks() throws {
    let now = NIODeadline.uptimeNanoseconds(1_000_000_000)
    func isSame(_ left: String, _ right: String) throws -> Bool {
      var limiter = AttemptLimiter(burst: 1, perSecond: 0, now: now)
      #expect(limiter.admits(try SocketAddress(ipAddress: left, port: 1), at: now))
      return !limiter.admits(try SocketAddress(ipAddress: right, port: 2), at: now)
    }
    #expect(try isSame("10.1.2.3", "10.1.2.3"))
    #expect(try !isSame("10.1.2.3", "10.1.2.4"))
    #expect(try isSame("10.1.2.3", "::ffff:10.1.2.3"))
    #expect(try !isSame("10.1.2.3", "::ffff:10.1.2.4"))
    #expect(try isSame("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"))
    #expect(try !isSame("2001:db8:1:2::1", "2001:db8:1:3::1"))
  }
}
