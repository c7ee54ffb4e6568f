import NIOCore
import NIOSSL
import NIOTLS
import Synchronization

/// What the verification of a peer's certificate came to; written by the verifier, read on the event loop.
final class HandshakeVerdict: Sendable {
  private let state = Mutex<Result<VerifiedPeer, CertificateRefusal>?>(nil)

  var result: Result<VerifiedPeer, CertificateRefusal>? { state.withLock { $0 } }
  func set(_ result: Result<VerifiedPeer, CertificateRefusal>) { state.withLock { $0 = result } }
}

/// Stands behind the TLS handler: says who the peer is once the handshake is done, or why it failed, and turns the TLS
/// library's errors into ours for as long as the connection lives.
final class HandshakeHandler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let verdict: HandshakeVerdict
  private let endpoint: Endpoint
  private let timeout: TimeAmount
  private let outcome: EventLoopPromise<VerifiedPeer>
  private var deadline: Scheduled<Void>?
  private var isDone = false
  private var isProven = false

  init(
    verdict: HandshakeVerdict,
    endpoint: Endpoint,
    timeout: Duration,
    outcome: EventLoopPromise<VerifiedPeer>
  ) {
    self.verdict = verdict
    self.endpoint = endpoint
    self.timeout = TimeAmount(timeout)
    self.outcome = outcome
  }

  func handlerAdded(context: ChannelHandlerContext) {
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    deadline = context.eventLoop.scheduleTask(in: timeout) {
      let (handler, context) = bound.value
      handler.settle(
        .failure(CertificateRefusal(code: .handshakeTimeout, text: "its TLS handshake took longer than allowed"))
      )
      context.close(promise: nil)
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    settle(.failure(CertificateRefusal(code: .handshakeCut, text: "the connection was closed during the handshake")))
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .some(.handshakeCompleted) = event as? TLSUserEvent {
      // A resumed session would come without a certificate to judge; none is accepted.
      let result =
        verdict.result
        ?? (endpoint.admitsNameless
          ? .success(.nameless)
          : .failure(CertificateRefusal(code: .noCertificate, text: "it shows no certificate")))
      settle(result)
      if case .failure = result { return context.close(promise: nil) }
    }
    context.fireUserInboundEventTriggered(event)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    isProven = true
    context.fireChannelRead(data)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    let address = context.channel.remoteAddress?.hostAndPort ?? "unknown address"
    if !isDone {
      let refusal = refusal(for: error)
      settle(.failure(refusal))
      context.fireErrorCaught(TransportError.untrustedPeer(address: address, code: refusal.code, text: refusal.text))
      context.close(promise: nil)
    } else {
      context.fireErrorCaught(translated(error, address: address))
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    settle(.failure(CertificateRefusal(code: .handshakeCut, text: "it closed the connection during the handshake")))
    context.fireChannelInactive()
  }

  private func settle(_ result: Result<VerifiedPeer, CertificateRefusal>) {
    guard !isDone else { return }
    isDone = true
    deadline?.cancel()
    outcome.completeWith(result.mapError { $0 as any Error })
  }

  /// Why the handshake failed. The certificate's own reason, where there is one, is the better one.
  private func refusal(for error: any Error) -> CertificateRefusal {
    if case .failure(let refusal) = verdict.result { return refusal }
    let text = "\(error)"
    for (sign, code, meaning) in Self.signs where text.contains(sign) {
      return CertificateRefusal(code: code, text: "\(meaning) (\(Self.shortened(text)))")
    }
    return CertificateRefusal(code: .handshakeFailed, text: "the TLS handshake failed (\(Self.shortened(text)))")
  }

  /// In TLS 1.3 a client is done before the server has judged its certificate: the alert comes afterwards.
  private func translated(_ error: any Error, address: String) -> any Error {
    let text = "\(error)"
    if text.contains("ALERT"), !isProven {
      return TransportError.refusedByPeer(
        address: address,
        text: "it does not accept our \(endpoint.own) (\(Self.shortened(text))); its log says why"
      )
    }
    return error is FrameError || error is TransportError
      ? error : TransportError.connectionLost(reason: Self.shortened(text))
  }

  /// BoringSSL's words, the code, and what it means.
  private static let signs: [(String, ReasonCode, String)] = [
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", .noCertificate, "it shows no certificate"),
    ("ALERT_PROTOCOL_VERSION", .oldTLS, "it does not speak TLS 1.3"),
    ("UNSUPPORTED_PROTOCOL", .oldTLS, "it does not speak TLS 1.3"),
    ("HTTP_REQUEST", .notTLS, "it speaks HTTP"),
    ("WRONG_VERSION_NUMBER", .notTLS, "it does not speak TLS"),
    ("ALERT", .refusedByPeer, "it broke the TLS handshake off, mostly because it does not trust our certificate"),
    ("EOF during handshake", .handshakeCut, "it closed the connection during the TLS handshake"),
    ("uncleanShutdown", .handshakeCut, "it closed the connection during the TLS handshake"),
    ("Connection reset by peer", .handshakeCut, "it closed the connection during the TLS handshake"),
    ("Broken pipe", .handshakeCut, "it closed the connection during the TLS handshake"),
  ]

  /// The library's own names out of its nested description.
  private static func shortened(_ text: String) -> String {
    let parts = text.split { character in !(character.isUppercase || character.isNumber || character == "_") }
    let words: [String] = parts.map(String.init).filter { word in word.contains("_") && word.count > 6 }
    return words.isEmpty ? text : words.joined(separator: ", ")
  }
}
