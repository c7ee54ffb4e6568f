/// A connection could not be made or did not live on.
public enum TransportError: Error, Equatable, Sendable, CustomStringConvertible {
  /// No TCP connection, or not in time.
  case cannotConnect(address: String, reason: String)
  /// The address cannot be served.
  case cannotBind(address: String, reason: String)
  /// We refuse the peer: its certificate is not what it has to be.
  case untrustedPeer(address: String, code: ReasonCode, text: String)
  /// The peer refuses us during or right after the TLS handshake.
  case refusedByPeer(address: String, text: String)
  /// The peer sent Error and closes.
  case peerReported(code: ReasonCode, text: String)
  /// The peer broke the protocol; it was sent Error, and the connection is closed.
  case violation(code: ReasonCode, text: String)
  /// Nothing came from the peer for so long.
  case unresponsive(seconds: Double)
  /// The connection broke.
  case connectionLost(reason: String)
  /// The connection was closed on our side.
  case closed
  /// The program asks for something that the protocol does not have.
  case misuse(String)

  /// What a peer's Error says, cut to what people read.
  static func reported(_ error: WireError) -> TransportError {
    .peerReported(code: ReasonCode(rawValue: error.code.oneLine(atMost: 64)), text: error.text.oneLine(atMost: 512))
  }

  /// A sentence with the details.
  public var description: String {
    switch self {
    case .cannotConnect(let address, let reason): "cannot connect to \(address): \(reason)"
    case .cannotBind(let address, let reason): "cannot listen on \(address): \(reason)"
    case .untrustedPeer(let address, let code, let text): "\(address) is not trusted (\(code)): \(text)"
    case .refusedByPeer(let address, let text): "\(address) refuses this side: \(text)"
    case .peerReported(let code, let text): "the peer closed the connection (\(code)): \(text)"
    case .violation(let code, let text): "the peer broke the protocol (\(code)): \(text)"
    case .unresponsive(let seconds): "nothing was heard from the peer for \(seconds) seconds"
    case .connectionLost(let reason): "the connection broke: \(reason)"
    case .closed: "the connection is closed"
    case .misuse(let text): text
    }
  }
}
