import Dispatch
import Foundation
import SwiftASN1
import X509

/// Where an enrolment service listens.
public struct EnrolmentAddress: Sendable, Equatable, Codable, CustomStringConvertible {
  /// A host's name or address.
  public let host: String
  /// Its port.
  public let port: Int

  /// The port of an enrolment service where nothing else is said.
  public static let defaultPort = 7444

  /// Takes both parts.
  public init(host: String, port: Int = EnrolmentAddress.defaultPort) {
    self.host = host
    self.port = port
  }

  /// Reads HOST:PORT; nil where it is none.
  public init?(_ text: String) {
    guard let colon = text.lastIndex(of: ":"), colon > text.startIndex,
      let port = Int(text[text.index(after: colon)...]), (1...65535).contains(port)
    else { return nil }
    host = String(text[..<colon]).trimmingCharacters(in: CharacterSet(charactersIn: "[]"))
    self.port = port
    guard !host.isEmpty else { return nil }
  }

  /// HOST:PORT.
  public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// The participant's side of enrolment: the key is made here and never leaves.
public enum Enrolment {
  /// Exchanges a token for an identity.
  ///
  /// Where the answer is lost, doing it again with the same folder gives the same certificate. The service is believed
  /// only where the SHA-256 of its authority's certificate is the token's.
  /// - Parameter folder: the identity folder to make.
  /// - Throws: `TransportError`, `IdentityError`.
  @discardableResult
  public static func enrol(
    _ token: EnrolmentToken,
    at address: EnrolmentAddress,
    to folder: URL,
    key kind: IdentityKeyKind = .p256
  ) async throws -> TLSIdentity {
    let files = IdentityFolder(folder)
    let (key, csr) = try await onThread {
      let key = try files.firstKey(kind)
      return (key, try CertificateRequest.make(key, name: token.name))
    }
    var request = WireEnrolmentRequest()
    request.protocolVersion = protocolVersion
    request.tokenID = Data(token.id)
    request.tokenSecret = Data(token.secret)
    request.request = Data(csr)
    let answer = try await exchange(
      WireEnvelope(.enrolmentRequest(request)),
      as: Endpoint.nameless(authority: token.authorityFingerprint, role: .authority),
      at: address
    )
    let parts = try await Parts(answer, key: key, name: token.name, authority: token.authorityFingerprint)
    return try await onThread {
      try files.write(address)
      try files.install(parts.certificate, authority: parts.authority, revocations: parts.revocations)
      return try files.load()
    }
  }

  /// Exchanges an identity that still counts for the next one, with a new key.
  ///
  /// - Parameter address: where to ask; nil takes the place where the identity came from.
  /// - Throws: `TransportError`, `IdentityError`.
  @discardableResult
  public static func renew(
    _ folder: URL,
    at address: EnrolmentAddress? = nil,
    key kind: IdentityKeyKind? = nil
  ) async throws -> TLSIdentity {
    let files = IdentityFolder(folder)
    let present = try await onThread { try files.load() }
    guard let name = present.participant else {
      throw IdentityError.invalidFile(path: folder.path, reason: "it is no participant's identity")
    }
    guard let place = try await onThread({ try address ?? files.address() }) else {
      throw IdentityError.invalidFile(
        path: folder.path,
        reason: "it does not say where it can be renewed; name host and port of the enrolment service"
      )
    }
    let (key, csr) = try await onThread {
      let key = try files.nextKey(kind ?? present.keyKind)
      return (key, try CertificateRequest.make(key, name: name))
    }
    var request = WireRenewalRequest()
    request.protocolVersion = protocolVersion
    request.request = Data(csr)
    let answer = try await exchange(
      WireEnvelope(.renewalRequest(request)),
      as: Endpoint.client(present, role: .authority),
      at: place
    )
    let parts = try await Parts(answer, key: key, name: name, authority: present.authorityFingerprint)
    return try await onThread {
      try files.write(place)
      try files.install(parts.certificate, authority: parts.authority, revocations: parts.revocations)
      return try files.load()
    }
  }

