import Crypto
import FedLoRAProtocol
import Foundation
import NIOSSL
import SwiftASN1
import Testing
import X509

@Suite("A peer's certificates", .timeLimit(.minutes(1)))
struct PeerVerifierTests {
  private let key = P256.Signing.PrivateKey()

  /// A certificate that this key has signed, for this key.
  private func certificate(_ subject: String, issuer: String, _ extensions: Certificate.Extensions) throws
    -> Certificate
  {
    try Certificate(
      version: .v3,
      serialNumber: Certificate.SerialNumber(),
      publicKey: Certificate.PublicKey(key.publicKey),
      notValidBefore: Date(timeIntervalSinceNow: -60),
      notValidAfter: Date(timeIntervalSinceNow: 3600),
      issuer: try DistinguishedName { CommonName(issuer) },
      subject: try DistinguishedName { CommonName(subject) },
      signatureAlgorithm: .ecdsaWithSHA256,
      extensions: extensions,
      issuerPrivateKey: Certificate.PrivateKey(key)
    )
  }

  private func shown(_ certificate: Certificate) throws -> NIOSSLCertificate {
    var serializer = DER.Serializer()
    try serializer.serialize(certificate)
    return try NIOSSLCertificate(bytes: serializer.serializedBytes, format: .der)
  }

  private func participant(issuer: String, subject: String = "a") throws -> Certificate {
    try certificate(
      subject,
      issuer: issuer,
      Certificate.Extensions {
        try ExtendedKeyUsage([.clientAuth])
        SubjectAlternativeNames([.uniformResourceIdentifier("fedlora:participant:a")])
      }
    )
  }

  private func verifier() throws -> PeerVerifier {
    let authority = try certificate(
      "authority",
      issuer: "authority",
      Certificate.Extensions { Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil)) }
    )
    return PeerVerifier(role: .participant, anchor: .certificate(authority), revocations: nil)
  }

  @Test("that sign each other in every order cost no time")
  func ring() async throws {
    // Ten of them have three and a half million orders, each with ten signatures to check.
    let ring = try (0..<10).map { number in
      try shown(
        certificate(
          "ring",
          issuer: "ring",
          Certificate.Extensions {
            Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
            SubjectAlternativeNames([.dnsName("ring-\(number)")])
          }
        )
      )
    }
    let chain = [try shown(participant(issuer: "ring"))] + ring
    let verifier = try verifier()
    let start = ContinuousClock.now
    await #expect(throws: (any Error).self) { try await verifier.verify(chain) }
    #expect(ContinuousClock.now - start < .seconds(2))
  }

  @Test("count where the authority itself has signed the first, whatever lies behind it")
  func whatLiesBehind() async throws {
    let own = try shown(participant(issuer: "authority"))
    let other = try shown(participant(issuer: "nobody"))
    let verifier = try verifier()
    #expect(try await verifier.verify([own]).identity.participant?.rawValue == "a")
    #expect(try await verifier.verify([own, other]).identity.participant?.rawValue == "a")
    await #expect(throws: (any Error).self) { try await verifier.verify([other, own]) }
    await #expect(throws: (any Error).self) { try await verifier.verify([]) }
  }

  @Test("are told of in one line that is not long, without what moves a terminal's cursor")
  func text() async throws {
    let name = "evil\nconnection accepted\u{1B}[2J\u{202E}" + String(repeating: "x", count: 5000)
    var tls = TLSConfiguration.makeClientConfiguration()
    tls.certificateVerification = .none
    tls.certificateChain = [.certificate(try shown(participant(issuer: "nobody", subject: name)))]
    tls.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: Array(key.pemRepresentation.utf8), format: .pem))
    try await Project().serve(handler: { Issue.record("\($0.peer) was let in") }) { [tls] server, refusals in
      let stranger = try await RawClient.connect(port: server.port, tls: tls)
      let refusal = try #require(await refusals.first())
      #expect(refusal.code == .unknownAuthority && refusal.text.contains("evil\u{FFFD}connection"), "\(refusal)")
      #expect(refusal.text.utf8.count < 1100)
      #expect(!refusal.text.unicodeScalars.contains { ["\n", "\u{1B}", "\u{202E}"].contains($0) })
      await stranger.close()
    }
  }

  @Test("and all that a peer says is cut by bytes, since one character has no longest form")
  func oneLine() {
    #expect("ordinary".oneLine(atMost: 8) == "ordinary")
    #expect("ordinary".oneLine(atMost: 7) == "ordinar…")
    #expect("ä".oneLine(atMost: 1) == "…")
    #expect("a\r\nb\tc\u{2028}d".oneLine(atMost: 100) == "a\u{FFFD}\u{FFFD}b\u{FFFD}c\u{FFFD}d")
    let marks = "e" + String(repeating: "\u{301}", count: 100_000)
    #expect(marks.count == 1 && marks.oneLine(atMost: 64).utf8.count < 70)
  }
}
