import Crypto
import FedLoRAProtocol
import Foundation
import Logging
import NIOSSL
import SwiftASN1
import SwiftProtobuf
import X509

extension FuzzTarget {
  /// The word that an authority hands over to a new participant.
  static let token = FuzzTarget(
    name: "token",
    about: "a one-time token for a certificate",
    dictionary: ["fl1.", "fl2.", "=", "-", "_", " ", "\n", "AAAA", "____", "\u{e9}", "\0"],
    seeds: { try EnrolmentSamples.words() },
    repair: EnrolmentSamples.checked
  ) { bytes, _ in
    let token = try EnrolmentToken(String(decoding: bytes, as: UTF8.self))
    let again = try FuzzFailure.onError("a token's own word cannot be read") { try EnrolmentToken(token.text) }
    try FuzzFailure.unless(again == token, "a token changes when it is written")
    if let address = EnrolmentAddress(token.address) {
      try FuzzFailure.unless((1...65535).contains(address.port), "\(address) was read as an address")
      try FuzzFailure.unless(
        EnrolmentAddress(address.description) == address,
        "an address changes when it is written"
      )
    }
  }

  /// What a stranger says to the enrolment service: the body of the first frame.
  static let enrolmentRequest = FuzzTarget(
    name: "enrolment-request",
    about: "requests for certificates, as the authority hears them",
    limits: FuzzLimits(memory: 8 << 20, memoryPerByte: 512),
    dictionary: [
      "site-1", "site-2", "\u{30}\u{0}", "\u{6}\u{3}U\u{4}\u{3}", "\u{c}\u{6}site-1", "\u{1}\u{1}", "\u{5}\u{0}",
      "\u{3}\u{2}\u{7}",
    ],
    seeds: { try EnrolmentSamples.requests() },
    repair: EnrolmentSamples.proven
  ) { bytes, scratch in
    let envelope = try WireEnvelope(serializedBytes: Data(bytes))
    let folder = try EnrolmentSamples.folder(scratch)
    let name = try EnrolmentSamples.name
    let desk = EnrolmentDesk(
      folder: folder,
      limiter: AttemptLimiter(),
      logger: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }
    )
    let caller =
      if case .renewalRequest? = envelope.message {
        EnrolmentDesk.Caller(identity: .participant(name), serial: try EnrolmentSamples.serial)
      } else {
        EnrolmentDesk.Caller(identity: .nameless, serial: nil)
      }
    let answer = try desk.answer(envelope, of: caller, at: Date())
    let again = try FuzzFailure.onError("who asks again with the same key is refused") {
      try desk.answer(envelope, of: caller, at: Date())
    }
    try FuzzFailure.unless(again.certificate == answer.certificate, "one request is good for two certificates")
    try FuzzFailure.unless(try folder.certificates().count == 1, "a certificate is not in the register")
    let authority = try CertificateSamples.authority()
    let peer = try FuzzFailure.onError("a certificate that was given is good for nothing") {
      let given = try NIOSSLCertificate(bytes: [UInt8](answer.certificate), format: .der)
      return try blocking {
        try await PeerVerifier(role: .participant, anchor: .certificate(authority), revocations: nil).verify([given])
      }
    }
    try FuzzFailure.unless(peer.identity == .participant(name), "'\(name)' was made \(peer.identity)")
  }

  /// What a new participant is answered. Here it believes whatever authority the answer holds.
  static let enrolmentAnswer = FuzzTarget(
    name: "enrolment-answer",
    about: "certificates, authority and revocation list, as a participant gets them",
    limits: FuzzLimits(memory: 8 << 20, memoryPerByte: 512),
    dictionary: [
      "fedlora:participant:", "site-1", "\u{30}\u{0}", "\u{2}\u{1}\u{0}", "\u{17}\r", "\u{18}\u{f}", "99991231235959Z",
      "\u{6}\u{3}U\u{1d}\u{14}", "\u{2}\u{1}\u{1}", "\u{1}\u{1}", "\u{5}\u{0}",
    ],
    seeds: { try EnrolmentSamples.answers() },
    repair: EnrolmentSamples.signed
  ) { bytes, _ in
    let answer = try WireEnrolmentAnswer(serializedBytes: Data(bytes))
    let fingerprint = SHA256.hash(data: answer.authority).map { String(format: "%02x", $0) }.joined()
    let key = try CertificateSamples.key.pemRepresentation
    let name = try EnrolmentSamples.name
    try blocking { try await Enrolment.check(answer, keyPEM: key, name: name, authority: fingerprint) }
    let other = try ParticipantName("site-2")
    let isForAnybody = Result {
      try blocking { try await Enrolment.check(answer, keyPEM: key, name: other, authority: fingerprint) }
    }
    if case .success = isForAnybody { throw FuzzFailure("one answer is good for two names") }
  }
}