  /// Where the identity in `folder` can be renewed; nil where it does not say.
  public static func address(of folder: URL) -> EnrolmentAddress? { try? IdentityFolder(folder).address() }

  /// Judges an answer as a participant does that asked with this key.
  /// - Throws: `IdentityError` where it is of no use.
  package static func check(
    _ answer: WireEnrolmentAnswer,
    keyPEM: String,
    name: ParticipantName,
    authority fingerprint: String
  ) async throws {
    let key = try describingErrors { try IdentityKey(pem: keyPEM) }
    _ = try await Parts(answer, key: key, name: name, authority: fingerprint)
  }

  private static func exchange(
    _ request: WireEnvelope,
    as endpoint: Endpoint,
    at address: EnrolmentAddress
  ) async throws -> WireEnrolmentAnswer {
    try await PeerClient(endpoint: endpoint).withConnection(host: address.host, port: address.port) { connection in
      try await connection.send(request)
      guard let inbound = try await connection.receive() else {
        throw TransportError.connectionLost(reason: "the enrolment service closed without an answer")
      }
      guard case .enrolmentAnswer(let answer)? = inbound.envelope.message else {
        throw TransportError.violation(
          code: "unexpected-message",
          text: "a \(inbound.envelope.messageName) came, expected EnrolmentAnswer"
        )
      }
      return answer
    }
  }

  /// Runs what may wait for the disk or for a lock on a thread that may wait.
  static func onThread<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      DispatchQueue.global().async { continuation.resume(with: Result(catching: body)) }
    }
  }

  /// An answer that was checked: the authority is the right one, and the certificate is for this key and this name.
  private struct Parts: Sendable {
    let certificate: Certificate
    let authority: Certificate
    let revocations: RevocationList?

    init(_ answer: WireEnrolmentAnswer, key: IdentityKey, name: ParticipantName, authority fingerprint: String)
      async throws
    {
      let authorityBytes = Array(answer.authority)
      guard Digest.sha256(authorityBytes) == fingerprint else {
        throw IdentityError.certificate(reason: "the answer holds another authority's certificate")
      }
      let (authority, certificate, revocations) = try describingErrors {
        let authority = try Certificate(derEncoded: authorityBytes)
        return (
          authority, try Certificate(derEncoded: Array(answer.certificate)),
          answer.revocations.isEmpty
            ? nil : try RevocationList(der: Array(answer.revocations), authority: authority)
        )
      }
      let verifier = PeerVerifier(role: .participant, anchor: .certificate(authority), revocations: revocations)
      let verified: VerifiedPeer
      do { verified = try await verifier.verify(certificate) } catch let refusal as CertificateRefusal {
        throw IdentityError.certificate(reason: "the certificate that came is of no use: \(refusal.text)")
      }
      guard verified.identity == .participant(name), certificate.publicKey == key.publicKey else {
        throw IdentityError.certificate(reason: "the certificate that came is for \(verified.identity) or another key")
      }
      self.certificate = certificate
      self.authority = authority
      self.revocations = revocations
    }
  }
}

extension IdentityFolder {
  /// Where the identity can be renewed.
  func address() throws -> EnrolmentAddress? {
    guard PEMFile.exists(enrolmentFile) else { return nil }
    do { return try JSONDecoder().decode(EnrolmentAddress.self, from: try PEMFile.data(enrolmentFile)) } catch {
      throw IdentityError.invalidFile(path: enrolmentFile.path, reason: "it holds no host and port")
    }
  }

  /// Keeps where the identity came from.
  func write(_ address: EnrolmentAddress) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let text = String(decoding: try describingErrors { try encoder.encode(address) }, as: UTF8.self)
    try PEMFile.write(text, to: enrolmentFile)
  }
}
