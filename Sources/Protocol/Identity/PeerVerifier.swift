import Foundation
import NIOSSL
import SwiftASN1
import X509

/// Why a peer's certificate is refused.
struct CertificateRefusal: Error, Equatable, Sendable {
  let code: ReasonCode
  let text: String
}

/// Judges the certificate that a peer shows: it chains to the project's authority, counts now, and belongs to the role
/// that the peer plays. That the peer holds its key is what TLS itself proves.
package struct PeerVerifier: Sendable {
  /// Whom this side wants to talk to.
  package enum Role: Sendable { case coordinator, participant }

  let role: Role
  let authority: Certificate

  package init(role: Role, authority: Certificate) {
    self.role = role
    self.authority = authority
  }

  /// Judges `chain`, the peer's own certificate first.
  /// - Throws: `CertificateRefusal`.
  package func verify(_ chain: [NIOSSLCertificate]) async throws -> PeerIdentity {
    let certificates: [Certificate]
    do {
      certificates = try chain.map { try Certificate(derEncoded: $0.toDERBytes()) }
    } catch {
      throw CertificateRefusal(code: .invalidCertificate, text: "its certificate cannot be read: \(error)")
    }
    guard let leaf = certificates.first else {
      throw CertificateRefusal(code: .noCertificate, text: "it shows no certificate")
    }
    try await checkChain(leaf, intermediates: Array(certificates.dropFirst()))
    return try checkRole(leaf)
  }

  private func checkChain(_ leaf: Certificate, intermediates: [Certificate]) async throws {
    var verifier = Verifier(rootCertificates: CertificateStore([authority])) { RFC5280Policy() }
    let result = await verifier.validate(leaf: leaf, intermediates: CertificateStore(intermediates))
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
    switch (role, identity) {
    case (.coordinator, .coordinator), (.participant, .participant): return identity
    case (.coordinator, .participant):
      throw CertificateRefusal(code: .wrongRole, text: "it shows the certificate of \(identity) as the coordinator")
    case (.participant, .coordinator):
      throw CertificateRefusal(code: .wrongRole, text: "it shows the coordinator's certificate as a participant")
    }
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
    var isNamedCoordinator = false
    for name in names ?? SubjectAlternativeNames() {
      switch name {
      case .dnsName(CertificateAuthority.coordinatorHostname): isNamedCoordinator = true
      case .uniformResourceIdentifier(let uri) where uri.hasPrefix(CertificateAuthority.participantPrefix):
        participants.append(String(uri.dropFirst(CertificateAuthority.participantPrefix.count)))
      default: break
      }
    }
    switch (isServer, isClient, isNamedCoordinator, participants.count) {
    case (true, false, true, 0): return .coordinator
    case (false, true, false, 1):
      do {
        return .participant(try ParticipantName(participants[0]))
      } catch {
        throw CertificateRefusal(code: .invalidCertificate, text: "its certificate names a participant badly: \(error)")
      }
    default:
      throw CertificateRefusal(
        code: .wrongRole,
        text: "its certificate (subject \(subject)) is neither one of a coordinator (serverAuth, DNS name "
          + "\(CertificateAuthority.coordinatorHostname)) nor one of a participant (clientAuth, one URI "
          + "\(CertificateAuthority.participantPrefix)NAME)"
      )
    }
  }
}
