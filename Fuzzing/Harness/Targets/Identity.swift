import Crypto
import FedLoRAProtocol
import Foundation
import NIOSSL
import SwiftASN1
import X509

extension FuzzTarget {
  /// The certificate that a peer shows in the handshake, and what is made of it.
  static let certificate = FuzzTarget(
    name: "certificate",
    about: "a peer's certificate in DER",
    limits: FuzzLimits(memory: 4 << 20, memoryPerByte: 512),
    dictionary: [
      "coordinator.fedlora", "fedlora:participant:", "fedlora:participant:site-1", "\u{30}\u{0}",
      "\u{6}\u{3}U\u{1d}\u{11}",
      "\u{6}\u{3}U\u{1d}%", "\u{17}\r", "\u{18}\u{f}", "99991231235959Z", "000101000000Z", "\u{2}\u{1}\u{0}",
      "\u{1}\u{1}", "\u{5}\u{0}", "\u{3}\u{2}\u{7}", "\u{30}\u{7f}",
    ],
    seeds: { try CertificateSamples.leaves().map { try CertificateSamples.der($0) } },
    repair: CertificateSamples.signed
  ) { bytes, _ in
    let certificate = try NIOSSLCertificate(bytes: bytes, format: .der)
    let authority = try CertificateSamples.authority()
    var refusals: [any Error] = []
    for role in [PeerVerifier.Role.coordinator, .participant, .authority] {
      let verifier = PeerVerifier(role: role, anchor: .certificate(authority), revocations: nil)
      do {
        let identity = try blocking { try await verifier.verify([certificate]) }.identity
        try FuzzFailure.unless(
          (identity.participant != nil) == (role == .participant),
          "\(identity) plays another role"
        )
      } catch let failure as FuzzFailure {
        throw failure
      } catch { refusals.append(error) }
    }
    try FuzzFailure.unless(refusals.count > 1, "one certificate is good for two roles")
    if refusals.count == 3 { throw refusals[0] }
  }

  /// Everything that a peer shows in the handshake: certificates in DER, each behind its length in two bytes.
  static let certificateChain = FuzzTarget(
    name: "certificate-chain",
    about: "all certificates that a peer shows",
    limits: FuzzLimits(memory: 4 << 20, memoryPerByte: 512),
    dictionary: ["coordinator.fedlora", "fedlora:participant:site-1", "ring", "\u{1}\u{1}", "\u{5}\u{0}"],
    seeds: {
      let good = try CertificateSamples.leaves()[0]
      let chains = [[good, try CertificateSamples.authority()], try CertificateSamples.ring(9), [good]]
      return try chains.map { try CertificateSamples.joined($0.map { try CertificateSamples.der($0) }) }
    },
    repair: { CertificateSamples.joined(CertificateSamples.parts($0).map(CertificateSamples.signed)) }
  ) { bytes, _ in
    let shown = CertificateSamples.parts(bytes)
    let chain = try shown.map { try NIOSSLCertificate(bytes: $0, format: .der) }
    let authority = try CertificateSamples.authority()
    func verify(_ chain: [NIOSSLCertificate], _ anchor: PeerVerifier.Anchor) throws -> VerifiedPeer {
      try blocking { try await PeerVerifier(role: .participant, anchor: anchor, revocations: nil).verify(chain) }
    }
    let last = SHA256.hash(data: shown.last ?? []).map { String(format: "%02x", $0) }.joined()
    _ = try? verify(chain, .fingerprint(last))
    let alone = try? verify(Array(chain.prefix(1)), .certificate(authority))
    let together = Result { try verify(chain, .certificate(authority)) }
    try FuzzFailure.unless((try? together.get()) == alone, "what follows a certificate changes what it is")
    _ = try together.get()
  }

