import NIOCore
import NIOPosix

/// The side that dials.
public struct PeerClient: Sendable {
  /// The bounds of its connections.
  public let configuration: TransportConfiguration

  private let group: any EventLoopGroup
  private let endpoint: Endpoint

  /// - Parameter group: the event loops; the shared ones of the process by default.
  /// - Throws: `IdentityError` where the identity cannot be used for TLS.
  public init(
    identity: TLSIdentity,
    configuration: TransportConfiguration = TransportConfiguration(),
    group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
  ) throws {
    self.init(
      endpoint: try Endpoint.client(identity, role: .coordinator),
      configuration: configuration,
      group: group
    )
  }

  init(
    endpoint: Endpoint,
    configuration: TransportConfiguration = TransportConfiguration(),
    group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
  ) {
    self.endpoint = endpoint
    self.configuration = configuration
    self.group = group
  }

  /// Connects and waits for the coordinator's greeting, so that a refused certificate is an error here and not later.
  ///
  /// The caller closes the connection; `withConnection` does so by itself.
  /// - Parameter timeout: time for everything up to the greeting.
  /// - Throws: `TransportError.cannotConnect`, `.untrustedPeer`, `.refusedByPeer` or `.peerReported`.
  public func connect(host: String, port: Int, timeout: Duration = .seconds(10)) async throws -> PeerConnection {
    let address = "\(host):\(port)"
    let loop = group.next()
    let greeting = loop.makePromise(of: Void.self)
    let start = NIODeadline.now()
    let prepared: PreparedChannel
    do {
      prepared = try await ClientBootstrap(group: loop)
        .channelOption(.socketOption(.tcp_nodelay), value: 1)
        .connectTimeout(TimeAmount(timeout))
        .connect(host: host, port: port) { channel in
          channel.eventLoop.makeCompletedFuture {
            try PreparedChannel.install(
              on: channel,
              endpoint: endpoint,
              configuration: configuration,
              greeting: greeting
            )
          }
        }
    } catch {
      greeting.fail(error)
      throw TransportError.cannotConnect(address: address, reason: Self.reason(error))
    }
    let deadline = loop.scheduleTask(deadline: start + TimeAmount(timeout)) {
      greeting.fail(
        TransportError.cannotConnect(address: address, reason: "no greeting from a coordinator within \(timeout)")
      )
    }
    do {
      let peer = try await withTaskCancellationHandler {
        try await greeting.futureResult.get()
        return try await prepared.peer.get()
      } onCancel: {
        greeting.fail(CancellationError())
      }
      deadline.cancel()
      return prepared.connection(to: peer, configuration: configuration)
    } catch {
      deadline.cancel()
      try? await prepared.channel.close().get()
      throw error
    }
  }

  /// Connects, runs `body` and closes. Cancelling the task closes at once.
  /// - Throws: what `connect` and `body` throw.
  public func withConnection<Result: Sendable>(
    host: String,
    port: Int,
    timeout: Duration = .seconds(10),
    _ body: @Sendable (PeerConnection) async throws -> Result
  ) async throws -> Result {
    let connection = try await connect(host: host, port: port, timeout: timeout)
    return try await withTaskCancellationHandler {
      do {
        let result = try await body(connection)
        await connection.close()
        return result
      } catch {
        await connection.close()
        throw error
      }
    } onCancel: {
      connection.abandon()
    }
  }

  private static func reason(_ error: any Error) -> String {
    guard let error = error as? NIOConnectionError else { return "\(error)" }
    if let failure = error.connectionErrors.first { return "\(failure.error)" }
    if let failure = error.dnsAError ?? error.dnsAAAAError { return "\(failure)" }
    return "the host name leads nowhere"
  }
}
