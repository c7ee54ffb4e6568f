import Foundation

/// What an authority has issued, promised and taken back; `register.json` in its folder.
struct CertificateRegister: Codable, Sendable, Equatable {
  /// A one-time token for a certificate that was not fetched yet, or was.
  struct Token: Codable, Sendable, Equatable {
    /// What became of it; written before the certificate leaves.
    struct Use: Codable, Sendable, Equatable {
      let at: Date
      /// Digest of the key that the certificate is for.
      let key: String
      let serial: CertificateSerial
    }

    /// Names the token; part of its text, and no secret.
    let id: String
    let name: ParticipantName
    /// SHA-256 of its secret part. The secret has 256 random bits, so that a fast hash gives nothing away.
    let secretSHA256: String
    let issued: Date
    let expires: Date
    /// Validity of the certificate.
    let days: Double
    var use: Use?
    /// Taken back before it was used.
    var isRevoked = false

    enum CodingKeys: String, CodingKey {
      case id, name
      case secretSHA256 = "secret_sha256"
      case issued, expires, days, use
      case isRevoked = "revoked"
    }
  }

  /// 1 for this form.
  var version = 1
  /// Number of the newest revocation list.
  var listNumber: UInt64 = 0
  /// In the order of their issue.
  var certificates: [IssuedCertificate] = []
  /// Certificates that were revoked by number and are not known here: since when, by serial number.
  var strangers: [String: Date] = [:]
  var tokens: [Token] = []

  enum CodingKeys: String, CodingKey {
    case version
    case listNumber = "crl_number"
    case certificates
    case strangers = "revoked_strangers"
    case tokens
  }

  /// What the revocation list has to say.
  var revoked: [CertificateSerial: Date] {
    var result: [CertificateSerial: Date] = [:]
    for (digits, date) in strangers { if let serial = try? CertificateSerial(digits) { result[serial] = date } }
    for certificate in certificates { result[certificate.serial] = certificate.revocation?.at }
    return result
  }
}

/// A certificate that an authority has issued.
public struct IssuedCertificate: Codable, Sendable, Equatable {
  /// Why and when a certificate was taken back.
  public struct Revocation: Codable, Sendable, Equatable {
    /// Since when it does not count.
    public let at: Date
    /// For people; not part of the revocation list.
    public let reason: String
  }
  /// How a certificate came to be.
  public enum Origin: String, Codable, Sendable {
    /// By `fedlora ca init` or `fedlora ca issue`: the key was made beside the authority's.
    case issued
    /// For a one-time token.
    case enrolled
    /// For the certificate before it.
    case renewed
  }

  /// Its number.
  public let serial: CertificateSerial
  /// The participant that it names; nil for the coordinator's.
  public let name: ParticipantName?
  /// The first second.
  public let notBefore: Date
  /// The last second.
  public let notAfter: Date
  /// When it was issued.
  public let issued: Date
  /// How it came to be.
  public let origin: Origin
  /// Digest of its key.
  let key: String
  /// The certificate (DER).
  let certificate: Data
  /// Set once it was taken back.
  public internal(set) var revocation: Revocation?

  enum CodingKeys: String, CodingKey {
    case serial, name
    case notBefore = "not_before"
    case notAfter = "not_after"
    case issued, origin, key, certificate, revocation
  }

  /// Until when it counts.
  public var expiry: CertificateExpiry { CertificateExpiry(notBefore: notBefore, notAfter: notAfter) }
}
