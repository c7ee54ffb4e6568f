import Crypto
import FedLoRAProtocol
import Foundation
import SwiftASN1
import SwiftProtobuf
import X509

/// A token, the authority that gave it out, and what is said while it is used; the same in every process but for
/// signatures.
enum EnrolmentSamples {
  static let id = [UInt8](repeating: 1, count: 8)
  static let secret = [UInt8](repeating: 2, count: 32)
  static var name: ParticipantName { get throws { try ParticipantName("site-1") } }
  /// The number of the certificate that a participant renews.
  static var serial: CertificateSerial { get throws { try CertificateSerial("010203") } }

  // MARK: Tokens

  /// Words: an ordinary one, one without an address, and one as long as can be.
  static func words() throws -> [[UInt8]] {
    let authority = Array(SHA256.hash(data: Array("authority".utf8)))
    let long = (String(repeating: "n", count: 64), String(repeating: "ä", count: 127))
    return [("site-1", "10.0.0.5:7444"), ("a", ""), long].map { name, address in
      var bytes = authority + id + secret
      for part in [name, address] { bytes += [UInt8(part.utf8.count)] + Array(part.utf8) }
      return word(bytes)
    }
  }

  private static func word(_ bytes: [UInt8]) -> [UInt8] {
    let whole = Data(bytes + SHA256.hash(data: bytes).prefix(4)).base64EncodedString()
    let safe = whole.replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    return Array(("fl1." + safe).utf8)
  }

  /// A word with its check sum put right, whatever of it is base64url.
  @Sendable static func checked(_ bytes: [UInt8]) -> [UInt8] {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    var bits = 0
    var count = 0
    var result: [UInt8] = []
    for letter in bytes.dropFirst(4) {
      guard let value = alphabet.firstIndex(of: letter) else { continue }
      bits = (bits << 6 | value) & 0xFFFF
      count += 6
      if count >= 8 {
        count -= 8
        result.append(UInt8(truncatingIfNeeded: bits >> count))
      }
    }
    return word(Array(result.dropLast(4)))
  }

  // MARK: The authority

  /// The authority's folder with one token that was not used and nothing else, as it stands before every input.
  static func folder(_ scratch: FuzzScratch) throws -> AuthorityFolder {
    let folder = try scratch.subfolder("ca")
    let token = """
      {"days":30,"expires":"2100-01-01T00:00:00Z","id":"\(hexadecimal(id))","issued":"2024-01-01T00:00:00Z",\
      "name":"site-1","revoked":false,"secret_sha256":"\(hexadecimal(SHA256.hash(data: secret)))"}
      """
    let register = """
      {"certificates":[],"crl_number":1,"revoked_strangers":{},"tokens":[\(token)],"version":1}
      """
    let authority = try CertificateSamples.authority().serializeAsPEM().pemString
    for (name, text) in [
      ("ca-key.pem", try CertificateSamples.key.pemRepresentation), ("ca.pem", authority), ("register.json", register),
    ] { _ = try scratch.file("ca/\(name)", Array(text.utf8)) }
    try? FileManager.default.removeItem(at: folder.appendingPathComponent("crl.pem"))
    return try AuthorityFolder.open(folder)
  }

  private static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { String(format: "%02x", $0) }.joined()
  }

  // MARK: Messages

  /// A request with the token, one for a renewal, and one that belongs elsewhere.
  static func requests() throws -> [[UInt8]] {
    let request = try CertificateSigningRequest(
      version: .v1,
      subject: DistinguishedName { CommonName("site-1") },
      privateKey: Certificate.PrivateKey(CertificateSamples.key),
      attributes: CertificateSigningRequest.Attributes()
    )
    var serializer = DER.Serializer()
    try serializer.serialize(request)
    let der = Data(serializer.serializedBytes)
    let messages: [WireEnvelope] = [
      WireEnvelope(.enrolmentRequest(with(der))),
      WireEnvelope(
        .renewalRequest(
          .with {
            $0.protocolVersion = 1
            $0.request = der
          }
        )
      ),
      WireEnvelope(.ping(.with { $0.nonce = 1 })),
    ]
    return try messages.map { [UInt8](try $0.serializedData()) }
  }

  private static func with(_ der: Data) -> WireEnrolmentRequest {
    .with {
      $0.protocolVersion = 1
      $0.tokenID = Data(id)
      $0.tokenSecret = Data(secret)
      $0.request = der
    }
  }

  /// The request with the right token and a valid signature over what it now asks for.
  @Sendable static func proven(_ bytes: [UInt8]) -> [UInt8] {
    guard var envelope = try? WireEnvelope(serializedBytes: Data(bytes)) else { return bytes }
    switch envelope.message {
    case .enrolmentRequest(let request):
      envelope = WireEnvelope(.enrolmentRequest(with(Data(CertificateSamples.signed([UInt8](request.request))))))
    case .renewalRequest(var request):
      request.protocolVersion = 1
      request.request = Data(CertificateSamples.signed([UInt8](request.request)))
      envelope = WireEnvelope(.renewalRequest(request))
    default: return bytes
    }
    return (try? [UInt8](envelope.serializedData())) ?? bytes
  }

  /// An answer with a revocation list, and one without.
  static func answers() throws -> [[UInt8]] {
    let scratch = try FuzzScratch()
    let list = try withExtendedLifetime(scratch) {
      let authority = try folder(scratch)
      _ = try authority.revoke(.serial(CertificateSerial("0a0b0c")))
      return try authority.revocations()
    }
    return try [list?.der ?? [], []].map { revocations in
      let answer = try WireEnrolmentAnswer.with {
        $0.certificate = Data(try CertificateSamples.der(CertificateSamples.leaves()[0]))
        $0.authority = Data(try CertificateSamples.der(CertificateSamples.authority()))
        $0.revocations = Data(revocations)
      }
      return [UInt8](try answer.serializedData())
    }
  }

  /// The answer with valid signatures over what it now says.
  @Sendable static func signed(_ bytes: [UInt8]) -> [UInt8] {
    guard var answer = try? WireEnrolmentAnswer(serializedBytes: Data(bytes)) else { return bytes }
    func signed(_ part: Data) -> Data { part.isEmpty ? part : Data(CertificateSamples.signed([UInt8](part))) }
    answer.certificate = signed(answer.certificate)
    answer.authority = signed(answer.authority)
    answer.revocations = signed(answer.revocations)
    return (try? [UInt8](answer.serializedData())) ?? bytes
  }
}
