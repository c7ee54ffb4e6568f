import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// A metrics server cannot listen.
public enum MetricsServerError: Error, Equatable, CustomStringConvertible {
  /// The address cannot be listened on.
  case cannotBind(address: String, reason: String)

  /// What was wrong and what to do.
  public var description: String {
    switch self {
    case .cannotBind(let address, let reason):
      "metrics cannot be served on \(address): \(reason); change metrics.port or metrics.host"
    }
  }
}

/// Answers GET and HEAD for a few paths over HTTP/1.1, one request a connection, on a thread of its own.
///
/// Everything that a peer can cost is bounded: connections, the bytes of a request, the time for it, and the time in
/// which the answer must be taken. There is no encryption and nobody is asked who they are.
public final class MetricsServer: Sendable {
  /// What peers may cost.
  public struct Limits: Sendable {
    /// Connections at a time; more are closed at once.
    public var connections = 16
    /// Bytes of one request, line and headers.
    public var requestBytes = 8192
    /// Time from the connection to the end of the request's headers.
    public var requestTime = Duration.seconds(5)
    /// Time from then on in which the answer must be taken.
    public var answerTime = Duration.seconds(10)

    /// The usual limits.
    public init() {}
  }

  /// Makes the answer for a path; runs on the server's own thread, and must not take long.
  public typealias Route = @Sendable () -> HTTPAnswer

  /// The port that is served, also where 0 was asked for.
  public let port: Int

  private let group: MultiThreadedEventLoopGroup
  private let listener: any Channel
  private let open: OpenConnections

  private init(port: Int, group: MultiThreadedEventLoopGroup, listener: any Channel, open: OpenConnections) {
    self.port = port
    self.group = group
    self.listener = listener
    self.open = open
  }

  /// How many connections are open now.
  public var connectionCount: Int { open.count }

  /// Listens on `host`:`port` and answers from then on.
  /// - Parameters:
  ///   - port: 0 takes a free one.
  ///   - routes: the answer for each path, such as `/metrics`.
  /// - Throws: `MetricsServerError.cannotBind`.
  public static func bind(
    host: String,
    port: Int,
    limits: Limits = Limits(),
    logger: Logger = Logger(label: "fedlora.metrics"),
    routes: [String: Route]
  ) async throws -> MetricsServer {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let open = OpenConnections(most: limits.connections)
    do {
      let listener = try await ServerBootstrap(group: group)
        .serverChannelOption(.backlog, value: 64)
        .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
        .childChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            guard open.add(channel) else {
              logger.debug("metrics connection closed", metadata: ["reason": "as many are open as may be"])
              throw ChannelError.ioOnClosedChannel
            }
            try channel.pipeline.syncOperations.addHandlers(
              [
                RequestLimiter(most: limits.requestBytes),
                HTTPResponseEncoder(),
                ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .dropBytes)),
                ScrapeHandler(limits: limits, routes: routes),
              ] as [any ChannelHandler]
            )
          }
        }
        .bind(host: host, port: port).get()
      return MetricsServer(
        port: listener.localAddress?.port ?? port,
        group: group,
        listener: listener,
        open: open
      )
    } catch {
      try? await group.shutdownGracefully()
      throw MetricsServerError.cannotBind(address: "\(host):\(port)", reason: "\(error)")
    }
  }

  /// Closes the port and all connections, and ends the thread.
  public func close() async {
    try? await listener.close()
    try? await group.shutdownGracefully()
  }
}

/// Counts the connections of a server.
final class OpenConnections: Sendable {
  private let most: Int
  private let state = Mutex(0)

  init(most: Int) { self.most = most }

  var count: Int { state.withLock { $0 } }

  /// - Returns: false where there is no place for one more.
  func add(_ channel: any Channel) -> Bool {
    let hasPlace = state.withLock { count in
      guard count < most else { return false }
      count += 1
      return true
    }
    if hasPlace { channel.closeFuture.whenComplete { _ in self.state.withLock { $0 -= 1 } } }
    return hasPlace
  }
}
