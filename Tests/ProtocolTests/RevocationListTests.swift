import FedLoRAProtocol
import Foundation
import Testing

@Suite("A revocation list", .timeLimit(.minutes(1)))
struct RevocationListTests {
  private let scratch = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)

  private func withAuthority(_ body: (AuthorityFolder) throws -> Void) throws {
    defer { try? FileManager.default.removeItem(at: scratch) }
    try body(try AuthorityFolder.create(in: scratch))
  }

  @Test("grows with every revocation, names what it takes back, and is copied to the coordinator")
  func grows() throws {
    try withAuthority { authority in
      let first = try #require(try authority.revocations())
      #expect(first.number == 1 && first.entries.isEmpty)
      let alice = try ParticipantName("alice")
      let identity = try TLSIdentity.load(from: try authority.issueParticipant(alice))
      let other = try TLSIdentity.load(from: try authority.issueParticipant(try ParticipantName("bob")))
      let result = try authority.revoke(.participant(alice), reason: "stolen")
      #expect(result.certificates == [identity.serial] && result.listNumber == 2)
      let list = try #require(try authority.revocations())
      #expect(list.number == 2 && list.contains(identity.serial) && !list.contains(other.serial))
      #expect(list.entries.count == 1)
      let copy = try TLSIdentity.load(from: authority.coordinator)
      #expect(copy.revocations == list)
      #expect(try authority.certificates().first { $0.name == alice }?.revocation?.reason == "stolen")
      // Again: nothing new, and the list stays.
      #expect(try authority.revoke(.participant(alice)).certificates.isEmpty)
      #expect(try authority.revocations()?.number == 2)
      #expect(throws: IdentityError.self) { try authority.revoke(.participant(try ParticipantName("nobody"))) }
    }
  }

  @Test("that a coordinator has is never replaced by an older one, also where the authority came back from a copy")
  func copiedBack() throws {
    try withAuthority { authority in
      func file(_ name: String) -> URL { authority.url.appendingPathComponent(name) }
      let alice = try ParticipantName("alice")
      let serial = try TLSIdentity.load(from: try authority.issueParticipant(alice)).serial
      let old = try ["register.json", "crl.pem"].map { ($0, try Data(contentsOf: file($0))) }
      _ = try authority.revoke(.participant(alice))
      for (name, data) in old { try data.write(to: file(name)) }
      _ = try authority.makeToken(for: try ParticipantName("bob"), validFor: 60, days: 1)
      let copy = try #require(try TLSIdentity.load(from: authority.coordinator).revocations)
      #expect(copy.number == 2 && copy.contains(serial))
      #expect(try authority.revocations()?.contains(serial) == true)
      #expect(try authority.certificates().first { $0.serial == serial }?.revocation != nil)
      try authority.renewCoordinator()
      #expect(try TLSIdentity.load(from: authority.coordinator).revocations?.number == 2)
    }
  }

  @Test("takes back a certificate by its number, also one that the register does not know")
  func byNumber() throws {
    try withAuthority { authority in
      let stranger = try authority.authority.issueParticipant(try ParticipantName("old")).serial
      #expect(try authority.revoke(.serial(stranger)).certificates == [stranger])
      #expect(try authority.revocations()?.contains(stranger) == true)
      #expect(try authority.revoke(.serial(stranger)).certificates.isEmpty)
      let colons = "0A:0b:FF"
      #expect(try CertificateSerial(colons).rawValue == "0a0bff")
      for bad in ["", "0", "00", "xyz", String(repeating: "f", count: 41)] {
        #expect(throws: IdentityError.invalidSerial(bad)) { try CertificateSerial(bad) }
      }
    }
  }

  @Test("of another authority, a changed one and half of one are refused with the file's name")
  func forged() throws {
    try withAuthority { authority in
      let stranger = try AuthorityFolder.create(in: scratch.appendingPathComponent("stranger"))
      let file = authority.coordinator.appendingPathComponent("crl.pem")
      let good = try String(contentsOf: file, encoding: .utf8)
      let foreign = try #require(try stranger.revocations()).pem
      var lines = good.split(separator: "\n").map(String.init)
      var bytes = try #require(Data(base64Encoded: lines.dropFirst().dropLast().joined()))
      bytes[bytes.count - 5] ^= 1
      lines = [lines[0], bytes.base64EncodedString(), lines[lines.count - 1]]
      for text in [foreign, lines.joined(separator: "\n"), String(good.prefix(good.count / 2)), "", "nonsense"] {
        try Data(text.utf8).write(to: file)
        #expect {
          try TLSIdentity.load(from: authority.coordinator)
        } throws: { error in
          guard case .invalidFile(file.path, _)? = error as? IdentityError else { return false }
          return true
        }
      }
      try Data(good.utf8).write(to: file)
      _ = try TLSIdentity.load(from: authority.coordinator)
    }
  }

  @Test("that a crash left behind the register is brought up by the next change")
  func behind() throws {
    try withAuthority { authority in
      let old = try Data(contentsOf: scratch.appendingPathComponent("crl.pem"))
      let alice = try ParticipantName("alice")
      let identity = try TLSIdentity.load(from: try authority.issueParticipant(alice))
      _ = try authority.revoke(.participant(alice))
      // As after a crash between the two files.
      try old.write(to: scratch.appendingPathComponent("crl.pem"))
      try old.write(to: authority.coordinator.appendingPathComponent("crl.pem"))
      _ = try authority.revoke(.participant(alice))
      for folder in [scratch, authority.coordinator] {
        let text = try String(contentsOf: folder.appendingPathComponent("crl.pem"), encoding: .utf8)
        let newest = try authority.revocations()?.pem
        #expect(text.trimmingCharacters(in: .newlines) == newest)
      }
      #expect(try authority.revocations()?.contains(identity.serial) == true)
    }
  }

  @Test("is not forgotten by a register that came back from an older copy")
  func olderRegister() throws {
    try withAuthority { authority in
      let file = scratch.appendingPathComponent("register.json")
      let (alice, bob) = (try ParticipantName("alice"), try ParticipantName("bob"))
      let first = try TLSIdentity.load(from: try authority.issueParticipant(alice)).serial
      let old = try Data(contentsOf: file)
      let second = try TLSIdentity.load(from: try authority.issueParticipant(bob)).serial
      for name in [alice, bob] { _ = try authority.revoke(.participant(name)) }
      try old.write(to: file)
      let result = try authority.revoke(.serial(try CertificateSerial("0a0b")))
      #expect(result.listNumber == 4)
      let list = try #require(try authority.revocations())
      #expect(list.number == 4 && list.contains(first) && list.contains(second) && list.entries.count == 3)
    }
  }

  @Test(
    "is one for the openssl tool too: signed, numbered, and it refuses what was taken back",
    .enabled(if: OpenSSLTool.isInstalled, "the openssl tool is not installed")
  )
  func openssl() async throws {
    defer { try? FileManager.default.removeItem(at: scratch) }
    let authority = try AuthorityFolder.create(in: scratch)
    let good = try authority.issueParticipant(try ParticipantName("good"))
    let bad = try authority.issueParticipant(try ParticipantName("bad"))
    _ = try authority.revoke(.participant(try ParticipantName("bad")))
    let (ca, crl) = (scratch.appendingPathComponent("ca.pem").path, scratch.appendingPathComponent("crl.pem").path)
    let shown = try await OpenSSLTool.run(["crl", "-in", crl, "-CAfile", ca, "-noout", "-text", "-crlnumber"])
    #expect(shown.output.contains("verify OK") && shown.output.contains("crlNumber=0x02"), "\(shown.output)")
    let serial = try TLSIdentity.load(from: bad).serial
    #expect(shown.output.contains("Serial Number: \(serial.rawValue.uppercased())"), "\(shown.output)")
    func verify(_ folder: URL) async throws -> String {
      try await OpenSSLTool.run([
        "verify", "-CAfile", ca, "-CRLfile", crl, "-crl_check", "-x509_strict", "-purpose", "sslclient",
        folder.appendingPathComponent("certificate.pem").path,
      ]).output
    }
    let (accepted, refused) = (try await verify(good), try await verify(bad))
    #expect(accepted.contains(": OK"), "\(accepted)")
    #expect(refused.contains("certificate revoked"), "\(refused)")
  }
}
