import FedLoRACheckpoint
import Foundation
import SwiftASN1
import X509

/// Reads and writes the files of identities and authorities; what is wrong with one is said with its path.
enum PEMFile {
  static func exists(_ url: URL) -> Bool { FileManager.default.fileExists(atPath: url.path) }

  static func refuseExisting(_ url: URL) throws(IdentityError) {
    guard !exists(url) else { throw .alreadyExists(path: url.path) }
  }

  /// Makes a folder, and those that are missing above it, for its owner only and durable: what is put into it may be
  /// relied on by others once it is there. One that exists keeps its mode.
  static func makeFolder(_ url: URL) throws(IdentityError) {
    guard !exists(url) else { return }
    let parent = url.deletingLastPathComponent()
    if parent.path != url.path { try makeFolder(parent) }
    guard mkdir(url.path, 0o700) == 0 || errno == EEXIST else {
      throw .unwritable(path: url.path, reason: String(cString: strerror(errno)))
    }
    do { try DurableFile.syncDirectory(parent) } catch { throw .unwritable(path: parent.path, reason: "\(error)") }
  }

  /// Writes a file, or replaces it in one step.
  static func write(_ pem: String, to url: URL, permissions: mode_t = 0o644) throws(IdentityError) {
    do {
      try DurableFile.write(Data((pem.hasSuffix("\n") ? pem : pem + "\n").utf8), to: url, permissions: permissions)
    } catch {
      throw .unwritable(path: url.path, reason: "\(error)")
    }
  }

  static func text(_ certificate: Certificate) throws(IdentityError) -> String {
    try describingErrors { try certificate.serializeAsPEM().pemString }
  }

  static func data(_ url: URL) throws(IdentityError) -> Data {
    do {
      return try Data(contentsOf: url)
    } catch {
      throw .unreadable(path: url.path, reason: exists(url) ? error.localizedDescription : "there is no such file")
    }
  }

  static func certificate(_ url: URL) throws(IdentityError) -> Certificate {
    let text = String(decoding: try data(url), as: UTF8.self)
    do {
      return try Certificate(pemEncoded: text)
    } catch {
      throw .invalidFile(path: url.path, reason: "it holds no certificate in PEM (\(error))")
    }
  }

  static func key(_ url: URL) throws(IdentityError) -> IdentityKey {
    let text = String(decoding: try data(url), as: UTF8.self)
    do {
      return try IdentityKey(pem: text)
    } catch {
      throw .invalidFile(path: url.path, reason: "it holds no P-256 or Ed25519 private key in PEM (\(error))")
    }
  }

  static func revocations(_ url: URL, authority: Certificate) throws(IdentityError) -> RevocationList {
    let text = String(decoding: try data(url), as: UTF8.self)
    do {
      return try RevocationList(pem: text, authority: authority)
    } catch {
      throw .invalidFile(path: url.path, reason: "it holds no revocation list of the authority (\(error))")
    }
  }
}
