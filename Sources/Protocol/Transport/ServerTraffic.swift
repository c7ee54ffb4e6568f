import NIOCore
import Synchronization

/// What went over all connections of a server since it listens.
public struct ServerTraffic: Sendable, Equatable {
  /// Bytes on TCP: frames and all that TLS adds, handshakes included.
  public var wire = Traffic()
  /// Bytes of frames, their headers included.
  public var frames = Traffic()
  /// Bytes of tensors.
  public var payload = Traffic()
  /// Number of frames.
  public var frameCount = Traffic()
}

/// Two numbers that only grow, from any thread.
final class DirectedCounter: Sendable {
  private let sent = Atomic<Int>(0)
  private let received = Atomic<Int>(0)

  func addSent(_ amount: Int) { sent.add(amount, ordering: .relaxed) }
  func addReceived(_ amount: Int) { received.add(amount, ordering: .relaxed) }

  var total: Traffic { Traffic(sent: sent.load(ordering: .relaxed), received: received.load(ordering: .relaxed)) }
}

/// Counts what goes over all connections of a server.
final class ServerTrafficCounter: Sendable {
  let wire = DirectedCounter()
  let frames = DirectedCounter()
  let frameBytes = DirectedCounter()
  let payload = DirectedCounter()

  var total: ServerTraffic {
    ServerTraffic(wire: wire.total, frames: frameBytes.total, payload: payload.total, frameCount: frames.total)
  }
}

/// Stands between TLS and the socket and counts what passes.
final class WireCounter: ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ByteBuffer

  private let counter: DirectedCounter

  init(_ counter: DirectedCounter) { self.counter = counter }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    counter.addReceived(unwrapInboundIn(data).readableBytes)
    context.fireChannelRead(data)
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    counter.addSent(unwrapOutboundIn(data).readableBytes)
    context.write(data, promise: promise)
  }
}
