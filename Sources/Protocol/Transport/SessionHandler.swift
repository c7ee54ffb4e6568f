import NIOCore
import SwiftProtobuf

/// The end of a connection's pipeline: hands Envelopes to the task that receives, answers pings, watches the peer, and
/// turns a broken frame into Error and a closed connection.
///
/// Reading stops while as many messages wait as one task may leave lying, and after a message that declares a stream until
/// the task has made room for it and asks for more; TCP then holds the peer back. All state belongs to the event loop.
final class SessionHandler: ChannelDuplexHandler {
  typealias InboundIn = WireEnvelope
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private static let maximumQueuedBytes = 128 << 10
  private static let maximumQueuedMessages = 64

  private enum Phase { case open, closing, closed }
  /// A message that declares a stream, until the receiver is ready for the stream itself.
  private enum Declaration { case none, waits, isHandedOut }

  private let configuration: TransportConfiguration
  private let traffic: TrafficCounter
  /// Client: completed by the coordinator's first frame.
  private var greeting: EventLoopPromise<Void>?
  private var context: ChannelHandlerContext?
  private var phase = Phase.open
  private var failure: TransportError?
  private var queue: [WireEnvelope] = []
  private var queuedBytes = 0
  private var waiter: (id: Int, promise: EventLoopPromise<[WireEnvelope]>)?
  private var hasHeldRead = false
  private var declaration = Declaration.none
  private var keepAlive: KeepAlive?
  private var keepAliveTask: Scheduled<Void>?
  private var streamTask: Scheduled<Void>?
  private var nonce: UInt64 = 0
  private let decoder: FrameDecoder
  /// Server: frames that came before Hello was accepted; nil from then on, and on a client.
  private var framesBeforeHello: Int?
  private var helloTask: Scheduled<Void>?

  init(
    configuration: TransportConfiguration,
    traffic: TrafficCounter,
    decoder: FrameDecoder,
    isServer: Bool,
    greeting: EventLoopPromise<Void>? = nil
  ) {
    self.configuration = configuration
    self.traffic = traffic
    self.decoder = decoder
    self.greeting = greeting
    if isServer {
      framesBeforeHello = 0
      decoder.maximumLength = min(configuration.maximumFrameLengthBeforeHello, configuration.maximumFrameLength)
    }
  }

  // MARK: What a connection asks for, on the event loop

  /// Why the connection is of no use any more, nil while it is.
  var reason: TransportError? { failure ?? (phase == .open ? nil : .closed) }

  /// All messages that wait, as soon as there is one; none at the clean end of the connection.
  func nextBatch(id: Int, on loop: any EventLoop) -> EventLoopFuture<[WireEnvelope]> {
    if declaration == .isHandedOut { declaration = .none }
    if !queue.isEmpty {
      defer { resumeReading() }
      return loop.makeSucceededFuture(takeQueue())
    }
    resumeReading()
    if !queue.isEmpty { return loop.makeSucceededFuture(takeQueue()) }
    if let failure { return loop.makeFailedFuture(failure) }
    guard phase == .open else { return loop.makeSucceededFuture([]) }
    guard waiter == nil else {
      return loop.makeFailedFuture(TransportError.misuse("two tasks receive from one connection"))
    }
    let promise = loop.makePromise(of: [WireEnvelope].self)
    waiter = (id, promise)
    return promise.futureResult
  }

  /// Lets the receiver of this id go; the connection lives on.
  func cancelReceive(id: Int) {
    guard let waiter, waiter.id == id else { return }
    self.waiter = nil
    waiter.promise.fail(CancellationError())
  }

  /// Gives a stream its time; the last one's deadline is taken back.
  func setStreamDeadline(_ isOpen: Bool) {
    streamTask?.cancel()
    streamTask = nil
    guard isOpen, phase == .open, let context else { return }
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    let timeout = configuration.streamTimeout
    streamTask = context.eventLoop.scheduleTask(in: TimeAmount(timeout)) {
      bound.value.refuse(
        .violation(code: .streamTimeout, text: "a stream did not complete within \(timeout)")
      )
    }
  }

  /// Tells the peer why, then closes.
  func refuse(_ error: TransportError) {
    guard phase == .open, let context else { return }
    fail(with: error)
    guard case .violation(let code, let text) = error else { return close(context) }
    report(code: code, text: text, context: context)
  }

  /// Sends Error, then closes. What still arrives is thrown away.
  func report(code: ReasonCode, text: String) {
    guard phase == .open, let context else { return }
    report(code: code, text: text, context: context)
  }

  /// Server: the first frame, which tells a client that its certificate was accepted.
  func greet() {
    guard phase == .open, let context else { return }
    if framesBeforeHello != nil {
      let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
      let timeout = configuration.helloTimeout
      helloTask = context.eventLoop.scheduleTask(in: TimeAmount(timeout)) {
        bound.value.refuse(
          .violation(code: .helloTimeout, text: "no Hello that could be accepted came within \(timeout)")
        )
      }
    }
    send(WireEnvelope(.ping(.with { $0.nonce = nonce })), context: context)
  }

  /// Server: Hello is accepted; the limits of a connection that works count from now on.
  func admit() {
    helloTask?.cancel()
    helloTask = nil
    framesBeforeHello = nil
    decoder.maximumLength = configuration.maximumFrameLength
  }

  /// Closes after what was written.
  func close() {
    guard phase == .open, let context else { return }
    close(context)
  }

