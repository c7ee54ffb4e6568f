import Crypto
import Foundation
import SwiftASN1
import X509

/// A project's own certificate authority: one P-256 key that signs the coordinator's and the participants' certificates.
///
/// A certificate says what its owner is in two ways that have to agree: the extended key usage (serverAuth for the
/// coordinator, clientAuth for a participant) and a subject alternative name (DNS `coordinator.fedlora`, or URI
/// `fedlora:participant:NAME`). No host name or address is in it: clients dial any address that leads to the coordinator.
public struct CertificateAuthority: Sendable {
  /// The internal name in the coordinator's certificate.
  public static let coordinatorHostname = "coordinator.fedlora"
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
  public var fingerprint: String {
    var serializer = DER.Serializer()
    guard (try? serializer.serialize(certificate)) != nil else { return "" }
    return Data(SHA256.hash(data: serializer.serializedBytes)).hexadecimal
  }

  /// A new key and certificate for the coordinator, in memory.
  public func issueCoordinator(validity: CertificateValidity = .days(365)) throws -> TLSIdentity {
    try issue(
      commonName: "coordinator",
      usage: .serverAuth,
      name: .dnsName(Self.coordinatorHostname),
      validity: validity
    )
  }

  /// A new key and certificate for a participant, in memory.
  public func issueParticipant(_ name: ParticipantName, validity: CertificateValidity = .days(365)) throws
    -> TLSIdentity
  {
    try issue(
      commonName: name.rawValue,
      usage: .clientAuth,
      name: .uniformResourceIdentifier(Self.participantPrefix + name.rawValue),
      validity: validity
    )
  }

  private func issue(
    commonName: String,
    usage: ExtendedKeyUsage.Usage,
    name: GeneralName,
    validity: CertificateValidity
  ) throws -> TLSIdentity {
    let leafKey = P256.Signing.PrivateKey()
    let publicKey = Certificate.PublicKey(leafKey.publicKey)
    let leaf = try describingErrors {
      try Certificate(
        version: .v3,
        serialNumber: Certificate.SerialNumber(),
        publicKey: publicKey,
        notValidBefore: validity.notBefore,
        notValidAfter: validity.notAfter,
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
    return TLSIdentity(certificate: leaf, key: leafKey, authority: certificate)
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
