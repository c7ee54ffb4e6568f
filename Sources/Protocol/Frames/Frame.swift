import Foundation
import NIOCore
import SwiftProtobuf

/// One frame: a 4-byte big-endian length, then that many bytes of one serialized Envelope.
public enum Frame {
  /// Bytes of the length.
  public static let headerLength = 4
  /// Most bytes of a frame's body unless the configuration says otherwise.
  public static let defaultMaximumLength = 2 << 20
  /// Most bytes of tensor data in one Chunk.
  public static let maximumChunkLength = 1 << 20

  /// The complete frame of `envelope`. Equal envelopes give equal bytes: maps are written in order of their keys.
  /// - Throws: `FrameError.empty` for an envelope without a message, `.tooLarge` beyond `maximumLength`.
  public static func encode(_ envelope: WireEnvelope, maximumLength: Int = defaultMaximumLength) throws -> ByteBuffer {
    var options = BinaryEncodingOptions()
    options.useDeterministicOrdering = true
    let body: [UInt8] = try envelope.serializedBytes(options: options)
    guard !body.isEmpty else { throw FrameError.empty }
    guard body.count <= maximumLength else { throw FrameError.tooLarge(length: body.count, limit: maximumLength) }
    var buffer = ByteBufferAllocator().buffer(capacity: headerLength + body.count)
    buffer.writeInteger(UInt32(body.count))
    buffer.writeBytes(body)
    return buffer
  }

  /// Reads an Envelope from a frame's body.
  /// - Throws: `FrameError.undecodable`.
  static func decodeBody(_ bytes: UnsafeRawBufferPointer) throws(FrameError) -> WireEnvelope {
    do {
      // The decoder only reads and copies what it keeps, so the view needs no owner beyond this call.
      let view = UnsafeMutableRawBufferPointer(mutating: bytes)
      guard let start = view.baseAddress else { throw FrameError.empty }
      return try WireEnvelope(serializedBytes: Data(bytesNoCopy: start, count: view.count, deallocator: .none))
    } catch {
      throw .undecodable(length: bytes.count, reason: "\(error)")
    }
  }

  /// The complete frame of a Chunk, written by hand because this is where all the bytes of a run pass:
  /// one copy from the tensor to the buffer. Field numbers are those of `Envelope.chunk` and `Chunk`.
  package static func encodeChunk(offset: Int, data: UnsafeRawBufferPointer) -> ByteBuffer {
    let offsetLength = offset == 0 ? 0 : 1 + varintLength(offset)
    let chunkLength = offsetLength + 1 + varintLength(data.count) + data.count
    let bodyLength = 1 + varintLength(chunkLength) + chunkLength
    var buffer = ByteBufferAllocator().buffer(capacity: headerLength + bodyLength)
    buffer.writeInteger(UInt32(bodyLength))
    buffer.writeInteger(UInt8(12 << 3 | 2))
    writeVarint(chunkLength, to: &buffer)
    if offset != 0 {
      buffer.writeInteger(UInt8(1 << 3 | 0))
      writeVarint(offset, to: &buffer)
    }
    buffer.writeInteger(UInt8(2 << 3 | 2))
    writeVarint(data.count, to: &buffer)
    buffer.writeBytes(data)
    return buffer
  }

  private static func varintLength(_ value: Int) -> Int { max(1, (64 - value.leadingZeroBitCount + 6) / 7) }

  private static func writeVarint(_ value: Int, to buffer: inout ByteBuffer) {
    var rest = UInt64(value)
    while rest >= 0x80 {
      buffer.writeInteger(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    buffer.writeInteger(UInt8(rest))
  }
}
