import Crypto
import FedLoRACheckpoint
import Foundation
import SwiftASN1
import X509

// How an authority lies on disk.
//
//   DIR/ca-key.pem                    the authority's key, mode 0600: whoever has it can issue certificates
//   DIR/ca.pem                        its certificate
//   DIR/crl.pem                       its newest revocation list
//   DIR/register.json                 what it has issued and promised, mode 0600
//   DIR/lock                          held while one of these changes
//   DIR/coordinator/                  the coordinator's identity folder, with a copy of the list
//   DIR/participants/NAME/            an identity folder for each participant whose key was made here

/// An authority on disk, with a register of what it has issued, promised and taken back.
///
/// Several processes may use one folder at a time: each change is made under a lock, is durable before anybody hears of
/// it, and leaves the register whole after a crash at any instant.
public struct AuthorityFolder: Sendable {
  /// The folder.
  public let url: URL
  /// Its key and certificate.
  public let authority: CertificateAuthority

  var keyFile: URL { url.appendingPathComponent("ca-key.pem") }
  var certificateFile: URL { url.appendingPathComponent("ca.pem") }
  var revocationFile: URL { url.appendingPathComponent("crl.pem") }
  var registerFile: URL { url.appendingPathComponent("register.json") }
  private var coordinatorList: URL { coordinator.appendingPathComponent("crl.pem") }
  /// The coordinator's identity folder.
  public var coordinator: URL { url.appendingPathComponent("coordinator") }
  /// The usual place of a participant's identity folder.
  public func participant(_ name: ParticipantName) -> URL {
    url.appendingPathComponent("participants").appendingPathComponent(name.rawValue)
  }

  private init(url: URL, authority: CertificateAuthority) {
    self.url = url
    self.authority = authority
  }

  /// Makes a new authority in `url`, with the coordinator's identity and an empty revocation list.
  /// - Throws: `IdentityError.alreadyExists` where one is there.
  @discardableResult
  public static func create(
    in url: URL,
    validity: CertificateValidity = .days(3650),
    coordinatorValidity: CertificateValidity = .days(365)
  ) throws -> AuthorityFolder {
    for name in ["ca-key.pem", "ca.pem", "register.json", "coordinator"] {
      try PEMFile.refuseExisting(url.appendingPathComponent(name))
    }
    try PEMFile.makeFolder(url)
    let folder = AuthorityFolder(url: url, authority: try CertificateAuthority(validity: validity))
    try PEMFile.write(folder.authority.key.pemRepresentation, to: folder.keyFile, permissions: 0o600)
    try PEMFile.write(try PEMFile.text(folder.authority.certificate), to: folder.certificateFile)
    try folder.change { register in
      register.listNumber = 1
      let identity = try folder.authority.issueCoordinator(validity: coordinatorValidity)
      try register.add(identity.certificate, name: nil, origin: .issued)
      // The register is written after this; a coordinator's identity that it does not know is no use to anybody, because
      // `create` has then not come to its end.
      try identity.save(to: folder.coordinator)
    }
    return folder
  }

  /// Opens the authority in `url`.
  /// - Throws: `IdentityError` with the file and the reason.
  public static func open(_ url: URL) throws -> AuthorityFolder {
    let folder = AuthorityFolder(url: url, authority: try CertificateAuthority.load(from: url))
    if PEMFile.exists(folder.registerFile) { _ = try folder.read() }
    return folder
  }

  /// Issues an identity for `name`, whose key is made here, and writes its folder.
  /// - Parameter folder: the identity folder to make; the usual place by default.
  /// - Returns: the identity folder.
  /// - Throws: `IdentityError.alreadyExists` where the folder is there.
  @discardableResult
  public func issueParticipant(
    _ name: ParticipantName,
    to folder: URL? = nil,
    validity: CertificateValidity = .days(365),
    key: IdentityKeyKind = .p256
  ) throws -> URL {
    let target = folder ?? participant(name)
    try PEMFile.refuseExisting(target)
    let identity = try authority.issueParticipant(name, validity: validity, key: key)
    try change { try $0.add(identity.certificate, name: name, origin: .issued) }
    try identity.save(to: target)
    return target
  }

  /// Gives the coordinator a new key and certificate in its identity folder; the one before stays valid until it ends or
  /// is revoked.
  /// - Returns: the new identity.
  @discardableResult
  public func renewCoordinator(validity: CertificateValidity = .days(365)) throws -> TLSIdentity {
    var identity = try authority.issueCoordinator(validity: validity)
    try change { register in
      try register.add(identity.certificate, name: nil, origin: .renewed)
    }
    if PEMFile.exists(coordinator) {
      // Its revocation list is published with each change, and may be newer by now than what could be read here.
      try IdentityFolder(coordinator).replace(by: identity)
      identity.revocations = try revocations()
    } else {
      identity.revocations = try revocations()
      try identity.save(to: coordinator)
    }
    return identity
  }

