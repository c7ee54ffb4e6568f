import FedLoRACheckpoint
import Foundation
import NIOCore
import Synchronization

/// An open, mutually authenticated connection.
///
/// One task receives, any number send. A message and its stream reach the peer in one piece: streams of one connection
/// follow each other, other messages may overtake the rest of a stream. Nothing is queued without bound: a sender waits
/// for the socket, and the peer waits for the receiver.
public final class PeerConnection: Sendable {
  /// Who the peer is, by its certificate.
  public let peer: PeerIdentity
  /// The number of the peer's certificate; nil where it showed none.
  public let peerSerial: CertificateSerial?
  /// From how far the peer comes, as far as limits go.
  let network: RemoteNetwork
  /// The peer's address, for logs.
  public let remoteAddress: String

  private let channel: any Channel
  private let session: NIOLoopBound<SessionHandler>
  private let counter: TrafficCounter
  private let configuration: TransportConfiguration
  private let streamBudget: PermitPool?
  private let sendTurn = PermitPool(capacity: 1)
  private let receiving: Mutex<Receiving>

  private struct Receiving: Sendable {
    /// Taken out by the task that receives.
    var reader: InboundReader?
    /// Messages that arrived together with one that was handed out, last first.
    var waiting: [WireEnvelope] = []
    /// Memory of the stream that is coming in or was handed out last.
    var reservation: PermitPool.Reservation?
    var nextID = 0
  }

  init(
    channel: any Channel,
    session: NIOLoopBound<SessionHandler>,
    peer: VerifiedPeer,
    counter: TrafficCounter,
    configuration: TransportConfiguration,
    streamBudget: PermitPool?
  ) {
    self.channel = channel
    self.session = session
    self.peer = peer.identity
    peerSerial = peer.serial
    network = RemoteNetwork(channel.remoteAddress)
    self.counter = counter
    self.configuration = configuration
    self.streamBudget = streamBudget
    remoteAddress = channel.remoteAddress.map { $0.hostAndPort } ?? "unknown address"
    receiving = Mutex(Receiving(reader: InboundReader(maximumStreamLength: configuration.maximumStreamLength)))
  }

  /// Bytes of frames so far in both directions.
  public var traffic: Traffic { counter.total }

  /// Server: lifts the limits of a peer that has not said Hello. To be called once its Hello is accepted; without it the
  /// connection ends after `helloTimeout`.
  public func admit() {
    let session = session
    channel.eventLoop.execute { session.value.admit() }
  }

  // MARK: Sending

  /// Sends a message without tensors; returns when the socket has taken it.
  /// - Throws: `FrameError.tooLarge`, `TransportError`.
  public func send(_ envelope: WireEnvelope) async throws {
    if case .declared(let stream) = envelope.streamDeclaration, !stream.tensors.isEmpty || stream.length > 0 {
      throw TransportError.misuse("a \(envelope.messageName) that declares tensors must be sent together with them")
    }
    try await write(try Frame.encode(envelope, maximumLength: Frame.defaultMaximumLength))
  }

  /// Sends a Round, Update or Goodbye with tensors.
  public func send(_ envelope: WireEnvelope, payload: TensorSet) async throws {
    try await send(envelope, payload: TensorPayload(payload))
  }

  /// Sends a Round, Update or Goodbye with tensors whose hash is known already. The declaration is put into the message.
  /// - Throws: `TransportError.misuse` for another message. A cancelled stream ends the connection.
  public func send(_ envelope: WireEnvelope, payload: TensorPayload) async throws {
    var message = envelope
    guard message.declare(payload.declaration) else {
      throw TransportError.misuse("a \(envelope.messageName) cannot carry tensors")
    }
    let first = try Frame.encode(message, maximumLength: Frame.defaultMaximumLength)
    let length = min(max(configuration.chunkLength, 1), Frame.maximumChunkLength)
    var place = TensorPayload.Place()
    try await sendStream(first) { payload.nextChunk(at: &place, length: length) }
    counter.addPayloadSent(Int(clamping: payload.declaration.length))
  }

