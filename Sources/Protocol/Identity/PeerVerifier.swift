import Foundation
import NIOSSL
import SwiftASN1
import X509

/// Why a peer's certificate is refused.
struct CertificateRefusal: Error, Equatable, Sendable {
  let code: ReasonCode
  let text: String

  /// - Parameter text: may hold what a stranger wrote into a certificate.
  init(code: ReasonCode, text: String) {
    self.code = code
    self.text = text.oneLine(atMost: 1024)
  }
}

/// A peer whose certificate was judged.
package struct VerifiedPeer: Sendable, Equatable {
  package let identity: PeerIdentity
  /// Nil where it showed no certificate and none was asked for.
  let serial: CertificateSerial?
  let notAfter: Date

  /// Somebody without a certificate.
  static let nameless = VerifiedPeer(identity: .nameless, serial: nil, notAfter: .distantFuture)
}

/// Judges the certificate that a peer shows: it chains to the project's authority, counts now, was not taken back, and
/// belongs to the role that the peer plays. That the peer holds its key is what TLS itself proves.
package struct PeerVerifier: Sendable {
  /// Whom this side wants to talk to.
  package enum Role: Sendable { case coordinator, participant, authority }

  /// What a chain has to end in.
  package enum Anchor: Sendable {
    /// This certificate.
    case certificate(Certificate)
    /// The certificate in the peer's own chain whose SHA-256 this is, in lower-case digits.
    case fingerprint(String)
  }

  let role: Role
  let anchor: Anchor
  let revocations: RevocationList?

  package init(role: Role, anchor: Anchor, revocations: RevocationList?) {
    self.role = role
    self.anchor = anchor
    self.revocations = revocations
  }

  /// Judges `chain`, the peer's own certificate first.
  /// - Throws: `CertificateRefusal`.
  package func verify(_ chain: [NIOSSLCertificate]) async throws -> VerifiedPeer {
    guard let shown = chain.first else {
      throw CertificateRefusal(code: .noCertificate, text: "it shows no certificate")
    }
    let authority = try authority(in: chain)
    let leaf: Certificate
    do { leaf = try Certificate(derEncoded: shown.toDERBytes()) } catch {
      throw CertificateRefusal(code: .invalidCertificate, text: "its certificate cannot be read: \(error)")
    }
    return try await judge(leaf, authority: authority)
  }

  /// Judges one certificate that came without a chain.
  /// - Throws: `CertificateRefusal`.
  func verify(_ leaf: Certificate) async throws -> VerifiedPeer {
    try await judge(leaf, authority: try authority(in: []))
  }

  private func judge(_ leaf: Certificate, authority: Certificate) async throws -> VerifiedPeer {
    try await checkChain(leaf, authority: authority)
    let serial = CertificateSerial(leaf.serialNumber)
    if let since = revocations?.entries[serial] {
      throw CertificateRefusal(
        code: .revoked,
        text: "its certificate (subject \(leaf.subject), serial \(serial)) was revoked on "
          + since.formatted(.iso8601)
      )
    }
    return VerifiedPeer(identity: try checkRole(leaf), serial: serial, notAfter: leaf.notValidAfter)
  }

  private func authority(in chain: [NIOSSLCertificate]) throws -> Certificate {
    switch anchor {
    case .certificate(let authority): return authority
    case .fingerprint(let wanted):
      do {
        for shown in chain {
          let bytes = try shown.toDERBytes()
          if Digest.sha256(bytes) == wanted { return try Certificate(derEncoded: bytes) }
        }
      } catch {
        throw CertificateRefusal(code: .invalidCertificate, text: "its certificates cannot be read: \(error)")
      }
      throw CertificateRefusal(
        code: .unknownAuthority,
        text: "none of the certificates that it shows is the authority's, whose SHA-256 is \(wanted)"
      )
    }
  }

  /// The authority signs every certificate itself, so nothing else that a peer shows is part of a chain. It must not be
  /// tried either: a dozen certificates of a stranger that sign each other have more orders than a processor can try.
  private func checkChain(_ leaf: Certificate, authority: Certificate) async throws {
    var verifier = Verifier(rootCertificates: CertificateStore([authority])) { RFC5280Policy() }
    let result = await verifier.validate(leaf: leaf, intermediates: CertificateStore())
    guard case .couldNotValidate(let failures) = result else { return }
    guard !failures.isEmpty else {
      throw CertificateRefusal(
        code: .unknownAuthority,
        text: "its certificate (subject \(leaf.subject), issuer \(leaf.issuer)) does not chain to \(authority.subject)"
      )
    }
    let now = Date()
    if leaf.notValidAfter < now {
      throw CertificateRefusal(
        code: .expired,
        text: "its certificate (subject \(leaf.subject)) ended on \(leaf.notValidAfter.formatted(.iso8601))"
      )
    }
    if leaf.notValidBefore > now {
      throw CertificateRefusal(
        code: .notYetValid,
        text: "its certificate (subject \(leaf.subject)) begins on \(leaf.notValidBefore.formatted(.iso8601))"
      )
    }
    throw CertificateRefusal(
      code: .invalidCertificate,
      text: "its certificate (subject \(leaf.subject)) breaks a rule: "
        + failures.map { "\($0.policyFailureReason)" }.joined(separator: "; ")
    )
  }

  private func checkRole(_ leaf: Certificate) throws -> PeerIdentity {
    let identity = try leaf.fedloraIdentity()
    let wanted: String
    switch (role, identity) {
    case (.coordinator, .coordinator), (.participant, .participant), (.authority, .authority): return identity
    case (.coordinator, _): wanted = "the coordinator's"
    case (.participant, _): wanted = "a participant's"
    case (.authority, _): wanted = "the enrolment service's"
    }
    throw CertificateRefusal(
      code: .wrongRole,
      text: "it shows the certificate of \(identity) where \(wanted) is needed"
    )
  }
}

