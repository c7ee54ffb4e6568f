import Synchronization

/// Bytes of complete frames, headers included; TLS and TCP come on top.
public struct Traffic: Sendable, Equatable {
  /// Bytes handed to the connection.
  public var sent: Int
  /// Bytes of frames taken off the connection.
  public var received: Int

  /// Both counts.
  public init(sent: Int = 0, received: Int = 0) {
    self.sent = sent
    self.received = received
  }
}

/// Counts the traffic of one connection from its event loop; read from anywhere.
final class TrafficCounter: Sendable {
  private let sent = Atomic<Int>(0)
  private let received = Atomic<Int>(0)
  /// Where the connections of a server add up.
  private let server: ServerTrafficCounter?

  init(server: ServerTrafficCounter? = nil) { self.server = server }

  /// One frame.
  func addSent(_ bytes: Int) {
    sent.add(bytes, ordering: .relaxed)
    server?.frames.addSent(1)
    server?.frameBytes.addSent(bytes)
  }

  /// One frame.
  func addReceived(_ bytes: Int) {
    received.add(bytes, ordering: .relaxed)
    server?.frames.addReceived(1)
    server?.frameBytes.addReceived(bytes)
  }

  /// Bytes of tensors, which are a part of those of their frames.
  func addPayloadSent(_ bytes: Int) { server?.payload.addSent(bytes) }
  /// Bytes of tensors, which are a part of those of their frames.
  func addPayloadReceived(_ bytes: Int) { server?.payload.addReceived(bytes) }

  var total: Traffic { Traffic(sent: sent.load(ordering: .relaxed), received: received.load(ordering: .relaxed)) }
}

extension Traffic {
  /// Both directions added up.
  public static func + (left: Traffic, right: Traffic) -> Traffic {
    Traffic(sent: left.sent + right.sent, received: left.received + right.received)
  }
}
