import Crypto
import Foundation
import SwiftASN1
import X509

/// The certificates that an authority has taken back, signed by it: an X.509 certificate revocation list (RFC 5280,
/// section 5), so that other tools can read it too.
///
/// A list carries a number that grows with every new one; of two lists the one with the larger number counts.
public struct RevocationList: Sendable, Equatable {
  /// Grows by one with every list.
  public let number: UInt64
  /// When the list was made.
  public let issued: Date
  /// Which certificates do not count any more, and since when.
  public let entries: [CertificateSerial: Date]
  /// The signed bytes.
  package let der: [UInt8]

  /// Whether the certificate with this serial number was taken back.
  public func contains(_ serial: CertificateSerial) -> Bool { entries[serial] != nil }

  /// The list as PEM.
  public var pem: String { PEMDocument(type: RevocationList.discriminator, derBytes: der).pemString }

  static let discriminator = "X509 CRL"

  /// Reads a list in PEM and checks that `authority` signed it.
  /// - Throws: what is wrong with it.
  init(pem: String, authority: Certificate) throws {
    let document = try PEMDocument(pemString: pem)
    guard document.discriminator == RevocationList.discriminator else {
      throw IdentityError.certificate(reason: "it holds a \(document.discriminator), expected \(Self.discriminator)")
    }
    try self.init(der: document.derBytes, authority: authority)
  }

  /// Reads a list and checks that `authority` signed it.
  /// - Throws: what is wrong with it.
  init(der: [UInt8], authority: Certificate) throws {
    let parts = try RevocationListCoding.Parts(der)
    guard parts.issuer == authority.subject else {
      throw IdentityError.certificate(reason: "the list is one of \(parts.issuer), expected \(authority.subject)")
    }
    guard
      authority.publicKey.isValidSignature(
        parts.signature,
        for: parts.signed,
        signatureAlgorithm: .ecdsaWithSHA256
      )
    else { throw IdentityError.certificate(reason: "the list is not signed by \(authority.subject)") }
    (number, issued, entries, self.der) = (parts.number, parts.issued, parts.entries, der)
  }

  private init(number: UInt64, issued: Date, entries: [CertificateSerial: Date], der: [UInt8]) {
    (self.number, self.issued, self.entries, self.der) = (number, issued, entries, der)
  }

  /// Makes and signs a list.
  static func make(
    number: UInt64,
    issued: Date,
    entries: [CertificateSerial: Date],
    authority: Certificate,
    key: P256.Signing.PrivateKey
  ) throws -> RevocationList {
    // A list holds whole seconds.
    let issued = issued.wholeSeconds
    let entries = entries.mapValues(\.wholeSeconds)
    let signed = try RevocationListCoding.signedPart(
      number: number,
      issued: issued,
      entries: entries,
      authority: authority
    )
    let signature = try key.signature(for: signed).derRepresentation
    let der = try RevocationListCoding.whole(signed: signed, signature: Array(signature))
    return RevocationList(number: number, issued: issued, entries: entries, der: der)
  }
}

extension Date {
  fileprivate var wholeSeconds: Date { Date(timeIntervalSince1970: timeIntervalSince1970.rounded(.down)) }
}
