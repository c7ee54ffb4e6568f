import FedLoRAProtocol
import Foundation
import Testing

@Suite("Identities")
struct IdentityTests {
  private func withFolder(_ body: (URL) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: folder) }
    try body(folder)
  }

  private func mode(_ url: URL) throws -> Int? {
    try FileManager.default.attributesOfItem(atPath: url.path)[.posixPermissions] as? Int
  }

  @Test(
    "have names that are safe everywhere",
    arguments: ["a", "site-1", "A.b_c-9", "-x", String(repeating: "n", count: 64)]
  )
  func goodNames(name: String) throws {
    #expect(try ParticipantName(name).rawValue == name)
  }

  @Test(
    "refuse other names",
    arguments: ["", ".", ".hidden", "a/b", "a b", "ä", "a\n", "a\0", "../x", String(repeating: "n", count: 65)]
  )
  func badNames(name: String) {
    #expect(throws: IdentityError.invalidName(name)) { try ParticipantName(name) }
  }

  @Test("are made, issued and read back, with keys for their owner only")
  func folders() throws {
    try withFolder { folder in
      let made = try AuthorityFolder.create(in: folder)
      let authority = try AuthorityFolder.open(folder)
      let fingerprint = authority.authority.fingerprint
      #expect(fingerprint == made.authority.fingerprint && fingerprint.count == 64)
      #expect(try TLSIdentity.load(from: folder.appendingPathComponent("coordinator")).identity == .coordinator)
      let name = try ParticipantName("site-1")
      let place = try authority.issueParticipant(name)
      #expect(place.path == folder.appendingPathComponent("participants/site-1").path)
      #expect(try TLSIdentity.load(from: place).participant == name)
      #expect(try mode(folder.appendingPathComponent("ca-key.pem")) == 0o600)
      #expect(try mode(folder.appendingPathComponent("register.json")) == 0o600)
      #expect(try mode(place.appendingPathComponent("key.pem")) == 0o600)
      #expect(try mode(place) == 0o700)
      #expect(try mode(folder.appendingPathComponent("coordinator/key.pem")) == 0o600)
    }
  }

  @Test("are never overwritten")
  func overwriting() throws {
    try withFolder { folder in
      let authority = try AuthorityFolder.create(in: folder)
      let key = try Data(contentsOf: folder.appendingPathComponent("ca-key.pem"))
      #expect(throws: IdentityError.alreadyExists(path: folder.appendingPathComponent("ca-key.pem").path)) {
        try AuthorityFolder.create(in: folder)
      }
      #expect(try Data(contentsOf: folder.appendingPathComponent("ca-key.pem")) == key)
      let place = folder.appendingPathComponent("participants/site-1")
      try authority.issueParticipant(try ParticipantName("site-1"))
      #expect(throws: IdentityError.alreadyExists(path: place.path)) {
        try authority.issueParticipant(try ParticipantName("site-1"))
      }
      #expect(try authority.certificates().compactMap(\.name?.rawValue) == ["site-1"])
    }
  }

  @Test("that are damaged are named with file and reason")
  func damaged() throws {
    try withFolder { folder in
      let authority = try CertificateAuthority()
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let folder = folder.appendingPathComponent("identity")
      try authority.issueParticipant(try ParticipantName("a")).save(to: folder)
      let key = folder.appendingPathComponent("key.pem")
      let certificate = folder.appendingPathComponent("certificate.pem")
      let other = folder.appendingPathComponent("other")
      try authority.issueParticipant(try ParticipantName("b")).save(to: other)
      let good = try Data(contentsOf: key)

      try Data(contentsOf: other.appendingPathComponent("key.pem")).write(to: key)
      #expect(throws: IdentityError.keyMismatch(certificate: certificate.path, key: key.path)) {
        try TLSIdentity.load(from: folder)
      }
      try Data("nonsense".utf8).write(to: key)
      #expect {
        try TLSIdentity.load(from: folder)
      } throws: { error in
        guard case .invalidFile(key.path, _)? = error as? IdentityError else { return false }
        return true
      }
      try good.write(to: key)
      try FileManager.default.removeItem(at: folder.appendingPathComponent("ca.pem"))
      #expect {
        try TLSIdentity.load(from: folder)
      } throws: { error in
        error as? IdentityError
          == .unreadable(path: folder.appendingPathComponent("ca.pem").path, reason: "there is no such file")
      }
    }
  }

  @Test("have keys of either kind, which are read back", arguments: IdentityKeyKind.allCases)
  func kinds(kind: IdentityKeyKind) throws {
    try withFolder { folder in
      let made = try CertificateAuthority().issueParticipant(try ParticipantName("a"), key: kind)
      try made.save(to: folder)
      let read = try TLSIdentity.load(from: folder)
      #expect(read.keyKind == kind && read.serial == made.serial)
    }
  }

  @Test("are said to be due and near their end in time")
  func expiry() throws {
    let now = Date(timeIntervalSince1970: 1_800_000_000)
    func expiry(days: Double, of total: Double) throws -> CertificateExpiry {
      let validity = try CertificateValidity(
        notBefore: now.addingTimeInterval((days - total) * 86_400),
        notAfter: now.addingTimeInterval(days * 86_400)
      )
      return try CertificateAuthority().issueParticipant(try ParticipantName("a"), validity: validity).expiry
    }
    let young = try expiry(days: 300, of: 365)
    #expect(!young.isDue(at: now) && !young.isNear(at: now) && abs(young.daysLeft(at: now) - 300) < 1e-6)
    #expect(young.sentence(at: now).contains("in 300 days"))
    let late = try expiry(days: 100, of: 365)
    #expect(late.isDue(at: now) && !late.isNear(at: now))
    let near = try expiry(days: 13.9, of: 20)
    #expect(!near.isDue(at: now) && near.isNear(at: now))
    #expect(try expiry(days: -1, of: 20).sentence(at: now).contains("ended on"))
  }

  @Test("have a validity that can be chosen and that is not empty")
  func validity() throws {
    let start = Date(timeIntervalSince1970: 1_700_000_000)
    let period = try CertificateValidity(notBefore: start, notAfter: start.addingTimeInterval(60))
    let identity = try CertificateAuthority().issueParticipant(try ParticipantName("a"), validity: period)
    #expect(identity.notBefore == start && identity.notAfter == start.addingTimeInterval(60))
    #expect(period.contains(start.addingTimeInterval(60)) && !period.contains(start.addingTimeInterval(61)))
    #expect(throws: IdentityError.self) { try CertificateValidity(notBefore: start, notAfter: start) }
  }
}
