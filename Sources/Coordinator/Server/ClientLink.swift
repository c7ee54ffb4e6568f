import FedLoRAProtocol
import Synchronization

/// The coordinator's end of one client's connection: a bounded queue of messages that its own task sends.
///
/// The run's driver never waits for a socket: it puts a message here and goes on.
final class ClientLink: ClientWire, Sendable {
  /// A message with the time since when it waits.
  struct Queued: Sendable {
    let message: OutgoingMessage
    let since: Duration
  }

  let name: String
  let connection: PeerConnection
  let outgoing: AsyncStream<Queued>
  private let continuation: AsyncStream<Queued>.Continuation
  private let metrics: CoordinatorMetrics
  private let backlog: Backlog
  private let turns: SendingTurns
  /// How many messages wait; nil once nobody sends any more.
  private let waiting = Mutex<Int?>(0)
  private let times = Mutex(LinkTimes())

  /// A client that lets so many messages pile up does not read any more.
  static let longestQueue = 64

  var traffic: Traffic { connection.traffic }

  private let uploading = Mutex(false)
  /// Whether an update was declared and has not arrived whole.
  var isUploading: Bool { uploading.withLock { $0 } }

  /// - Parameters:
  ///   - backlog: where the messages that wait for any client are counted.
  ///   - turns: when states are sent.
  init(
    name: String,
    connection: PeerConnection,
    metrics: CoordinatorMetrics,
    backlog: Backlog,
    turns: SendingTurns
  ) {
    self.name = name
    self.connection = connection
    self.metrics = metrics
    self.backlog = backlog
    self.turns = turns
    (outgoing, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(ClientLink.longestQueue))
  }

  func send(_ message: OutgoingMessage) {
    let queued = Queued(message: message, since: metrics.now)
    waiting.withLock { waiting in
      switch continuation.yield(queued) {
      case .enqueued:
        guard let count = waiting else { break }
        waiting = count + 1
        backlog.add(1)
      case .dropped: continuation.finish()
      default: break
      }
    }
  }

  /// Ends the queue; what is in it is still sent.
  func finish() { continuation.finish() }

  /// Sends until the queue ends, then closes.
  func pump() async {
    do {
      for await queued in outgoing {
        // A message waits until the socket has it.
        defer { took() }
        switch queued.message {
        case .message(let envelope):
          try await connection.send(envelope)
          if case .ack? = envelope.message { tell { $0.acknowledged(at: $1) } }
        case .stream(let envelope, let payload):
          try await turns.take {
            guard case .round(let round)? = envelope.message else {
              return try await connection.send(envelope, payload: payload)
            }
            times.withLock { $0.roundBegins(round.round) }
            try await connection.send(envelope, payload: payload)
            tell { $0.roundSent(round.round, queued: queued.since, at: $1) }
          }
        case .end: finish()
        }
      }
    } catch {
      // The reader of the same connection sees the loss too, and reports it.
    }
    finish()
    waiting.withLock { waiting in
      backlog.add(-(waiting ?? 0))
      waiting = nil
    }
    await connection.close()
  }

  /// An update was declared.
  func updateBegins(_ envelope: WireEnvelope) {
    uploading.withLock { $0 = true }
    guard case .update(let update)? = envelope.message else { return }
    tell { $0.updateBegun(update.round, at: $1) }
  }

  /// A message was received.
  func received(_ inbound: Inbound) {
    uploading.withLock { $0 = false }
    guard case .update(let update)? = inbound.envelope.message else { return }
    tell { $0.updateArrived(update.round, isWhole: inbound.tensors != nil, at: $1) }
  }

  private func took() {
    waiting.withLock { waiting in
      guard let count = waiting, count > 0 else { return }
      waiting = count - 1
      backlog.add(-1)
    }
  }

  private func tell(_ moment: (inout LinkTimes, Duration) -> LinkMoment?) {
    let now = metrics.now
    if let moment = times.withLock({ moment(&$0, now) }) { metrics.observe(moment) }
  }
}

/// How much waits, all clients together.
final class Backlog: Sendable {
  private let state = Atomic<Int>(0)

  var count: Int { state.load(ordering: .relaxed) }

  func add(_ amount: Int) { state.add(amount, ordering: .relaxed) }
}