extension Certificate {
  /// What the certificate says that its owner is: extended key usage and name have to agree.
  /// - Throws: `CertificateRefusal`.
  func fedloraIdentity() throws -> PeerIdentity {
    let (usages, names): (ExtendedKeyUsage?, SubjectAlternativeNames?)
    do {
      (usages, names) = (try extensions.extendedKeyUsage, try extensions.subjectAlternativeNames)
    } catch {
      throw CertificateRefusal(code: .invalidCertificate, text: "its certificate's extensions cannot be read: \(error)")
    }
    let isServer = usages?.contains(.serverAuth) ?? false
    let isClient = usages?.contains(.clientAuth) ?? false
    var participants: [String] = []
    var services: [PeerIdentity] = []
    for name in names ?? SubjectAlternativeNames() {
      switch name {
      case .dnsName(CertificateAuthority.coordinatorHostname): services.append(.coordinator)
      case .dnsName(CertificateAuthority.enrolmentHostname): services.append(.authority)
      case .uniformResourceIdentifier(let uri) where uri.hasPrefix(CertificateAuthority.participantPrefix):
        participants.append(String(uri.dropFirst(CertificateAuthority.participantPrefix.count)))
      default: break
      }
    }
    switch (isServer, isClient, services.count, participants.count) {
    case (true, false, 1, 0): return services[0]
    case (false, true, 0, 1):
      do {
        return .participant(try ParticipantName(participants[0]))
      } catch {
        throw CertificateRefusal(code: .invalidCertificate, text: "its certificate names a participant badly: \(error)")
      }
    default:
      throw CertificateRefusal(
        code: .wrongRole,
        text: "its certificate (subject \(subject)) is neither one of a coordinator or of an enrolment service "
          + "(serverAuth, one DNS name \(CertificateAuthority.coordinatorHostname) or "
          + "\(CertificateAuthority.enrolmentHostname)) nor one of a participant (clientAuth, one URI "
          + "\(CertificateAuthority.participantPrefix)NAME)"
      )
    }
  }
}