  /// Sends a sealed message, byte for byte.
  public func send(_ sealed: SealedMessage) async throws {
    var frames = SealedMessage.Frames(bytes: sealed.bytes)
    guard let first = try frames.nextFrame() else { throw FrameError.empty }
    try await sendStream(ByteBuffer(bytes: first)) { try frames.nextFrame().map { ByteBuffer(bytes: $0) } }
  }

  private func sendStream(_ first: ByteBuffer, next: () throws -> ByteBuffer?) async throws {
    let turn = try await sendTurn.acquire(1)
    defer { withExtendedLifetime(turn) {} }
    do {
      // One write is in the socket's hands while the next is being made.
      var pending = enqueue(first)
      while let chunk = try next() {
        try Task.checkCancellation()
        let following = enqueue(chunk)
        try await taken(pending)
        pending = following
      }
      try await taken(pending)
    } catch {
      let reason = await failure(for: error)
      // Half a stream is in the peer's hands: the connection is of no use any more.
      await close()
      throw reason
    }
  }

  private func enqueue(_ frame: ByteBuffer) -> EventLoopFuture<Void> { channel.writeAndFlush(frame) }

  /// Waits until the socket has taken a frame. Pings keep a connection alive whose peer reads nothing, so that the rest
  /// of a queue would be held for it without end.
  private func taken(_ write: EventLoopFuture<Void>) async throws {
    let (session, timeout) = (session, configuration.streamTimeout)
    let deadline = channel.eventLoop.scheduleTask(in: TimeAmount(timeout)) {
      session.value.refuse(.connectionLost(reason: "the peer did not take a frame within \(timeout)"))
    }
    defer { deadline.cancel() }
    try await write.get()
  }

  /// Sends bytes as they are. Package access, so that tests can send what no correct peer does.
  package func write(_ frame: ByteBuffer) async throws {
    do {
      try await taken(enqueue(frame))
    } catch {
      throw await failure(for: error)
    }
  }

  /// The reason that the session knows rather than the system's.
  private func failure(for error: any Error) async -> any Error {
    if error is CancellationError || error is TransportError || error is FrameError { return error }
    let session = session
    let known = try? await channel.eventLoop.submit { session.value.reason }.get()
    return known ?? .connectionLost(reason: "\(error)")
  }

  // MARK: Receiving

  /// The next message, with its tensors where it declares some; nil when the peer has closed.
  ///
  /// A cancelled receive leaves the connection as it is, except while tensors wait for memory. The memory of the last
  /// message's tensors counts against the server's budget until the next call.
  /// - Parameter expectation: says what is expected of a declared stream; without it every stream is a violation.
  /// - Throws: `TransportError`, `CancellationError`, and what `expectation` throws.
  public func receive(expecting expectation: ExpectStream = PeerConnection.expectNothing) async throws -> Inbound? {
    guard var reader = takeReader() else { throw TransportError.misuse("two tasks receive from one connection") }
    defer { receiving.withLock { $0.reader = reader } }
    do {
      while let envelope = try await nextEnvelope() {
        if let inbound = try await accept(envelope, reader: &reader, expecting: expectation) { return inbound }
      }
      return nil
    } catch let error as TransportError {
      await refuse(error)
      throw error
    }
  }

  /// The messages as a sequence, for one `for try await` loop.
  public func messages(expecting expectation: @escaping ExpectStream = PeerConnection.expectNothing) -> Messages {
    Messages(connection: self, expectation: expectation)
  }

  /// Refuses every stream by closing the connection.
  public static let expectNothing: ExpectStream = { envelope in
    throw TransportError.violation(
      code: .unexpectedStream,
      text: "a \(envelope.messageName) with tensors is not expected here"
    )
  }

