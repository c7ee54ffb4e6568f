import FedLoRAProtocol
import Synchronization

/// The coordinator's end of one client's connection: a bounded queue of messages that its own task sends.
///
/// The run's driver never waits for a socket: it puts a message here and goes on.
final class ClientLink: ClientWire, Sendable {
  let name: String
  let connection: PeerConnection
  let outgoing: AsyncStream<OutgoingMessage>
  private let continuation: AsyncStream<OutgoingMessage>.Continuation

  /// A client that lets so many messages pile up does not read any more.
  static let longestQueue = 64

  var traffic: Traffic { connection.traffic }

  private let uploading = Mutex(false)
  /// Whether an update was declared and has not arrived whole.
  var isUploading: Bool {
    get { uploading.withLock { $0 } }
    set { uploading.withLock { $0 = newValue } }
  }

  init(name: String, connection: PeerConnection) {
    self.name = name
    self.connection = connection
    (outgoing, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(ClientLink.longestQueue))
  }

  func send(_ message: OutgoingMessage) {
    if case .dropped = continuation.yield(message) { continuation.finish() }
  }

  /// Ends the queue; what is in it is still sent.
  func finish() { continuation.finish() }

  /// Sends until the queue ends, then closes.
  func pump() async {
    do {
      for await message in outgoing {
        switch message {
        case .message(let envelope): try await connection.send(envelope)
        case .stream(let envelope, let payload): try await connection.send(envelope, payload: payload)
        case .end: finish()
        }
      }
    } catch {
      // The reader of the same connection sees the loss too, and reports it.
    }
    await connection.close()
  }
}
