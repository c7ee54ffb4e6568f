import SwiftASN1
import X509

/// What somebody asks a certificate for: a key that it has shown to hold, and a name. Everything else that a PKCS #10
/// request can ask for is not looked at: what a certificate says, the authority alone decides.
struct CertificateRequest {
  let publicKey: Certificate.PublicKey
  let name: ParticipantName

  /// Longest request that is read; one of a P-256 key takes about 250 bytes.
  static let longest = 4096

  /// Reads a request (DER) and checks its signature.
  /// - Throws: `EnrolmentRefusal`.
  init(der: [UInt8]) throws(EnrolmentRefusal) {
    guard der.count <= Self.longest else {
      throw EnrolmentRefusal(code: .invalidRequest, text: "the request has more than \(Self.longest) bytes")
    }
    let request: CertificateSigningRequest
    do { request = try CertificateSigningRequest(derEncoded: der) } catch {
      throw EnrolmentRefusal(code: .invalidRequest, text: "the request is no PKCS #10 request")
    }
    guard IdentityKeyKind(request.publicKey) != nil else {
      throw EnrolmentRefusal(code: .invalidRequest, text: "the key is neither P-256 nor Ed25519")
    }
    guard request.publicKey.isValidSignature(request.signature, for: request) else {
      throw EnrolmentRefusal(code: .invalidRequest, text: "the request is not signed with its key")
    }
    let names = request.subject.flatMap { $0 }.filter { $0.type == .RDNAttributeType.commonName }
    guard names.count == 1, let text = String(names[0].value), let name = try? ParticipantName(text) else {
      throw EnrolmentRefusal(code: .invalidRequest, text: "the request's common name is no participant's name")
    }
    publicKey = request.publicKey
    self.name = name
  }

  /// A request (DER) for `key`.
  static func make(_ key: IdentityKey, name: ParticipantName) throws(IdentityError) -> [UInt8] {
    try describingErrors {
      let request = try CertificateSigningRequest(
        version: .v1,
        subject: try DistinguishedName {
          OrganizationName("fedlora")
          CommonName(name.rawValue)
        },
        privateKey: key.privateKey,
        attributes: CertificateSigningRequest.Attributes()
      )
      var serializer = DER.Serializer()
      try serializer.serialize(request)
      return serializer.serializedBytes
    }
  }
}

/// Why the authority gives no certificate.
package struct EnrolmentRefusal: Error, Equatable, Sendable {
  let code: ReasonCode
  let text: String
}
