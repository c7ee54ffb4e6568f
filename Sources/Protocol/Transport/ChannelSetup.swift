import NIOCore
import NIOSSL

/// A channel whose pipeline is complete and whose TLS handshake has begun.
struct PreparedChannel: Sendable {
  let channel: any Channel
  let session: NIOLoopBound<SessionHandler>
  let counter: TrafficCounter
  /// Who the peer is, or a `CertificateRefusal`.
  let peer: EventLoopFuture<VerifiedPeer>

  /// Builds the pipeline of either side; on the channel's event loop.
  /// - Parameters:
  ///   - greeting: client: completed by the coordinator's first frame.
  ///   - server: server: where its connections' traffic adds up.
  static func install(
    on channel: any Channel,
    endpoint: Endpoint,
    configuration: TransportConfiguration,
    greeting: EventLoopPromise<Void>?,
    server: ServerTrafficCounter? = nil
  ) throws -> PreparedChannel {
    let verifier = endpoint.verifier
    let verdict = HandshakeVerdict()
    let outcome = channel.eventLoop.makePromise(of: VerifiedPeer.self)
    let counter = TrafficCounter(server: server)
    let decoder = FrameDecoder(maximumLength: configuration.maximumFrameLength, onFrame: counter.addReceived)
    let session = SessionHandler(
      configuration: configuration,
      traffic: counter,
      decoder: decoder,
      isServer: endpoint.serverName == nil,
      greeting: greeting
    )
    let verify: NIOSSLCustomVerificationCallback = { chain, promise in
      // The one task that nobody awaits: it does a bounded computation, and the handshake waits for its promise.
      promise.completeWithTask {
        do {
          verdict.set(.success(try await verifier.verify(chain)))
          return .certificateVerified
        } catch {
          verdict.set(
            .failure(
              error as? CertificateRefusal
                ?? CertificateRefusal(code: .invalidCertificate, text: "its certificate cannot be judged: \(error)")
            )
          )
          return .failed
        }
      }
    }
    let tls: NIOSSLHandler =
      if let serverName = endpoint.serverName {
        try NIOSSLClientHandler(
          context: endpoint.context,
          serverHostname: serverName,
          customVerificationCallback: verify
        )
      } else {
        NIOSSLServerHandler(context: endpoint.context, customVerificationCallback: verify)
      }
    if let server { try channel.pipeline.syncOperations.addHandler(WireCounter(server.wire)) }
    try channel.pipeline.syncOperations.addHandlers([
      tls,
      HandshakeHandler(
        verdict: verdict,
        endpoint: endpoint,
        timeout: configuration.handshakeTimeout,
        outcome: outcome
      ),
      ByteToMessageHandler(decoder),
      session,
    ])
    return PreparedChannel(
      channel: channel,
      session: NIOLoopBound(session, eventLoop: channel.eventLoop),
      counter: counter,
      peer: outcome.futureResult
    )
  }

  /// The connection of a peer that was accepted.
  func connection(
    to peer: VerifiedPeer,
    configuration: TransportConfiguration,
    streamBudget: PermitPool? = nil
  ) -> PeerConnection {
    PeerConnection(
      channel: channel,
      session: session,
      peer: peer,
      counter: counter,
      configuration: configuration,
      streamBudget: streamBudget
    )
  }
}
