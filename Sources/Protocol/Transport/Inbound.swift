import FedLoRACheckpoint

/// A message that arrived, with its tensors where it declared some.
public struct Inbound: Sendable {
  /// What became of the tensors.
  public enum Payload: Sendable {
    /// The message declares none.
    case none
    /// Complete and as expected: names, order, shapes, types, length, hash and finite values.
    case tensors(TensorSet)
    /// Not as expected, with the first thing that is wrong. The rest of the stream is being thrown away.
    case refused(StreamViolation)
  }

  /// The message. Never Chunk, Ping, Pong or Error.
  public let envelope: WireEnvelope
  /// Its tensors.
  public let payload: Payload

  /// The tensors, where the message declared some and they are as expected.
  public var tensors: TensorSet? { if case .tensors(let tensors) = payload { tensors } else { nil } }
  /// Why the tensors were refused.
  public var violation: StreamViolation? { if case .refused(let violation) = payload { violation } else { nil } }
}

/// Says what a receiver expects of the stream that a message declares. To refuse the stream before a byte of it is kept
/// it throws `StreamViolation`, which is reported like a violation of an update; any other error ends the connection.
public typealias ExpectStream = @Sendable (WireEnvelope) async throws -> StreamExpectation
