import Foundation
import NIOCore
import NIOPosix

/// A TCP connection on loopback that sends what a test wants and keeps what comes.
package final class HTTPProbe: Sendable {
  private let channel: any Channel
  private let received: EventLog<String>

  private init(channel: any Channel, received: EventLog<String>) {
    self.channel = channel
    self.received = received
  }

  /// - Parameter reads: whether it takes what comes at all.
  package static func connect(port: Int, reads: Bool = true) async throws -> HTTPProbe {
    let received = EventLog<String>()
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .channelOption(.autoRead, value: reads)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(Collector(received))
        }
      }
      .connect(host: "127.0.0.1", port: port).get()
    return HTTPProbe(channel: channel, received: received)
  }

  /// Sends; that nobody takes it any more is no error.
  package func send(_ text: String) async { try? await channel.writeAndFlush(ByteBuffer(string: text)).get() }

  /// All that came, once the other side has closed.
  package func answer(within deadline: Duration = .seconds(20)) async throws -> String {
    try await received.first(within: deadline) { _ in true }
  }

  package func close() { channel.close(promise: nil) }

  /// Sends one request and takes the whole answer.
  package static func exchange(port: Int, _ request: String) async throws -> (status: Int, head: String, body: String) {
    let probe = try await connect(port: port)
    await probe.send(request)
    let answer = try await probe.answer()
    let parts = answer.split(separator: "\r\n\r\n", maxSplits: 1, omittingEmptySubsequences: false)
    let words = answer.split(separator: " ", maxSplits: 2)
    return (words.count > 1 ? Int(words[1]) ?? 0 : 0, String(parts[0]), parts.count > 1 ? String(parts[1]) : "")
  }

  /// GET of a path.
  package static func get(_ path: String, port: Int) async throws -> (status: Int, head: String, body: String) {
    try await exchange(port: port, "GET \(path) HTTP/1.1\r\nHost: localhost:\(port)\r\n\r\n")
  }

  private final class Collector: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let log: EventLog<String>
    private var text = ""

    init(_ log: EventLog<String>) { self.log = log }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { text += String(buffer: unwrapInboundIn(data)) }
    func channelInactive(context: ChannelHandlerContext) { log.record(text) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }
}
