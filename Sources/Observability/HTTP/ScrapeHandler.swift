import NIOCore
import NIOHTTP1

/// A request with more bytes than are read.
struct RequestTooLong: Error {}

/// Stands before the parser and passes on only so many bytes: nothing behind it has to keep more.
final class RequestLimiter: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let most: Int
  private var seen = 0

  init(most: Int) { self.most = most }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard seen <= most else { return }
    let buffer = unwrapInboundIn(data)
    seen += buffer.readableBytes
    if seen <= most { context.fireChannelRead(data) } else { context.fireErrorCaught(RequestTooLong()) }
  }
}

/// Answers the first request of a connection, then closes it. What else the peer sends is thrown away.
final class ScrapeHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  /// How long a connection whose answer was taken may stay open for the peer to close it.
  static let linger = TimeAmount.seconds(2)

  private let limits: MetricsServer.Limits
  private let routes: [String: MetricsServer.Route]
  private var hasAnswered = false
  private var timer: Scheduled<Void>?

  init(limits: MetricsServer.Limits, routes: [String: MetricsServer.Route]) {
    self.limits = limits
    self.routes = routes
  }

  func handlerAdded(context: ChannelHandlerContext) {
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleTask(in: TimeAmount(limits.requestTime)) {
      let (handler, context) = bound.value
      handler.answer(.tooSlow, context)
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard case .head(let head) = unwrapInboundIn(data), !hasAnswered else { return }
    answer(answer(to: head), context, withBody: head.method != .HEAD)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch error {
    case is HTTPParserError: answer(.badRequest, context)
    case is RequestTooLong: answer(.tooLong, context)
    default: context.close(promise: nil)
    }
  }

  private func answer(to head: HTTPRequestHead) -> HTTPAnswer {
    // RFC 9112, section 3.2: a request of HTTP/1.1 names its host, once.
    if head.version.major != 1 || (head.version == .http1_1 && head.headers["host"].count != 1) { return .badRequest }
    guard let path = head.uri.split(separator: "?", omittingEmptySubsequences: false).first,
      let route = routes[String(path)]
    else { return .notFound }
    guard head.method == .GET || head.method == .HEAD else { return .notAllowed }
    return route()
  }

  private func answer(_ answer: HTTPAnswer, _ context: ChannelHandlerContext, withBody: Bool = true) {
    guard !hasAnswered else { return }
    hasAnswered = true
    close(context, in: TimeAmount(limits.answerTime))
    let body = ByteBuffer(string: answer.body)
    var headers = HTTPHeaders([
      ("Content-Type", answer.contentType), ("Content-Length", "\(body.readableBytes)"), ("Cache-Control", "no-store"),
      ("X-Content-Type-Options", "nosniff"), ("Connection", "close"),
    ])
    if answer.status == 405 { headers.add(name: "Allow", value: "GET, HEAD") }
    let head = HTTPResponseHead(version: .http1_1, status: .init(statusCode: answer.status), headers: headers)
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    if withBody { context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil) }
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    context.writeAndFlush(wrapOutboundOut(.end(nil))).whenSuccess {
      // Closed at once, a peer that is still sending would be told of a reset instead of reading the answer.
      let (handler, context) = bound.value
      context.close(mode: .output, promise: nil)
      handler.close(context, in: ScrapeHandler.linger)
    }
  }

  private func close(_ context: ChannelHandlerContext, in time: TimeAmount) {
    timer?.cancel()
    let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleTask(in: time) { bound.value.close(promise: nil) }
  }
}
