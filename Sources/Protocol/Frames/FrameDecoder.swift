import NIOCore

/// Cuts the byte stream into frames and reads each frame's Envelope.
///
/// The length is judged as soon as its four bytes are there: a frame of length zero or beyond the limit is refused
/// before any of its body is kept. After an error the handler that drives a decoder drops all further bytes.
public final class FrameDecoder: ByteToMessageDecoder {
  /// One complete message.
  public typealias InboundOut = WireEnvelope

  /// Most bytes of a frame's body; may change between frames.
  var maximumLength: Int
  /// Bytes of the newest frame, header included.
  private(set) var lastFrameLength = 0
  private let onFrame: (Int) -> Void

  /// - Parameters:
  ///   - maximumLength: most bytes of a frame's body.
  ///   - onFrame: called with the bytes of each frame, header included.
  public init(maximumLength: Int = Frame.defaultMaximumLength, onFrame: @escaping (Int) -> Void = { _ in }) {
    self.maximumLength = maximumLength
    self.onFrame = onFrame
  }

  /// Takes one frame off `buffer` where it is complete.
  /// - Throws: `FrameError`.
  public func decode(context: ChannelHandlerContext, buffer: inout ByteBuffer) throws -> DecodingState {
    guard let length = try frameLength(in: buffer), buffer.readableBytes >= Frame.headerLength + length else {
      return .needMoreData
    }
    buffer.moveReaderIndex(forwardBy: Frame.headerLength)
    let envelope = try buffer.withUnsafeReadableBytes { bytes in
      try Frame.decodeBody(UnsafeRawBufferPointer(rebasing: bytes[..<length]))
    }
    buffer.moveReaderIndex(forwardBy: length)
    lastFrameLength = Frame.headerLength + length
    onFrame(lastFrameLength)
    context.fireChannelRead(wrapInboundOut(envelope))
    return .continue
  }

  /// Takes the last frames when the connection ends.
  /// - Throws: `FrameError`, `.truncated` where the connection ended inside a frame.
  public func decodeLast(context: ChannelHandlerContext, buffer: inout ByteBuffer, seenEOF: Bool) throws
    -> DecodingState
  {
    if case .continue = try decode(context: context, buffer: &buffer) { return .continue }
    if seenEOF, buffer.readableBytes > 0 {
      let needed = Frame.headerLength + (try frameLength(in: buffer) ?? 0)
      let missing = needed - buffer.readableBytes
      buffer.moveReaderIndex(to: buffer.writerIndex)
      throw FrameError.truncated(missing: missing)
    }
    return .needMoreData
  }

  /// The length in the header, nil while the header is not complete.
  private func frameLength(in buffer: ByteBuffer) throws(FrameError) -> Int? {
    guard let header = buffer.getInteger(at: buffer.readerIndex, as: UInt32.self) else { return nil }
    let length = Int(header)
    guard length > 0 else { throw .empty }
    guard length <= maximumLength else { throw .tooLarge(length: length, limit: maximumLength) }
    return length
  }
}

/// Writes Envelopes as frames. The transport encodes its frames before they reach the pipeline, where an error still
/// has a caller; this handler serves pipelines that write Envelopes themselves, such as those of the tests.
public final class FrameEncoder: MessageToByteEncoder {
  /// One message.
  public typealias OutboundIn = WireEnvelope

  private let maximumLength: Int

  /// - Parameter maximumLength: most bytes of a frame's body.
  public init(maximumLength: Int = Frame.defaultMaximumLength) { self.maximumLength = maximumLength }

  /// Appends the frame of `data`.
  /// - Throws: `FrameError`.
  public func encode(data: WireEnvelope, out: inout ByteBuffer) throws {
    var frame = try Frame.encode(data, maximumLength: maximumLength)
    out.writeBuffer(&frame)
  }
}