  /// An identity folder: three files, divided by zero bytes.
  static let identity = FuzzTarget(
    name: "identity",
    about: "the PEM files of an identity folder",
    limits: FuzzLimits(memory: 4 << 20, memoryPerByte: 512),
    dictionary: [
      "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\n", "-----END",
      "====",
      "-----BEGIN EC PRIVATE KEY-----\n", "-----", "\r\n", "\0", "\n\n", "AAAA", "MIIB",
    ],
    seeds: {
      let authority = try PEMDocument(CertificateSamples.authority())
      return try CertificateSamples.leaves().prefix(2).map { leaf in
        let texts = [try CertificateSamples.key.pemRepresentation, try leaf.serializeAsPEM().pemString, authority]
        return Array(texts.joined(separator: "\0").utf8)
      }
    }
  ) { bytes, scratch in
    let parts = bytes.split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false)
    for (index, name) in ["key.pem", "certificate.pem", "ca.pem"].enumerated() {
      _ = try scratch.file(name, index < parts.count ? parts[index] : [])
    }
    let identity = try TLSIdentity.load(from: scratch.folder)
    _ = identity.description
    _ = try? identity.configuration(isServer: true)
    let texts = try FuzzFailure.onError("a certificate that was read cannot be written") {
      (try identity.certificatePEM, try identity.authorityPEM)
    }
    _ = try scratch.file("certificate.pem", Array(texts.0.utf8))
    _ = try scratch.file("ca.pem", Array(texts.1.utf8))
    let again = try FuzzFailure.onError("a written identity cannot be read") {
      try TLSIdentity.load(from: scratch.folder)
    }
    try FuzzFailure.unless(again.description == identity.description, "an identity changes when it is written")
  }

  private static func PEMDocument(_ certificate: Certificate) throws -> String {
    try certificate.serializeAsPEM().pemString
  }
}

/// A project whose authority is the same in every process: its keys are numbers of ours, and protect nothing.
enum CertificateSamples {
  /// The authority's key, and that of every certificate.
  static var key: P256.Signing.PrivateKey {
    get throws { try P256.Signing.PrivateKey(rawRepresentation: [UInt8](repeating: 7, count: 32)) }
  }

  private static let cached = Result { try makeAuthority() }

  static func authority() throws -> Certificate { try cached.get() }

  private static func makeAuthority() throws -> Certificate {
    try certificate(
      "authority",
      Certificate.Extensions {
        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
        Critical(KeyUsage(keyCertSign: true, cRLSign: true))
      }
    )
  }

  /// A participant's, the coordinator's, one that is over, one with names of other kinds, one that claims too much.
  static func leaves() throws -> [Certificate] {
    func leaf(_ usages: [ExtendedKeyUsage.Usage], _ names: [GeneralName], until: Double = 4_000_000_000) throws
      -> Certificate
    {
      try certificate(
        "leaf",
        Certificate.Extensions {
          Critical(BasicConstraints.notCertificateAuthority)
          Critical(KeyUsage(digitalSignature: true))
          try ExtendedKeyUsage(usages)
          SubjectAlternativeNames(names)
        },
        until: until
      )
    }
    let participant = GeneralName.uniformResourceIdentifier("fedlora:participant:site-1")
    let coordinator = GeneralName.dnsName(CertificateAuthority.coordinatorHostname)
    return [
      try leaf([.clientAuth], [participant]), try leaf([.serverAuth], [coordinator]),
      try leaf([.clientAuth], [participant], until: 1_700_000_000),
      try leaf(
        [.clientAuth],
        [.rfc822Name("a@b"), .ipAddress(ASN1OctetString(contentBytes: [1, 2, 3, 4])), participant]
      ),
      try leaf([.clientAuth, .serverAuth], [participant, coordinator]),
    ]
  }

