import Foundation
import SwiftASN1
import X509

/// The DER form of a revocation list, RFC 5280 section 5.1:
///
///     CertificateList ::= SEQUENCE { tbsCertList, signatureAlgorithm, signatureValue BIT STRING }
///     TBSCertList ::= SEQUENCE {
///       version INTEGER (1), signature AlgorithmIdentifier, issuer Name, thisUpdate Time, nextUpdate Time OPTIONAL,
///       revokedCertificates SEQUENCE OF SEQUENCE { INTEGER, Time, Extensions OPTIONAL } OPTIONAL,
///       crlExtensions [0] Extensions OPTIONAL }
///
/// The only algorithm is ecdsa-with-SHA256, the extensions are the authority's key identifier and the list's number.
/// What is read was mostly not written here, so nothing is taken for granted.
enum RevocationListCoding {
  /// What a list says, before its signature is checked.
  struct Parts {
    let issuer: DistinguishedName
    let number: UInt64
    let issued: Date
    let entries: [CertificateSerial: Date]
    /// The bytes that are signed.
    let signed: ArraySlice<UInt8>
    let signature: ArraySlice<UInt8>
  }

  private static let ecdsaWithSHA256: ASN1ObjectIdentifier = [1, 2, 840, 10045, 4, 3, 2]
  private static let listNumber: ASN1ObjectIdentifier = [2, 5, 29, 20]

  // MARK: Writing

  static func signedPart(
    number: UInt64,
    issued: Date,
    entries: [CertificateSerial: Date],
    authority: Certificate
  ) throws -> [UInt8] {
    var numberValue = DER.Serializer()
    try numberValue.serialize(number)
    let identifier = try authority.extensions.subjectKeyIdentifier
    let authorityKey = try Certificate.Extension(
      AuthorityKeyIdentifier(keyIdentifier: identifier?.keyIdentifier),
      critical: false
    )
    var serializer = DER.Serializer()
    try serializer.appendConstructedNode(identifier: .sequence) { list in
      try list.serialize(1)
      try append(algorithmTo: &list)
      try list.serialize(authority.subject)
      try append(issued, to: &list)
      // A list stands until the next one; there is no appointment for that.
      try append(authority.notValidAfter, to: &list)
      if !entries.isEmpty {
        try list.appendConstructedNode(identifier: .sequence) { revoked in
          for (serial, date) in entries.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            try revoked.appendConstructedNode(identifier: .sequence) { entry in
              entry.appendPrimitiveNode(identifier: .integer) { content in
                let bytes = serial.bytes
                if bytes.first.map({ $0 >= 0x80 }) ?? true { content.append(0) }
                content.append(contentsOf: bytes)
              }
              try append(date, to: &entry)
            }
          }
        }
      }
      try list.serialize(explicitlyTaggedWithTagNumber: 0, tagClass: .contextSpecific) { tagged in
        try tagged.appendConstructedNode(identifier: .sequence) { extensions in
          try append(authorityKey.oid, authorityKey.value, to: &extensions)
          try append(listNumber, numberValue.serializedBytes[...], to: &extensions)
        }
      }
    }
    return serializer.serializedBytes
  }

  static func whole(signed: [UInt8], signature: [UInt8]) throws -> [UInt8] {
    var serializer = DER.Serializer()
    try serializer.appendConstructedNode(identifier: .sequence) { whole in
      whole.serializeRawBytes(signed)
      try append(algorithmTo: &whole)
      try whole.serialize(ASN1BitString(bytes: signature[...]))
    }
    return serializer.serializedBytes
  }

  private static func append(algorithmTo serializer: inout DER.Serializer) throws {
    try serializer.appendConstructedNode(identifier: .sequence) { try $0.serialize(ecdsaWithSHA256) }
  }

  private static func append(
    _ identifier: ASN1ObjectIdentifier,
    _ value: ArraySlice<UInt8>,
    to serializer: inout DER.Serializer
  ) throws {
    try serializer.appendConstructedNode(identifier: .sequence) { one in
      try one.serialize(identifier)
      try one.serialize(ASN1OctetString(contentBytes: value))
    }
  }

  /// Up to 2049 a time is a UTCTime, afterwards a GeneralizedTime.
  private static func append(_ date: Date, to serializer: inout DER.Serializer) throws {
    var seconds = time_t(date.timeIntervalSince1970.rounded(.down))
    var parts = tm()
    gmtime_r(&seconds, &parts)
    let (year, month, day) = (Int(parts.tm_year) + 1900, Int(parts.tm_mon) + 1, Int(parts.tm_mday))
    let (hours, minutes, second) = (Int(parts.tm_hour), Int(parts.tm_min), Int(parts.tm_sec))
    if year < 2050 {
      try serializer.serialize(
        UTCTime(year: year, month: month, day: day, hours: hours, minutes: minutes, seconds: second)
      )
    } else {
      try serializer.serialize(
        GeneralizedTime(
          year: year,
          month: month,
          day: day,
          hours: hours,
          minutes: minutes,
          seconds: second,
          fractionalSeconds: 0
        )
      )
    }
  }

  // MARK: Reading

  fileprivate static func malformed(_ reason: String) -> IdentityError {
    .certificate(reason: "the revocation list is malformed: \(reason)")
  }

  fileprivate static func checkAlgorithm(_ node: ASN1Node?) throws {
    guard let node else { throw malformed("an algorithm is missing") }
    let found = try DER.sequence(node, identifier: .sequence) { try ASN1ObjectIdentifier(derEncoded: &$0) }
    guard found == ecdsaWithSHA256 else { throw malformed("it is signed with \(found), expected \(ecdsaWithSHA256)") }
  }

  fileprivate static func isTime(_ node: ASN1Node?) -> Bool {
    node?.identifier == .utcTime || node?.identifier == .generalizedTime
  }

  fileprivate static func date(_ node: ASN1Node?) throws -> Date {
    guard let node else { throw malformed("a time is missing") }
    var parts = tm()
    switch node.identifier {
    case .utcTime:
      let time = try UTCTime(derEncoded: node)
      parts.set(time.year, time.month, time.day, time.hours, time.minutes, time.seconds)
    case .generalizedTime:
      let time = try GeneralizedTime(derEncoded: node)
      parts.set(time.year, time.month, time.day, time.hours, time.minutes, time.seconds)
    default: throw malformed("a time is no time")
    }
    return Date(timeIntervalSince1970: Double(timegm(&parts)))
  }

  fileprivate static func entry(_ node: ASN1Node) throws -> (CertificateSerial, Date) {
    try DER.sequence(node, identifier: .sequence) { fields in
      let bytes = try ArraySlice<UInt8>(derEncoded: &fields)
      guard (1...21).contains(bytes.count), bytes.contains(where: { $0 != 0 }) else {
        throw malformed("a serial number has \(bytes.count) bytes")
      }
      let since = try date(fields.next())
      // Extensions of one entry, a reason for example.
      _ = fields.next()
      return (CertificateSerial(bytes: bytes), since)
    }
  }

  fileprivate static func number(inExtensions node: ASN1Node) throws -> UInt64? {
    var found: UInt64?
    for one in try DER.sequence(of: Certificate.Extension.self, identifier: .sequence, rootNode: node) {
      if one.oid == listNumber {
        found = try UInt64(derEncoded: Array(one.value))
      } else if one.critical {
        throw malformed("it has a critical extension \(one.oid)")
      }
    }
    return found
  }
}