  // MARK: The pipeline

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    if context.channel.isActive { startKeepAlive(context) }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    finish()
    self.context = nil
  }

  func channelActive(context: ChannelHandlerContext) {
    startKeepAlive(context)
    context.fireChannelActive()
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish()
    context.fireChannelInactive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard phase == .open else { return }
    let envelope = unwrapInboundIn(data)
    keepAlive?.received(at: .now())
    if let count = framesBeforeHello {
      framesBeforeHello = count + 1
      guard count < configuration.maximumFramesBeforeHello else {
        return refuse(.violation(code: .tooManyFrames, text: "more than \(count) frames came before Hello"))
      }
    }
    if let greeting, envelope.message != nil {
      self.greeting = nil
      if case .error(let error) = envelope.message {
        greeting.fail(TransportError.reported(error))
      } else {
        greeting.succeed()
      }
    }
    switch envelope.message {
    case .ping(let ping):
      // A peer that pings without reading is not owed a queue of answers.
      guard context.channel.isWritable else { return }
      send(WireEnvelope(.pong(.with { $0.nonce = ping.nonce })), context: context)
    case .pong: break
    case nil: refuse(.violation(code: .unknownMessage, text: FrameError.unknownMessage.description))
    default:
      if case .chunk(let chunk) = envelope.message { traffic.addPayloadReceived(chunk.data.count) }
      // Every message weighs, not only chunks: any of them may fill a frame.
      enqueue(envelope, bytes: decoder.lastFrameLength)
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    if let waiter, !queue.isEmpty {
      self.waiter = nil
      waiter.promise.succeed(takeQueue())
    }
    context.fireChannelReadComplete()
  }

  func read(context: ChannelHandlerContext) {
    if phase == .open, isFull {
      hasHeldRead = true
      keepAlive?.pausedReading()
    } else {
      context.read()
    }
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    let frame = unwrapOutboundIn(data)
    traffic.addSent(frame.readableBytes)
    keepAlive?.sent(at: .now())
    context.write(data, promise: promise)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch error {
    case let error as FrameError where error.code != .truncatedFrame:
      refuse(.violation(code: error.code, text: error.description))
    case let error as FrameError: refuse(.connectionLost(reason: error.description))
    case let error as TransportError: refuse(error)
    default: refuse(.connectionLost(reason: "\(error)"))
    }
  }

  // MARK: Inside

  private var isFull: Bool {
    declaration != .none || queuedBytes >= Self.maximumQueuedBytes || queue.count >= Self.maximumQueuedMessages
  }

  private func enqueue(_ envelope: WireEnvelope, bytes: Int) {
    queue.append(envelope)
    queuedBytes += bytes
    if case .declared = envelope.streamDeclaration { declaration = .waits }
  }

  private func takeQueue() -> [WireEnvelope] {
    defer {
      queue = []
      queuedBytes = 0
      if declaration == .waits { declaration = .isHandedOut }
    }
    return queue
  }

  private func resumeReading() {
    guard hasHeldRead, !isFull, let context else { return }
    hasHeldRead = false
    keepAlive?.resumedReading(at: .now())
    context.read()
  }

  private func fail(with error: TransportError) {
    if failure == nil { failure = error }
    greeting?.fail(error)
    greeting = nil
  }

  private func report(code: ReasonCode, text: String, context: ChannelHandlerContext) {
    send(
      WireEnvelope(
        .error(
          .with {
            $0.code = code.rawValue
            $0.text = text
          }
        )
      ),
      context: context
    )
    close(context)
  }

  private func send(_ envelope: WireEnvelope, context: ChannelHandlerContext) {
    guard let frame = try? Frame.encode(envelope) else { return }
    traffic.addSent(frame.readableBytes)
    keepAlive?.sent(at: .now())
    context.writeAndFlush(wrapOutboundOut(frame), promise: nil)
  }

  /// From here on everything that arrives is read and dropped, so that the peer comes to read our last words.
  private func close(_ context: ChannelHandlerContext) {
    phase = .closing
    stopTimers()
    wakeReceiver()
    if hasHeldRead {
      hasHeldRead = false
      context.read()
    }
    context.close(promise: nil)
  }

  private func finish() {
    guard phase != .closed else { return }
    let wasOpen = phase == .open
    phase = .closed
    stopTimers()
    if wasOpen { greeting?.fail(failure ?? TransportError.connectionLost(reason: "the peer closed it")) }
    greeting?.fail(TransportError.closed)
    greeting = nil
    wakeReceiver()
  }

  private func wakeReceiver() {
    guard let waiter else { return }
    self.waiter = nil
    if !queue.isEmpty {
      waiter.promise.succeed(takeQueue())
    } else if let failure {
      waiter.promise.fail(failure)
    } else {
      waiter.promise.succeed([])
    }
  }

  // MARK: Keep-alive

  private func startKeepAlive(_ context: ChannelHandlerContext) {
    guard keepAlive == nil else { return }
    keepAlive = KeepAlive(
      interval: TimeAmount(configuration.keepAliveInterval),
      timeout: TimeAmount(configuration.peerTimeout),
      now: .now()
    )
    tick()
  }

  private func tick() {
    guard phase == .open, let context else { return }
    while true {
      switch keepAlive?.next(at: .now()) {
      case .ping:
        // Where the socket is full the peer has enough to read.
        guard context.channel.isWritable else { continue }
        nonce &+= 1
        send(WireEnvelope(.ping(.with { $0.nonce = nonce })), context: context)
      case .giveUp:
        let timeout = configuration.peerTimeout.components
        return refuse(.unresponsive(seconds: Double(timeout.seconds) + Double(timeout.attoseconds) / 1e18))
      case .wait(let deadline):
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        keepAliveTask = context.eventLoop.scheduleTask(deadline: deadline) { bound.value.tick() }
        return
      case nil: return
      }
    }
  }

  private func stopTimers() {
    keepAliveTask?.cancel()
    streamTask?.cancel()
    helloTask?.cancel()
    keepAliveTask = nil
    streamTask = nil
    helloTask = nil
  }
}