  /// A participant's certificate of an authority that is none, with `count` certificates of that authority behind it,
  /// each of which signs all others: they have `count` factorial orders.
  static func ring(_ count: Int) throws -> [Certificate] {
    let leaf = try certificate(
      "leaf",
      Certificate.Extensions {
        try ExtendedKeyUsage([.clientAuth])
        SubjectAlternativeNames([.uniformResourceIdentifier("fedlora:participant:site-1")])
      },
      issuer: "ring"
    )
    let others = try (0..<count).map { number in
      try certificate(
        "ring",
        Certificate.Extensions {
          Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
          SubjectAlternativeNames([.dnsName("ring-\(number)")])
        },
        issuer: "ring"
      )
    }
    return [leaf] + others
  }

  /// Byte strings, each behind its length in two bytes.
  static func joined(_ parts: [[UInt8]]) -> [UInt8] {
    parts.flatMap { [UInt8(truncatingIfNeeded: $0.count >> 8), UInt8(truncatingIfNeeded: $0.count)] + $0 }
  }

  /// What was joined; a length that is not there is cut.
  static func parts(_ bytes: [UInt8]) -> [[UInt8]] {
    var result: [[UInt8]] = []
    var rest = bytes[...]
    while rest.count > 2 {
      let length = Int(rest[rest.startIndex]) << 8 | Int(rest[rest.startIndex + 1])
      rest = rest.dropFirst(2)
      result.append(Array(rest.prefix(length)))
      rest = rest.dropFirst(length)
    }
    return result
  }

  /// A certificate for `key`, signed by it.
  static func certificate(
    _ name: String,
    _ extensions: Certificate.Extensions,
    until: Double = 4_000_000_000,
    issuer: String = "authority"
  ) throws -> Certificate {
    let key = try key
    return try Certificate(
      version: .v3,
      serialNumber: Certificate.SerialNumber(bytes: [1, 2, 3]),
      publicKey: Certificate.PublicKey(key.publicKey),
      notValidBefore: Date(timeIntervalSince1970: 1_600_000_000),
      notValidAfter: Date(timeIntervalSince1970: until),
      issuer: DistinguishedName { CommonName(issuer) },
      subject: DistinguishedName { CommonName(name) },
      signatureAlgorithm: .ecdsaWithSHA256,
      extensions: extensions,
      issuerPrivateKey: Certificate.PrivateKey(key)
    )
  }

  static func der(_ certificate: Certificate) throws -> [UInt8] {
    var serializer = DER.Serializer()
    try serializer.serialize(certificate)
    return serializer.serializedBytes
  }

  /// The certificate with a valid signature over what it now says; unchanged where it is no certificate at all.
  @Sendable static func signed(_ bytes: [UInt8]) -> [UInt8] {
    guard let outer = element(bytes[...], from: 0), let content = element(bytes[...], from: outer.content),
      let key = try? key, let signature = try? key.signature(for: bytes[content.start..<content.end])
    else { return bytes }
    // ecdsa-with-SHA256
    let algorithm: [UInt8] = [0x30, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02]
    let bits = wrapped(0x03, [0] + signature.derRepresentation)
    return wrapped(0x30, Array(bytes[content.start..<content.end]) + algorithm + bits)
  }

  private static func wrapped(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
    let count = content.count
    if count < 0x80 { return [tag, UInt8(count)] + content }
    if count < 0x100 { return [tag, 0x81, UInt8(count)] + content }
    return [tag, 0x82, UInt8(truncatingIfNeeded: count >> 8), UInt8(truncatingIfNeeded: count)] + content
  }

  /// Where the DER element that starts at `start` has its content and its end; the end is put right where it lies.
  private static func element(_ bytes: ArraySlice<UInt8>, from start: Int) -> (start: Int, content: Int, end: Int)? {
    guard start + 2 < bytes.endIndex else { return nil }
    let first = Int(bytes[start + 1])
    let more = first < 0x80 ? 0 : first - 0x80
    guard more <= 3, start + 2 + more < bytes.endIndex else { return nil }
    let length = more == 0 ? first : bytes[(start + 2)..<(start + 2 + more)].reduce(0) { $0 << 8 | Int($1) }
    let content = start + 2 + more
    return (start, content, min(bytes.endIndex, content + length))
  }
}