  /// An asynchronous sequence of messages; see `receive`.
  public struct Messages: AsyncSequence, AsyncIteratorProtocol, Sendable {
    fileprivate let connection: PeerConnection
    fileprivate let expectation: ExpectStream

    /// This sequence; it continues where the last one stopped.
    public func makeAsyncIterator() -> Messages { self }
    /// The next message.
    public func next() async throws -> Inbound? { try await connection.receive(expecting: expectation) }
  }

  private func takeReader() -> InboundReader? {
    receiving.withLock { state in
      defer { state.reader = nil }
      if let reader = state.reader, !reader.isReceiving { state.reservation = nil }
      return state.reader
    }
  }

  private func nextEnvelope() async throws -> WireEnvelope? {
    if let next = receiving.withLock({ $0.waiting.popLast() }) { return next }
    let id = receiving.withLock { state in
      state.nextID += 1
      return state.nextID
    }
    try Task.checkCancellation()
    let (session, loop) = (session, channel.eventLoop)
    let batch = try await withTaskCancellationHandler {
      try await loop.flatSubmit { session.value.nextBatch(id: id, on: loop) }.get()
    } onCancel: {
      loop.execute { session.value.cancelReceive(id: id) }
    }
    guard let first = batch.first else { return nil }
    receiving.withLock { $0.waiting = batch.dropFirst().reversed() }
    return first
  }

  private func accept(
    _ envelope: WireEnvelope,
    reader: inout InboundReader,
    expecting expectation: ExpectStream
  ) async throws -> Inbound? {
    switch envelope.message {
    case .error(let error): throw TransportError.reported(error)
    case .chunk(let chunk):
      let inbound = try reader.append(chunk)
      if inbound != nil { endStream(keepsMemory: inbound?.tensors != nil) }
      return inbound
    default: break
    }
    guard let stream = try reader.declaration(of: envelope) else { return Inbound(envelope: envelope, payload: .none) }
    let expected: StreamExpectation
    do {
      expected = try await expectation(envelope)
    } catch let violation as StreamViolation {
      return reader.refuse(envelope, violation)
    } catch {
      if !(error is TransportError) { await close() }
      throw error
    }
    if let inbound = try reader.begin(envelope, stream: stream, expectation: expected) { return inbound }
    if let streamBudget {
      do {
        let reservation = try await streamBudget.acquire(expected.layout.byteCount)
        receiving.withLock { $0.reservation = reservation }
      } catch {
        await close()
        throw error
      }
    }
    setStreamDeadline(true)
    return nil
  }

  private func endStream(keepsMemory: Bool) {
    setStreamDeadline(false)
    if !keepsMemory { receiving.withLock { $0.reservation = nil } }
  }

  private func setStreamDeadline(_ isOpen: Bool) {
    let session = session
    channel.eventLoop.execute { session.value.setStreamDeadline(isOpen) }
  }

  // MARK: Closing

  /// Sends Error with a reason that the peer can show, then closes.
  public func close(code: ReasonCode, text: String) async {
    let session = session
    channel.eventLoop.execute { session.value.report(code: code, text: text) }
    try? await channel.closeFuture.get()
  }

  /// Closes after everything that was sent, and returns when the socket is gone. Closing again does nothing.
  public func close() async {
    let session = session
    channel.eventLoop.execute { session.value.close() }
    try? await channel.closeFuture.get()
    receiving.withLock { $0.reservation = nil }
  }

  /// Closes without waiting for anything.
  func abandon() { channel.close(promise: nil) }

  private func refuse(_ error: TransportError) async {
    let session = session
    channel.eventLoop.execute { session.value.refuse(error) }
    try? await channel.closeFuture.get()
    receiving.withLock { $0.reservation = nil }
  }
}

extension SocketAddress {
  /// "127.0.0.1:4711" or "[::1]:4711".
  var hostAndPort: String {
    guard let address = ipAddress, let port else { return description }
    return address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)"
  }
}
