import NIOSSL
import X509

/// What a side of a connection brings to the TLS handshake.
struct Endpoint: Sendable {
  /// Whom a server lets in.
  enum Callers: Sendable {
    /// Participants of the project.
    case participants
    /// Participants, and those who show no certificate.
    case anybody
  }

  let context: NIOSSLContext
  let verifier: PeerVerifier
  /// The internal name that a client asks for; nil for a server.
  let serverName: String?
  /// Whether a peer may show no certificate.
  let admitsNameless: Bool
  /// This side's certificate in words, for messages about its being refused.
  let own: String

  /// A server that shows `identity`.
  /// - Throws: `IdentityError`.
  static func server(_ identity: TLSIdentity, callers: Callers) throws(IdentityError) -> Endpoint {
    let asksOnly = callers == .anybody
    let tls = try identity.configuration(isServer: true, asksOnly: asksOnly)
    return Endpoint(
      context: try describingErrors { try NIOSSLContext(configuration: tls) },
      verifier: PeerVerifier(
        role: .participant,
        anchor: .certificate(identity.authority),
        revocations: identity.revocations
      ),
      serverName: nil,
      admitsNameless: asksOnly,
      own: "\(identity)"
    )
  }

  /// A client that shows `identity` and wants to talk to `role`.
  /// - Throws: `IdentityError`.
  static func client(_ identity: TLSIdentity, role: PeerVerifier.Role) throws(IdentityError) -> Endpoint {
    let tls = try identity.configuration(isServer: false)
    return Endpoint(
      context: try describingErrors { try NIOSSLContext(configuration: tls) },
      verifier: PeerVerifier(
        role: role,
        anchor: .certificate(identity.authority),
        revocations: identity.revocations
      ),
      serverName: serverName(role),
      admitsNameless: false,
      own: "\(identity)"
    )
  }

  /// A client without a certificate that knows the authority by the SHA-256 of its certificate.
  /// - Throws: `IdentityError`.
  static func nameless(authority fingerprint: String, role: PeerVerifier.Role) throws(IdentityError) -> Endpoint {
    var tls = TLSConfiguration.makeClientConfiguration()
    tls.restrict(trust: [])
    return Endpoint(
      context: try describingErrors { try NIOSSLContext(configuration: tls) },
      verifier: PeerVerifier(role: role, anchor: .fingerprint(fingerprint), revocations: nil),
      serverName: serverName(role),
      admitsNameless: false,
      own: "missing certificate"
    )
  }

  private static func serverName(_ role: PeerVerifier.Role) -> String {
    role == .authority ? CertificateAuthority.enrolmentHostname : CertificateAuthority.coordinatorHostname
  }
}
