import FedLoRACheckpoint
import Foundation
import SwiftASN1
import X509

// An identity folder (mode 0700) holds
//
//   key.pem            the private key, mode 0600
//   certificate.pem    its certificate
//   ca.pem             the authority's certificate
//   crl.pem            the authority's revocation list, where one is known
//   enrolment.json     where the certificate can be renewed, where it came that way
//   next-key.pem       while a new certificate is being fetched: the key that it is for
//   lock               held for a moment while one of these changes
//
// A certificate is replaced together with its key: the new key lies beside the old one, then the certificate is renamed
// into place, then the key. A reader that finds the certificate to be the new key's takes that one, so the folder holds a
// whole identity at every instant, also after a crash. Two programs that renew one identity at a time ask with one key.

extension TLSIdentity {
  /// Reads an identity folder.
  /// - Throws: `IdentityError` with the file and the reason.
  public static func load(from folder: URL) throws -> TLSIdentity { try IdentityFolder(folder).load() }

  /// Reads an identity folder, without a thread of the cooperative pool waiting for the disk.
  /// - Throws: `IdentityError` with the file and the reason.
  public static func read(from folder: URL) async throws -> TLSIdentity {
    try await Enrolment.onThread { try load(from: folder) }
  }

  /// Writes an identity folder: key.pem readable by its owner only, certificate.pem and ca.pem.
  /// - Throws: `IdentityError.alreadyExists` where the folder is there.
  public func save(to folder: URL) throws { try IdentityFolder(folder).create(self) }
}

/// Reads and changes one identity folder.
struct IdentityFolder: Sendable {
  let url: URL

  init(_ url: URL) { self.url = url }

  var keyFile: URL { url.appendingPathComponent("key.pem") }
  var nextKeyFile: URL { url.appendingPathComponent("next-key.pem") }
  var certificateFile: URL { url.appendingPathComponent("certificate.pem") }
  var authorityFile: URL { url.appendingPathComponent("ca.pem") }
  var revocationFile: URL { url.appendingPathComponent("crl.pem") }
  var enrolmentFile: URL { url.appendingPathComponent("enrolment.json") }

  /// The identity.
  /// - Throws: `IdentityError`.
  func load() throws -> TLSIdentity {
    let authority = try PEMFile.certificate(authorityFile)
    // Between the reading of one file and of the next, another process may replace both.
    for _ in 0..<3 {
      let certificate = try PEMFile.certificate(certificateFile)
      var key = try PEMFile.key(keyFile)
      if certificate.publicKey != key.publicKey, PEMFile.exists(nextKeyFile), let next = try? PEMFile.key(nextKeyFile) {
        key = next
      }
      guard certificate.publicKey == key.publicKey else { continue }
      return TLSIdentity(
        certificate: certificate,
        key: key,
        authority: authority,
        revocations: try revocations(of: authority)
      )
    }
    throw IdentityError.keyMismatch(certificate: certificateFile.path, key: keyFile.path)
  }

  private func revocations(of authority: Certificate) throws -> RevocationList? {
    guard PEMFile.exists(revocationFile) else { return nil }
    return try PEMFile.revocations(revocationFile, authority: authority)
  }

  /// Makes the folder for an identity that is whole.
  func create(_ identity: TLSIdentity) throws {
    try PEMFile.refuseExisting(url)
    try PEMFile.makeFolder(url)
    try PEMFile.write(try describingErrors { try identity.key.pem }, to: keyFile, permissions: 0o600)
    try PEMFile.write(try identity.authorityPEM, to: authorityFile)
    if let revocations = identity.revocations { try PEMFile.write(revocations.pem, to: revocationFile) }
    try PEMFile.write(try identity.certificatePEM, to: certificateFile)
  }

  /// The key of an identity that has no certificate yet: the one that lies there from an attempt whose answer was lost,
  /// or a new one.
  /// - Throws: `IdentityError.alreadyExists` where the key there is of another kind: a token may be used for it.
  func firstKey(_ kind: IdentityKeyKind) throws -> IdentityKey {
    try PEMFile.makeFolder(url)
    return try FolderLock.hold(url) {
      try PEMFile.refuseExisting(certificateFile)
      let key = try key(in: keyFile, kind)
      guard key.kind == kind else { throw IdentityError.alreadyExists(path: keyFile.path) }
      return key
    }
  }

  /// The key that the next certificate is for, as above; one of another kind is replaced.
  func nextKey(_ kind: IdentityKeyKind) throws -> IdentityKey {
    try FolderLock.hold(url) {
      try settle()
      let key = try key(in: nextKeyFile, kind)
      return try key.kind == kind ? key : newKey(in: nextKeyFile, kind)
    }
  }

  private func key(in file: URL, _ kind: IdentityKeyKind) throws -> IdentityKey {
    try PEMFile.exists(file) ? PEMFile.key(file) : newKey(in: file, kind)
  }

  private func newKey(in file: URL, _ kind: IdentityKeyKind) throws -> IdentityKey {
    let key = try describingErrors { IdentityKey(generating: kind) }
    try PEMFile.write(try describingErrors { try key.pem }, to: file, permissions: 0o600)
    return key
  }

  /// Takes a certificate for `firstKey` or `nextKey`; from its renaming on it is the identity. A revocation list that
  /// is newer than `revocations` stays.
  /// - Throws: `IdentityError.invalidFile` where its key is not there any more; then nothing changes.
  func install(_ certificate: Certificate, authority: Certificate, revocations: RevocationList?) throws {
    try FolderLock.hold(url) {
      let keys = [keyFile, nextKeyFile].filter(PEMFile.exists).compactMap { try? PEMFile.key($0).publicKey }
      guard keys.contains(certificate.publicKey) else {
        throw IdentityError.invalidFile(
          path: url.path,
          reason: "the key that the new certificate is for was replaced while it was fetched; renew once more"
        )
      }
      try put(certificate, authority, revocations)
    }
  }

  private func put(_ certificate: Certificate, _ authority: Certificate, _ revocations: RevocationList?) throws {
    try PEMFile.write(try PEMFile.text(authority), to: authorityFile)
    if let revocations {
      let present = try? PEMFile.revocations(revocationFile, authority: authority)
      if (present?.number ?? 0) <= revocations.number { try PEMFile.write(revocations.pem, to: revocationFile) }
    }
    try PEMFile.write(try PEMFile.text(certificate), to: certificateFile)
    try settle()
  }

  /// Replaces key and certificate by those of `identity`.
  func replace(by identity: TLSIdentity) throws {
    try FolderLock.hold(url) {
      try settle()
      try PEMFile.write(try describingErrors { try identity.key.pem }, to: nextKeyFile, permissions: 0o600)
      try put(identity.certificate, identity.authority, identity.revocations)
    }
  }

  /// Ends a replacement that was interrupted after the certificate was renamed.
  private func settle() throws {
    guard PEMFile.exists(nextKeyFile), PEMFile.exists(certificateFile) else { return }
    let certificate = try PEMFile.certificate(certificateFile)
    guard let next = try? PEMFile.key(nextKeyFile), next.publicKey == certificate.publicKey else { return }
    guard rename(nextKeyFile.path, keyFile.path) == 0 else {
      throw IdentityError.unwritable(path: keyFile.path, reason: String(cString: strerror(errno)))
    }
    try describingErrors { try DurableFile.syncDirectory(url) }
  }
}
