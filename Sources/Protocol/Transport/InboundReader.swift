import FedLoRACheckpoint

/// Turns the Envelopes of one connection into whole messages: where one declares a stream, it is held back until the
/// last chunk. A value without a socket; the connection feeds it.
///
/// Messages that declare no stream may come between chunks and are passed on at once. Once a stream was refused, chunks
/// are thrown away until the next stream begins.
package struct InboundReader: Sendable {
  private enum Stage: Sendable {
    case idle
    case receiving
    /// Bytes that may still be thrown away.
    case discarding(Int)
  }

  private let maximumStreamLength: Int
  private var stage = Stage.idle
  private var envelope = WireEnvelope()
  private var consequence = StreamExpectation.Consequence.close
  // Beside the stage rather than inside it, so that a chunk changes it in place.
  private var receiver: StreamReceiver?

  package init(maximumStreamLength: Int) { self.maximumStreamLength = maximumStreamLength }

  /// Whether a stream is being received.
  var isReceiving: Bool { receiver != nil }

  /// The stream that `envelope` declares.
  /// - Throws: `TransportError.violation` where the stream before it is not complete.
  package func declaration(of envelope: WireEnvelope) throws(TransportError) -> WireTensorStream? {
    guard case .declared(let stream) = envelope.streamDeclaration else { return nil }
    guard receiver == nil else {
      throw .violation(
        code: .unexpectedStream,
        text: "a \(envelope.messageName) came before the stream of the \(self.envelope.messageName) was complete"
      )
    }
    return stream
  }

  /// Begins to receive.
  /// - Returns: the message where it is settled already: the declaration is refused, or holds no bytes.
  /// - Throws: `TransportError.violation` where that is the consequence.
  package mutating func begin(
    _ envelope: WireEnvelope,
    stream: WireTensorStream,
    expectation: StreamExpectation
  ) throws(TransportError) -> Inbound? {
    self.envelope = envelope
    consequence = expectation.onViolation
    do throws(StreamViolation) {
      if expectation.layout.byteCount > maximumStreamLength {
        throw StreamViolation(
          code: .tooLarge,
          text: "the stream takes \(expectation.layout.byteCount) bytes; at most \(maximumStreamLength) are allowed"
        )
      }
      receiver = try StreamReceiver(stream, expectation: expectation)
      stage = .receiving
    } catch {
      return try refuse(error)
    }
    return try completed()
  }

  /// Refuses the stream that `envelope` declares, on behalf of the layer above.
  mutating func refuse(_ envelope: WireEnvelope, _ violation: StreamViolation) -> Inbound {
    stage = .discarding(maximumStreamLength)
    return Inbound(envelope: envelope, payload: .refused(violation))
  }

  /// Takes a chunk.
  /// - Returns: the message that it settles.
  /// - Throws: `TransportError.violation`.
  package mutating func append(_ chunk: WireChunk) throws(TransportError) -> Inbound? {
    switch stage {
    case .idle: throw .violation(code: .unexpectedChunk, text: "a Chunk came while no stream was open")
    case .discarding(let rest):
      let left = rest - chunk.data.count
      guard left >= 0 else {
        throw .violation(
          code: .tooLarge,
          text: "more than \(maximumStreamLength) bytes came after a stream was refused"
        )
      }
      stage = .discarding(left)
      return nil
    case .receiving:
      do throws(StreamViolation) {
        try receiver?.append(chunk)
      } catch {
        return try refuse(error)
      }
      return try completed()
    }
  }

  private mutating func completed() throws(TransportError) -> Inbound? {
    guard let receiver, receiver.isComplete else { return nil }
    do throws(StreamViolation) {
      let tensors = try receiver.finish()
      self.receiver = nil
      stage = .idle
      return Inbound(envelope: envelope, payload: .tensors(tensors))
    } catch {
      return try refuse(error)
    }
  }

  private mutating func refuse(_ violation: StreamViolation) throws(TransportError) -> Inbound {
    receiver = nil
    switch consequence {
    case .close: throw .violation(code: violation.code, text: "\(envelope.messageName): \(violation.text)")
    case .report: return refuse(envelope, violation)
    }
  }
}
