import Logging
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization

/// A connection that was refused before anybody could talk on it.
public struct RefusedPeer: Sendable, Equatable {
  /// Where it came from.
  public let address: String
  /// The stable word, for example "unknown-authority".
  public let code: ReasonCode
  /// A sentence with the details.
  public let text: String
}

/// The side that listens: a socket whose authenticated connections each get a task.
public final class PeerServer: Sendable {
  /// The port that is served, also where 0 was asked for.
  public let port: Int

  private let listener: any Channel
  private let configuration: TransportConfiguration
  private let connections: AsyncStream<PeerConnection>
  private let registry: ConnectionRegistry

  private init(
    port: Int,
    listener: any Channel,
    configuration: TransportConfiguration,
    connections: AsyncStream<PeerConnection>,
    registry: ConnectionRegistry
  ) {
    self.port = port
    self.listener = listener
    self.configuration = configuration
    self.connections = connections
    self.registry = registry
  }

  deinit {
    listener.close(promise: nil)
    registry.closeAll()
  }

  /// Listens on `host`:`port`; connections are served once `run` is called.
  /// - Parameters:
  ///   - port: 0 takes a free one.
  ///   - onRefusal: called on an event loop for every connection that is refused, after it was logged.
  /// - Throws: `TransportError.cannotBind`, `IdentityError`.
  public static func bind(
    host: String,
    port: Int,
    identity: TLSIdentity,
    configuration: TransportConfiguration = TransportConfiguration(),
    group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
    logger: Logger = Logger(label: "fedlora.transport"),
    onRefusal: @escaping @Sendable (RefusedPeer) -> Void = { _ in }
  ) async throws -> PeerServer {
    let tls = try identity.configuration(isServer: true)
    let context = try describingErrors { try NIOSSLContext(configuration: tls) }
    let (stream, continuation) = AsyncStream<PeerConnection>.makeStream()
    let registry = ConnectionRegistry(configuration: configuration) { refusal in
      logger.warning(
        "connection refused",
        metadata: [
          "peer": .string(refusal.address), "code": .string(refusal.code.rawValue), "reason": .string(refusal.text),
        ]
      )
      onRefusal(refusal)
    }
    let budget = PermitPool(capacity: configuration.inboundStreamBudget)
    do {
      let listener = try await ServerBootstrap(group: group)
        .serverChannelOption(.backlog, value: 1024)
        .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
        .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
        .childChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            guard registry.beginHandshake(of: channel) else { throw TransportError.closed }
            let prepared = try PreparedChannel.install(
              on: channel,
              context: context,
              identity: identity,
              isServer: true,
              configuration: configuration,
              greeting: nil
            )
            prepared.peer.whenComplete { result in
              guard registry.endHandshake(of: channel, result) else {
                return prepared.session.value.report(
                  code: .tooManyConnections,
                  text: "\(configuration.maximumConnections) clients are connected"
                )
              }
              guard case .success(let peer) = result else { return }
              prepared.session.value.greet()
              continuation.yield(prepared.connection(to: peer, configuration: configuration, streamBudget: budget))
            }
          }
        }
        .bind(host: host, port: port).get()
      listener.closeFuture.whenComplete { _ in continuation.finish() }
      return PeerServer(
        port: listener.localAddress?.port ?? port,
        listener: listener,
        configuration: configuration,
        connections: stream,
        registry: registry
      )
    } catch {
      throw TransportError.cannotBind(address: "\(host):\(port)", reason: "\(error)")
    }
  }

  /// Serves until `shutdown` is called and the last handler has returned, or until the task is cancelled. Each
  /// connection is closed when its handler returns. To be called once.
  public func run(_ handler: @escaping @Sendable (PeerConnection) async -> Void) async {
    await withTaskCancellationHandler {
      await withDiscardingTaskGroup { group in
        for await connection in connections {
          group.addTask {
            await handler(connection)
            await connection.close()
          }
        }
        if Task.isCancelled { group.cancelAll() }
      }
    } onCancel: {
      listener.close(promise: nil)
      registry.closeAll()
    }
    listener.close(promise: nil)
    registry.closeAll()
    try? await listener.closeFuture.get()
  }

  /// Stops accepting; connections that are open live on until their handlers return.
  public func shutdown() { listener.close(promise: nil) }

  /// How many connections were refused so far, by reason.
  public var refusals: [ReasonCode: Int] { registry.refusals }

  /// How many authenticated connections are open.
  public var connectionCount: Int { registry.connectionCount }
}
