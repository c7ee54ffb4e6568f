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
  let key: P256.Signing.PrivateKey
  let authority: Certificate

  init(certificate: Certificate, key: P256.Signing.PrivateKey, authority: Certificate) {
    self.certificate = certificate
    self.key = key
    self.authority = authority
  }

  /// What the certificate says its owner is, nil where it says nothing that fedlora knows.
  public var identity: PeerIdentity? { try? certificate.fedloraIdentity() }

  /// The participant's name in the certificate.
  public var participant: ParticipantName? { identity?.participant }

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
  package func configuration(isServer: Bool) throws(IdentityError) -> TLSConfiguration {
    try describingErrors {
      let chain = [NIOSSLCertificateSource.certificate(try certificate.forTLS)]
      let source = NIOSSLPrivateKeySource.privateKey(
        try NIOSSLPrivateKey(bytes: Array(key.derRepresentation), format: .der)
      )
      var configuration =
        isServer
        ? TLSConfiguration.makeServerConfiguration(certificateChain: chain, privateKey: source)
        : TLSConfiguration.makeClientConfiguration()
      configuration.certificateChain = chain
      configuration.privateKey = source
      configuration.minimumTLSVersion = .tlsv13
      configuration.maximumTLSVersion = .tlsv13
      configuration.trustRoots = .certificates([try authority.forTLS])
      // Asks for a certificate and fails without one; what it has to be is for `PeerVerifier` to say.
      configuration.certificateVerification = .noHostnameVerification
      configuration.shutdownTimeout = .seconds(2)
      return configuration
    }
  }
}

extension Certificate {
  fileprivate var forTLS: NIOSSLCertificate {
    get throws {
      var serializer = DER.Serializer()
      try serializer.serialize(self)
      return try NIOSSLCertificate(bytes: serializer.serializedBytes, format: .der)
    }
  }
}
