import Crypto
import Foundation
import NIOCore
import NIOSSL
import SwiftASN1
import X509

/// What one side shows and whom it believes: its certificate, its private key and the project's authority.
///
/// The private key is reachable only for the TLS library; nothing prints it.
public struct TLSIdentity: Sendable, CustomStringConvertible {
  let certificate: Certificate
  let key: IdentityKey
  let authority: Certificate
  /// The authority's newest revocation list that this side knows.
  public internal(set) var revocations: RevocationList?

  init(certificate: Certificate, key: IdentityKey, authority: Certificate, revocations: RevocationList? = nil) {
    self.certificate = certificate
    self.key = key
    self.authority = authority
    self.revocations = revocations
  }

  /// What the certificate says its owner is, nil where it says nothing that fedlora knows.
  public var identity: PeerIdentity? { try? certificate.fedloraIdentity() }

  /// The participant's name in the certificate.
  public var participant: ParticipantName? { identity?.participant }

  /// The certificate's number.
  public var serial: CertificateSerial { CertificateSerial(certificate.serialNumber) }
  /// What kind of key it is.
  public var keyKind: IdentityKeyKind { key.kind }
  /// SHA-256 of the authority's certificate in lower-case digits.
  public var authorityFingerprint: String { (try? Digest.sha256(authority.der)) ?? "" }
  /// Until when the certificate counts, and how urgent that is.
  public var expiry: CertificateExpiry { CertificateExpiry(notBefore: notBefore, notAfter: notAfter) }

  /// When the certificate counts.
  public var notBefore: Date { certificate.notValidBefore }
  /// Until when the certificate counts.
  public var notAfter: Date { certificate.notValidAfter }

  /// The owner, the authority and the validity in one line, for messages about a certificate that was refused.
  public var description: String {
    let owner = identity?.description ?? "an unknown owner"
    return "certificate of \(owner), issued by \(certificate.issuer), "
      + "valid from \(notBefore.formatted(.iso8601)) until \(notAfter.formatted(.iso8601))"
  }

  /// The certificate as PEM.
  public var certificatePEM: String {
    get throws { try describingErrors { try certificate.serializeAsPEM().pemString } }
  }
  /// The authority's certificate as PEM.
  public var authorityPEM: String { get throws { try describingErrors { try authority.serializeAsPEM().pemString } } }

  /// TLS 1.3 only, showing this certificate. The peer's is judged by `PeerVerifier`, not by the TLS library.
  /// - Parameter asksOnly: server: a peer may also show no certificate.
  package func configuration(isServer: Bool, asksOnly: Bool = false) throws(IdentityError) -> TLSConfiguration {
    try describingErrors {
      let chain = [certificate, authority]
      let shown = try (asksOnly ? chain : [certificate]).map { NIOSSLCertificateSource.certificate(try $0.forTLS) }
      let source = NIOSSLPrivateKeySource.privateKey(try NIOSSLPrivateKey(bytes: Array(key.pem.utf8), format: .pem))
      var configuration =
        isServer
        ? TLSConfiguration.makeServerConfiguration(certificateChain: shown, privateKey: source)
        : TLSConfiguration.makeClientConfiguration()
      configuration.certificateChain = shown
      configuration.privateKey = source
      configuration.restrict(trust: [try authority.forTLS])
      if asksOnly { configuration.certificateVerification = .optionalVerification }
      return configuration
    }
  }
}

extension TLSConfiguration {
  /// What every connection of fedlora keeps to.
  mutating func restrict(trust: [NIOSSLCertificate]) {
    minimumTLSVersion = .tlsv13
    maximumTLSVersion = .tlsv13
    trustRoots = .certificates(trust)
    // Asks for a certificate and fails without one; what it has to be is for `PeerVerifier` to say.
    certificateVerification = .noHostnameVerification
    verifySignatureAlgorithms = [.ecdsaSecp256R1Sha256, .ed25519]
    shutdownTimeout = .seconds(2)
  }
}

extension Certificate {
  fileprivate var forTLS: NIOSSLCertificate {
    get throws { try NIOSSLCertificate(bytes: der, format: .der) }
  }
}