extension RevocationListCoding.Parts {
  /// Cuts a list into what it says.
  /// - Throws: where it is not one.
  init(_ der: [UInt8]) throws {
    typealias Coding = RevocationListCoding
    let root = try DER.parse(der)
    let (list, signature) = try DER.sequence(root, identifier: .sequence) { fields in
      guard let list = fields.next() else { throw Coding.malformed("it is empty") }
      try Coding.checkAlgorithm(fields.next())
      return (list, try ASN1BitString(derEncoded: &fields).bytes)
    }
    self = try DER.sequence(list, identifier: .sequence) { fields in
      guard try Int(derEncoded: &fields) == 1 else { throw Coding.malformed("it is not of version 2") }
      try Coding.checkAlgorithm(fields.next())
      guard let name = fields.next() else { throw Coding.malformed("it names no authority") }
      // The name has a second, deprecated way to be read, which would be chosen if this one were not named.
      let read: (ASN1Node) throws -> DistinguishedName = DistinguishedName.init(derEncoded:)
      let issuer = try read(name)
      let issued = try Coding.date(fields.next())
      var next = fields.next()
      if Coding.isTime(next) { next = fields.next() }
      var entries: [CertificateSerial: Date] = [:]
      if let node = next, node.identifier == .sequence {
        guard case .constructed(let nodes) = node.content else { throw Coding.malformed("its entries are none") }
        for node in nodes {
          let (serial, since) = try Coding.entry(node)
          entries[serial] = since
        }
        next = fields.next()
      }
      guard let last = next,
        let number = try DER.explicitlyTagged(
          last,
          tagNumber: 0,
          tagClass: .contextSpecific,
          { try Coding.number(inExtensions: $0) }
        )
      else { throw Coding.malformed("it has no number") }
      return Self(
        issuer: issuer,
        number: number,
        issued: issued,
        entries: entries,
        signed: list.encodedBytes,
        signature: signature
      )
    }
  }
}

extension tm {
  fileprivate mutating func set(_ year: Int, _ month: Int, _ day: Int, _ hours: Int, _ minutes: Int, _ seconds: Int) {
    (tm_year, tm_mon, tm_mday) = (Int32(year - 1900), Int32(month - 1), Int32(day))
    (tm_hour, tm_min, tm_sec) = (Int32(hours), Int32(minutes), Int32(seconds))
  }
}