  /// Every certificate that was issued, in the order of its issue.
  public func certificates() throws -> [IssuedCertificate] { try read().certificates }

  /// The newest revocation list.
  public func revocations() throws -> RevocationList? {
    guard PEMFile.exists(revocationFile) else { return nil }
    return try PEMFile.revocations(revocationFile, authority: authority.certificate)
  }

  // MARK: The register

  /// Reads the register, changes it, makes it durable and publishes the revocation list where it is behind; all of it
  /// under the folder's lock, which a thread waits for.
  func change<T>(_ body: (inout CertificateRegister) throws -> T) throws -> T {
    try FolderLock.hold(url) {
      var register = try read()
      let before = register
      // A register that came back from an older copy must neither forget what was revoked since nor count backwards:
      // coordinators would not believe it.
      for file in [revocationFile, coordinatorList] {
        guard let published = try? PEMFile.revocations(file, authority: authority.certificate) else { continue }
        if published.number > register.listNumber { register.adopt(published) }
      }
      let result = try body(&register)
      if register != before { try write(register) }
      try publish(register)
      return result
    }
  }

  func read() throws -> CertificateRegister {
    guard PEMFile.exists(registerFile) else { return CertificateRegister() }
    let data = try PEMFile.data(registerFile)
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    let register: CertificateRegister
    do { register = try decoder.decode(CertificateRegister.self, from: data) } catch {
      throw IdentityError.invalidFile(path: registerFile.path, reason: "it is no register (\(error))")
    }
    guard register.version == 1 else {
      throw IdentityError.invalidFile(
        path: registerFile.path,
        reason: "it is of version \(register.version), expected 1"
      )
    }
    return register
  }

  private func write(_ register: CertificateRegister) throws {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    let data = try describingErrors { try encoder.encode(register) }
    do { try DurableFile.write(data, to: registerFile, permissions: 0o600) } catch {
      throw IdentityError.unwritable(path: registerFile.path, reason: "\(error)")
    }
  }

  // MARK: The revocation list

  /// The list follows the register: where a crash left it behind, the next change brings it up.
  private func publish(_ register: CertificateRegister) throws {
    let list: RevocationList
    if let published = try? revocations(), published.number == register.listNumber {
      list = published
    } else {
      list = try currentList(register)
      try PEMFile.write(list.pem, to: revocationFile)
    }
    guard PEMFile.exists(coordinator) else { return }
    if (try? PEMFile.revocations(coordinatorList, authority: authority.certificate)) != list {
      try PEMFile.write(list.pem, to: coordinatorList)
    }
  }

  private func currentList(_ register: CertificateRegister) throws -> RevocationList {
    try authority.revocationList(number: register.listNumber, entries: register.revoked, issued: Date())
  }
}

extension CertificateRegister {
  /// Takes over what a list says that is newer than this register.
  fileprivate mutating func adopt(_ list: RevocationList) {
    listNumber = list.number
    let known = revoked
    for (serial, date) in list.entries where known[serial] == nil {
      if let index = certificates.firstIndex(where: { $0.serial == serial }) {
        certificates[index].revocation = IssuedCertificate.Revocation(at: date, reason: "known from the list")
      } else {
        strangers[serial.rawValue] = date
      }
    }
  }

  /// Takes note of a certificate before it leaves.
  mutating func add(_ certificate: Certificate, name: ParticipantName?, origin: IssuedCertificate.Origin) throws {
    certificates.append(
      IssuedCertificate(
        serial: CertificateSerial(certificate.serialNumber),
        name: name,
        notBefore: certificate.notValidBefore,
        notAfter: certificate.notValidAfter,
        issued: Date(timeIntervalSince1970: Date().timeIntervalSince1970.rounded(.down)),
        origin: origin,
        key: certificate.publicKey.digest,
        certificate: Data(try describingErrors { try certificate.der })
      )
    )
  }
}

extension CertificateAuthority {
  /// Reads the key and the certificate in an authority's folder.
  /// - Throws: `IdentityError` with the file and the reason.
  public static func load(from folder: URL) throws -> CertificateAuthority {
    let keyFile = folder.appendingPathComponent("ca-key.pem")
    let certificateFile = folder.appendingPathComponent("ca.pem")
    let text = String(decoding: try PEMFile.data(keyFile), as: UTF8.self)
    let key: P256.Signing.PrivateKey
    do { key = try P256.Signing.PrivateKey(pemRepresentation: text) } catch {
      throw IdentityError.invalidFile(path: keyFile.path, reason: "it holds no P-256 private key in PEM (\(error))")
    }
    let certificate = try PEMFile.certificate(certificateFile)
    guard certificate.publicKey == Certificate.PublicKey(key.publicKey) else {
      throw IdentityError.keyMismatch(certificate: certificateFile.path, key: keyFile.path)
    }
    return CertificateAuthority(certificate: certificate, key: key)
  }
}
