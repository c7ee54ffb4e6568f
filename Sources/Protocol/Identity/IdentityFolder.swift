import Crypto
import FedLoRACheckpoint
import Foundation
import SwiftASN1
import X509

// How identities lie on disk.
//
//   DIR/ca-key.pem                    the authority's key, mode 0600: whoever has it can issue certificates
//   DIR/ca.pem                        its certificate
//   DIR/coordinator/                  an identity folder
//   DIR/participants/NAME/            an identity folder for each participant, to be carried to its machine
//
// An identity folder (mode 0700) holds key.pem (mode 0600), certificate.pem and ca.pem. Nothing is ever overwritten.

extension CertificateAuthority {
  /// Makes a new authority in `folder`, with the coordinator's identity in `folder/coordinator`.
  /// - Throws: `IdentityError.alreadyExists` where one is there.
  @discardableResult
  public static func create(
    in folder: URL,
    validity: CertificateValidity = .days(3650),
    coordinatorValidity: CertificateValidity = .days(365)
  ) throws -> CertificateAuthority {
    for name in ["ca-key.pem", "ca.pem", "coordinator"] {
      try refuseExisting(folder.appendingPathComponent(name))
    }
    try makeFolder(folder)
    let authority = try CertificateAuthority(validity: validity)
    try writeNew(authority.key.pemRepresentation, to: folder.appendingPathComponent("ca-key.pem"), permissions: 0o600)
    try writeNew(
      try describingErrors { try authority.certificate.serializeAsPEM().pemString },
      to: folder.appendingPathComponent("ca.pem"),
      permissions: 0o644
    )
    try authority.issueCoordinator(validity: coordinatorValidity)
      .save(to: folder.appendingPathComponent("coordinator"))
    return authority
  }

  /// Reads the authority in `folder`.
  /// - Throws: `IdentityError` with the file and the reason.
  public static func load(from folder: URL) throws -> CertificateAuthority {
    let keyFile = folder.appendingPathComponent("ca-key.pem")
    let certificateFile = folder.appendingPathComponent("ca.pem")
    let key = try readKey(keyFile)
    let certificate = try readCertificate(certificateFile)
    guard certificate.publicKey == Certificate.PublicKey(key.publicKey) else {
      throw IdentityError.keyMismatch(certificate: certificateFile.path, key: keyFile.path)
    }
    return CertificateAuthority(certificate: certificate, key: key)
  }

  /// Issues an identity for `name` and writes its folder.
  /// - Parameter folder: the identity folder to make, for example `DIR/participants/NAME`.
  /// - Throws: `IdentityError.alreadyExists` where the folder is there.
  @discardableResult
  public func issueParticipant(
    _ name: ParticipantName,
    to folder: URL,
    validity: CertificateValidity = .days(365)
  ) throws -> TLSIdentity {
    try refuseExisting(folder)
    let identity = try issueParticipant(name, validity: validity)
    try identity.save(to: folder)
    return identity
  }

  /// The usual place of a participant's identity folder: `authority/participants/NAME`.
  public static func participantFolder(_ name: ParticipantName, in authority: URL) -> URL {
    authority.appendingPathComponent("participants").appendingPathComponent(name.rawValue)
  }
}

extension TLSIdentity {
  /// Reads an identity folder.
  /// - Throws: `IdentityError` with the file and the reason.
  public static func load(from folder: URL) throws -> TLSIdentity {
    let keyFile = folder.appendingPathComponent("key.pem")
    let certificateFile = folder.appendingPathComponent("certificate.pem")
    let certificate = try readCertificate(certificateFile)
    let key = try readKey(keyFile)
    guard certificate.publicKey == Certificate.PublicKey(key.publicKey) else {
      throw IdentityError.keyMismatch(certificate: certificateFile.path, key: keyFile.path)
    }
    return TLSIdentity(
      certificate: certificate,
      key: key,
      authority: try readCertificate(folder.appendingPathComponent("ca.pem"))
    )
  }

  /// Writes an identity folder: key.pem readable by its owner only, certificate.pem and ca.pem.
  /// - Throws: `IdentityError.alreadyExists` where the folder is there.
  public func save(to folder: URL) throws {
    try refuseExisting(folder)
    try makeFolder(folder)
    try writeNew(key.pemRepresentation, to: folder.appendingPathComponent("key.pem"), permissions: 0o600)
    try writeNew(try certificatePEM, to: folder.appendingPathComponent("certificate.pem"), permissions: 0o644)
    try writeNew(try authorityPEM, to: folder.appendingPathComponent("ca.pem"), permissions: 0o644)
  }
}

private func refuseExisting(_ url: URL) throws(IdentityError) {
  guard !FileManager.default.fileExists(atPath: url.path) else { throw .alreadyExists(path: url.path) }
}

private func makeFolder(_ url: URL) throws(IdentityError) {
  do {
    try FileManager.default.createDirectory(
      at: url,
      withIntermediateDirectories: true,
      attributes: [.posixPermissions: 0o700]
    )
  } catch {
    throw .unwritable(path: url.path, reason: error.localizedDescription)
  }
}

private func writeNew(_ pem: String, to url: URL, permissions: mode_t) throws(IdentityError) {
  do {
    try DurableFile.write(Data((pem.hasSuffix("\n") ? pem : pem + "\n").utf8), to: url, permissions: permissions)
  } catch {
    throw .unwritable(path: url.path, reason: "\(error)")
  }
}

private func readText(_ url: URL) throws(IdentityError) -> String {
  do {
    return try String(contentsOf: url, encoding: .utf8)
  } catch {
    throw .unreadable(
      path: url.path,
      reason: FileManager.default.fileExists(atPath: url.path) ? error.localizedDescription : "there is no such file"
    )
  }
}

private func readCertificate(_ url: URL) throws(IdentityError) -> Certificate {
  let text = try readText(url)
  do {
    return try Certificate(pemEncoded: text)
  } catch {
    throw .invalidFile(path: url.path, reason: "it holds no certificate in PEM (\(error))")
  }
}

private func readKey(_ url: URL) throws(IdentityError) -> P256.Signing.PrivateKey {
  let text = try readText(url)
  do {
    return try P256.Signing.PrivateKey(pemRepresentation: text)
  } catch {
    throw .invalidFile(path: url.path, reason: "it holds no P-256 private key in PEM (\(error))")
  }
}
