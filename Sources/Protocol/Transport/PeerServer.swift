import Foundation
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// A connection that was refused before anybody could talk on it.
public struct RefusedPeer: Sendable, Equatable {
  /// Where it came from.
  public let address: String
  /// The stable word, for example "unknown-authority".
  public let code: ReasonCode
  /// A sentence with the details.
  public let text: String
  /// How many were refused for the same reason since the last one that was reported, without a report of their own.
  public let suppressed: Int
}

/// The side that listens: a socket whose authenticated connections each get a task.
public final class PeerServer: Sendable {
  /// The port that is served, also where 0 was asked for.
  public let port: Int

  /// TLS keeps what one wake-up reads in one buffer for each connection, and never gives it back: with NIO's four reads of
  /// 64 KiB that is half a megabyte for every client that ever sent an update. One read of 32 KiB takes no more processor time.
  private static let bytesPerRead = 32 << 10

  private let listener: any Channel
  private let configuration: TransportConfiguration
  private let connections: AsyncStream<PeerConnection>
  private let registry: ConnectionRegistry
  private let current: CurrentEndpoint
  private let counter: ServerTrafficCounter

  private init(
    port: Int,
    listener: any Channel,
    configuration: TransportConfiguration,
    connections: AsyncStream<PeerConnection>,
    registry: ConnectionRegistry,
    current: CurrentEndpoint,
    counter: ServerTrafficCounter
  ) {
    self.port = port
    self.listener = listener
    self.configuration = configuration
    self.connections = connections
    self.registry = registry
    self.current = current
    self.counter = counter
  }

  deinit {
    listener.close(promise: nil)
    registry.closeAll()
  }

  /// Listens on `host`:`port`; connections are served once `run` is called. Each has to be let in with
  /// `PeerConnection.admit` within `helloTimeout`.
  /// - Parameters:
  ///   - port: 0 takes a free one.
  ///   - onRefusal: called on an event loop for connections that are refused, after they were logged: for every one as
  ///     long as they are few, else at a bounded rate.
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
    try await bind(
      host: host,
      port: port,
      identity: identity,
      callers: .participants,
      configuration: configuration,
      group: group,
      logger: logger,
      onRefusal: onRefusal
    )
  }

  /// Also for a service that lets in those who have no certificate yet.
  static func bind(
    host: String,
    port: Int,
    identity: TLSIdentity,
    callers: Endpoint.Callers,
    configuration: TransportConfiguration,
    group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
    logger: Logger,
    onRefusal: @escaping @Sendable (RefusedPeer) -> Void
  ) async throws -> PeerServer {
    let current = try CurrentEndpoint(identity, callers: callers)
    let (stream, continuation) = AsyncStream<PeerConnection>.makeStream()
    let registry = ConnectionRegistry(configuration: configuration, revocations: identity.revocations) { refusal in
      logger.warning(
        "connection refused",
        metadata: [
          "peer": .string(refusal.address), "code": .string(refusal.code.rawValue), "reason": .string(refusal.text),
        ]
      )
      onRefusal(refusal)
    }
    let counter = ServerTrafficCounter()
    let budget = PermitPool(capacity: configuration.inboundStreamBudget)
    do {
      let listener = try await ServerBootstrap(group: group)
        .serverChannelOption(.backlog, value: 1024)
        .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
        .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
        .childChannelOption(.maxMessagesPerRead, value: 1)
        .childChannelOption(
          .recvAllocator,
          value: AdaptiveRecvByteBufferAllocator(minimum: 1024, initial: 2048, maximum: bytesPerRead)
        )
        .childChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            guard registry.beginHandshake(of: channel) else { throw TransportError.closed }
            let prepared = try PreparedChannel.install(
              on: channel,
              endpoint: current.endpoint,
              configuration: configuration,
              greeting: nil,
              server: counter
            )
            prepared.peer.whenComplete { result in
              if let refusal = registry.endHandshake(of: channel, session: prepared.session, result) {
                return prepared.session.value.report(code: refusal.code, text: refusal.text)
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
        registry: registry,
        current: current,
        counter: counter
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

  /// What went over all connections so far.
  public var traffic: ServerTraffic { counter.total }

  /// How many connections are in their handshake.
  public var pendingCount: Int { registry.pendingCount }

  // MARK: Identity

  /// What this side shows to new connections, and what it knows to be revoked.
  public var identity: TLSIdentity { current.identity }

  /// From now on new connections see `identity`; open ones live on, except those whose certificate its revocation list
  /// takes back. A list that is older than the present one, or missing, changes nothing.
  /// - Throws: `IdentityError` where the identity is of another authority or another kind; then nothing changes.
  public func replaceIdentity(_ identity: TLSIdentity) throws {
    let revocations = try current.replace(by: identity)
    registry.sweep(revocations: revocations)
  }

  /// Closes connections whose certificate has ended since they were made, and tells of refusals that were only counted.
  /// To be called every few seconds.
  public func sweep(at date: Date = Date()) {
    registry.sweep(revocations: current.identity.revocations, at: date)
    registry.tellOverdue()
  }

  /// Counts and tells that a layer above refuses a peer that was let in here.
  public func noteRefusal(of connection: PeerConnection, code: ReasonCode, text: String) {
    registry.refuse(address: connection.remoteAddress, code: code, text: text)
  }
}

/// What a server shows, which may change while it serves.
final class CurrentEndpoint: Sendable {
  private struct State {
    var identity: TLSIdentity
    var endpoint: Endpoint
  }
  private let callers: Endpoint.Callers
  private let state: Mutex<State>

  init(_ identity: TLSIdentity, callers: Endpoint.Callers) throws(IdentityError) {
    self.callers = callers
    state = Mutex(State(identity: identity, endpoint: try Endpoint.server(identity, callers: callers)))
  }

  var identity: TLSIdentity { state.withLock { $0.identity } }
  var endpoint: Endpoint { state.withLock { $0.endpoint } }

  /// - Returns: the revocation list that counts from now on.
  func replace(by identity: TLSIdentity) throws(IdentityError) -> RevocationList? {
    let present = self.identity
    guard identity.authority == present.authority else {
      throw .certificate(reason: "the new certificate is of another authority; that takes a restart")
    }
    guard identity.identity == present.identity else {
      throw .certificate(
        reason: "the new certificate is one of \(identity.identity?.description ?? "nobody"), expected one of "
          + "\(present.identity?.description ?? "nobody")"
      )
    }
    var next = identity
    if let known = present.revocations, known.number >= (identity.revocations?.number ?? 0) { next.revocations = known }
    let endpoint = try Endpoint.server(next, callers: callers)
    state.withLock { [next] in $0 = State(identity: next, endpoint: endpoint) }
    return next.revocations
  }
}
