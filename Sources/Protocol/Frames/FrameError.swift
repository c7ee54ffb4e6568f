/// A frame that cannot be accepted. The connection that carried it is closed.
public enum FrameError: Error, Equatable, CustomStringConvertible {
  /// The header says zero bytes.
  case empty
  /// The header says more bytes than the limit.
  case tooLarge(length: Int, limit: Int)
  /// The connection ended with `missing` bytes of a frame not received.
  case truncated(missing: Int)
  /// The frame's body is not a serialized Envelope.
  case undecodable(length: Int, reason: String)
  /// The Envelope holds no message that this version knows.
  case unknownMessage

  /// The stable word for this error.
  public var code: ReasonCode {
    switch self {
    case .empty: .emptyFrame
    case .tooLarge: .frameTooLarge
    case .truncated: .truncatedFrame
    case .undecodable: .undecodable
    case .unknownMessage: .unknownMessage
    }
  }

  /// A sentence with the details.
  public var description: String {
    switch self {
    case .empty: "a frame of length 0; a frame holds at least one byte"
    case .tooLarge(let length, let limit): "a frame of \(length) bytes; at most \(limit) are allowed"
    case .truncated(let missing): "the connection ended inside a frame, \(missing) bytes are missing"
    case .undecodable(let length, let reason): "a frame of \(length) bytes is not an Envelope: \(reason)"
    case .unknownMessage: "an Envelope without a message that protocol version \(protocolVersion) knows"
    }
  }
}
