import Foundation
import Logging
import NIOCore
import Synchronization
import X509

/// Answers requests for certificates. It knows no socket; `EnrolmentServer` feeds it.
package final class EnrolmentDesk: Sendable {
  /// Who asks, as the TLS handshake has shown.
  package struct Caller: Sendable {
    let identity: PeerIdentity
    let serial: CertificateSerial?
    let network: RemoteNetwork
    let address: String

    init(_ connection: PeerConnection) {
      (identity, serial) = (connection.peer, connection.peerSerial)
      (network, address) = (connection.network, connection.remoteAddress)
    }

    /// Somebody on this machine.
    package init(identity: PeerIdentity, serial: CertificateSerial?) {
      (self.identity, self.serial) = (identity, serial)
      (network, address) = (RemoteNetwork(nil), "here")
    }
  }

  /// Longest revocation list that fits beside the certificates in one message.
  private static let longestList = 1 << 20

  private let folder: AuthorityFolder
  // Strangers must not keep those who have a certificate from renewing it.
  private let strangers: Mutex<AttemptLimiter>
  private let participants: Mutex<AttemptLimiter>
  private let logger: Logger

  package init(folder: AuthorityFolder, limiter: AttemptLimiter, logger: Logger) {
    self.folder = folder
    strangers = Mutex(limiter)
    participants = Mutex(limiter)
    self.logger = logger
  }

  /// Answers one message; reads and writes files, so not on a thread that others wait for.
  /// - Throws: `EnrolmentRefusal`.
  package func answer(_ envelope: WireEnvelope, of caller: Caller, at date: Date) throws(EnrolmentRefusal)
    -> WireEnrolmentAnswer
  {
    let isAdmitted =
      caller.serial == nil
      ? strangers.withLock { $0.admit(caller.network, at: .now()) }
      : participants.withLock { $0.admit(caller.network, at: .now()) }
    guard isAdmitted else {
      throw EnrolmentRefusal(code: .tryLater, text: "too many requests came from your network, or from all; try later")
    }
    do {
      let certificate: Certificate
      switch envelope.message {
      case .enrolmentRequest(let request):
        try check(request.protocolVersion)
        certificate = try folder.enrol(
          tokenID: Array(request.tokenID),
          secret: Array(request.tokenSecret),
          request: Array(request.request),
          at: date
        )
      case .renewalRequest(let request):
        try check(request.protocolVersion)
        guard case .participant(let name) = caller.identity, let serial = caller.serial else {
          throw EnrolmentRefusal(code: .noCertificate, text: "only who shows a certificate is given the next one")
        }
        certificate = try folder.renew(name, serial: serial, request: Array(request.request), at: date)
      default:
        throw EnrolmentRefusal(
          code: "unexpected-message",
          text: "a \(envelope.messageName) is not expected here; runs are served on another port"
        )
      }
      var answer = WireEnrolmentAnswer()
      answer.certificate = Data(try certificate.der)
      answer.authority = Data(try folder.authority.certificate.der)
      if let list = try? folder.revocations(), list.der.count <= Self.longestList {
        answer.revocations = Data(list.der)
      }
      logger.notice(
        "certificate given",
        metadata: [
          "subject": .string("\(certificate.subject)"),
          "serial": .string("\(CertificateSerial(certificate.serialNumber))"),
          "until": .string(certificate.notValidAfter.formatted(.iso8601)), "peer": .string(caller.address),
        ]
      )
      return answer
    } catch let refusal as EnrolmentRefusal {
      throw refusal
    } catch {
      // What is wrong with the authority's own files is not for the one who asks.
      logger.error("no certificate could be given", metadata: ["reason": .string("\(error)")])
      throw EnrolmentRefusal(code: .tryLater, text: "the authority cannot give certificates now; its log says why")
    }
  }

  private func check(_ version: UInt32) throws(EnrolmentRefusal) {
    guard version == protocolVersion else {
      throw EnrolmentRefusal(
        code: "wrong-version",
        text: "protocol version \(version) is not served; this service speaks \(protocolVersion)"
      )
    }
  }
}
