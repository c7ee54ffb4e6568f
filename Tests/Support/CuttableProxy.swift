import Foundation
import NIOCore
import NIOPosix
import Synchronization

/// A TCP proxy on loopback whose connections a test can silence in one direction and cut.
package final class CuttableProxy: Sendable {
  package enum Direction: Hashable, Sendable {
    /// From the client to the server.
    case up
    /// From the server to the client.
    case down
  }

  private struct State {
    var silenced: Set<Direction> = []
    var channels: [ObjectIdentifier: any Channel] = [:]
  }
  private let state = Mutex(State())
  private let target: Mutex<Int>
  private let listener = Mutex<(any Channel)?>(nil)

  /// The port to dial.
  package var port: Int { listener.withLock { $0?.localAddress?.port ?? 0 } }

  /// Listens on a free port and leads to `target`.
  package init(to target: Int) async throws {
    self.target = Mutex(target)
    let made = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelInitializer { [self] channel in
        ClientBootstrap(group: channel.eventLoop).connect(host: "127.0.0.1", port: self.target.withLock { $0 })
          .flatMapThrowing { upstream in
            self.state.withLock { $0.channels[ObjectIdentifier(channel)] = channel }
            try channel.pipeline.syncOperations.addHandler(Glue(to: upstream, isSilent: { self.isSilenced(.up) }))
            try upstream.pipeline.syncOperations.addHandler(Glue(to: channel, isSilent: { self.isSilenced(.down) }))
          }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    listener.withLock { $0 = made }
  }

  /// Leads new connections to another port.
  package func lead(to port: Int) { target.withLock { $0 = port } }

  /// From now on nothing passes in this direction, until `cut`.
  package func silence(_ direction: Direction) { state.withLock { _ = $0.silenced.insert(direction) } }

  /// Closes every connection; new ones pass again.
  package func cut() {
    let channels = state.withLock { state in
      defer { state.channels = [:] }
      return Array(state.channels.values)
    }
    for channel in channels { try? channel.close().wait() }
    state.withLock { $0.silenced = [] }
  }

  package func stop() {
    cut()
    listener.withLock { $0 }?.close(promise: nil)
  }

  private func isSilenced(_ direction: Direction) -> Bool { state.withLock { $0.silenced.contains(direction) } }

  private final class Glue: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let partner: any Channel
    private let isSilent: @Sendable () -> Bool

    init(to partner: any Channel, isSilent: @escaping @Sendable () -> Bool) {
      self.partner = partner
      self.isSilent = isSilent
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      guard !isSilent() else { return }
      partner.writeAndFlush(unwrapInboundIn(data), promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { partner.close(promise: nil) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }
}
