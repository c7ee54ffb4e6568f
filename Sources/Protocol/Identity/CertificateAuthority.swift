import Crypto
import Foundation
import SwiftASN1
import X509

/// A project's own certificate authority: one P-256 key that signs the coordinator's and the participants' certificates.
///
/// A certificate says what its owner is in two ways that have to agree: the extended key usage (serverAuth for the
/// coordinator and for the service that enrols, clientAuth for a participant) and a subject alternative name (DNS
/// `coordinator.fedlora` or `enrolment.fedlora`, or URI `fedlora:participant:NAME`). No host name or address is in it:
/// clients dial any address that leads to the coordinator.
public struct CertificateAuthority: Sendable {
  /// The internal name in the coordinator's certificate.
  public static let coordinatorHostname = "coordinator.fedlora"
  /// The internal name in the certificate of the service that enrols participants.
  static let enrolmentHostname = "enrolment.fedlora"
  static let participantPrefix = "fedlora:participant:"

  let certificate: Certificate
  let key: P256.Signing.PrivateKey

  /// Uses a key and certificate that belong together; see `load(from:)`.
  init(certificate: Certificate, key: P256.Signing.PrivateKey) {
    self.certificate = certificate
    self.key = key
  }

  /// Makes a new authority in memory, for a throw-away project.
  /// - Throws: `IdentityError`.
  public init(name: String = "fedlora authority", validity: CertificateValidity = .days(3650)) throws {
    let key = P256.Signing.PrivateKey()
    let publicKey = Certificate.PublicKey(key.publicKey)
    self.key = key
    certificate = try describingErrors {
      // The serial number keeps two authorities of one name apart.
      let serial = Certificate.SerialNumber()
      let subject = try DistinguishedName {
        OrganizationName("fedlora")
        CommonName("\(name) \(Data(serial.bytes.prefix(4)).hexadecimal)")
      }
      return try Certificate(
        version: .v3,
        serialNumber: serial,
        publicKey: publicKey,
        notValidBefore: validity.notBefore,
        notValidAfter: validity.notAfter,
        issuer: subject,
        subject: subject,
        signatureAlgorithm: .ecdsaWithSHA256,
        extensions: try Certificate.Extensions {
          Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
          Critical(KeyUsage(keyCertSign: true, cRLSign: true))
          SubjectKeyIdentifier(hash: publicKey)
        },
        issuerPrivateKey: Certificate.PrivateKey(key)
      )
    }
  }

  /// SHA-256 of the authority's certificate in lower-case digits, to compare by eye.
  public var fingerprint: String { (try? Digest.sha256(certificate.der)) ?? "" }

  /// A new key and certificate for the coordinator, in memory.
  public func issueCoordinator(validity: CertificateValidity = .days(365), key: IdentityKeyKind = .p256) throws
    -> TLSIdentity
  {
    try issue(.coordinator, validity: validity, key: key)
  }

  /// A new key and certificate for a participant, in memory.
  public func issueParticipant(
    _ name: ParticipantName,
    validity: CertificateValidity = .days(365),
    key: IdentityKeyKind = .p256
  ) throws -> TLSIdentity {
    try issue(.participant(name), validity: validity, key: key)
  }

  /// A new key and certificate for the service that enrols participants, in memory.
  func issueEnrolmentService(validity: CertificateValidity) throws -> TLSIdentity {
    try issue(.authority, validity: validity, key: .p256)
  }

  private func issue(_ owner: PeerIdentity, validity: CertificateValidity, key: IdentityKeyKind) throws -> TLSIdentity {
    let key = try describingErrors { IdentityKey(generating: key) }
    return TLSIdentity(
      certificate: try certify(key.publicKey, as: owner, validity: validity),
      key: key,
      authority: certificate
    )
  }

  /// A certificate for a key that somebody else may hold.
  /// - Throws: `IdentityError`.
  func certify(_ publicKey: Certificate.PublicKey, as owner: PeerIdentity, validity: CertificateValidity)
    throws(IdentityError) -> Certificate
  {
    guard IdentityKeyKind(publicKey) != nil else {
      throw .certificate(reason: "the key is neither P-256 nor Ed25519")
    }
    let (commonName, usage, name): (String, ExtendedKeyUsage.Usage, GeneralName) =
      switch owner {
      case .coordinator: ("coordinator", .serverAuth, .dnsName(Self.coordinatorHostname))
      case .authority: ("enrolment", .serverAuth, .dnsName(Self.enrolmentHostname))
      case .participant(let name):
        (name.rawValue, .clientAuth, .uniformResourceIdentifier(Self.participantPrefix + name.rawValue))
      case .nameless: throw .certificate(reason: "nobody is no owner of a certificate")
      }
    return try describingErrors {
      try Certificate(
        version: .v3,
        serialNumber: Certificate.SerialNumber(),
        publicKey: publicKey,
        notValidBefore: validity.notBefore,
        // What outlives the authority counts for nothing.
        notValidAfter: min(validity.notAfter, max(certificate.notValidAfter, validity.notBefore)),
        issuer: certificate.subject,
        subject: try DistinguishedName {
          OrganizationName("fedlora")
          CommonName(commonName)
        },
        signatureAlgorithm: .ecdsaWithSHA256,
        extensions: try Certificate.Extensions {
          Critical(BasicConstraints.notCertificateAuthority)
          Critical(KeyUsage(digitalSignature: true))
          try ExtendedKeyUsage([usage])
          SubjectAlternativeNames([name])
          SubjectKeyIdentifier(hash: publicKey)
          AuthorityKeyIdentifier(
            keyIdentifier: SubjectKeyIdentifier(hash: Certificate.PublicKey(key.publicKey)).keyIdentifier
          )
        },
        issuerPrivateKey: Certificate.PrivateKey(key)
      )
    }
  }

  /// A signed list of what was taken back.
  /// - Throws: `IdentityError`.
  func revocationList(number: UInt64, entries: [CertificateSerial: Date], issued: Date) throws(IdentityError)
    -> RevocationList
  {
    try describingErrors {
      try RevocationList.make(number: number, issued: issued, entries: entries, authority: certificate, key: key)
    }
  }
}

/// Runs `body`; what the libraries throw becomes an `IdentityError`.
func describingErrors<Result>(_ body: () throws -> Result) throws(IdentityError) -> Result {
  do {
    return try body()
  } catch let error as IdentityError {
    throw error
  } catch {
    throw .certificate(reason: "\(error)")
  }
}
