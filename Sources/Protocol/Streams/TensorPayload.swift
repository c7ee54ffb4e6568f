import Crypto
import FedLoRACheckpoint
import Foundation
import NIOCore
import SwiftProtobuf

/// Tensors ready to be sent: their declaration, with the hash computed once, and the tensors themselves.
///
/// A coordinator makes one for the state of a round and sends it to every client; copies share the values.
public struct TensorPayload: Sendable {
  /// What the message says about the tensors.
  public let declaration: WireTensorStream
  /// The values; chunks are cut from them as they are sent.
  public let tensors: TensorSet

  /// Computes declaration and hash: one pass over the bytes.
  public init(_ tensors: TensorSet) {
    let layout = TensorLayout(tensors)
    var hash = SHA256()
    for entry in tensors.entries {
      // Every platform of this package is little-endian, as the stream is.
      entry.tensor.values.withUnsafeBytes { hash.update(bufferPointer: $0) }
    }
    let digest = Data(hash.finalize())
    self.tensors = tensors
    declaration = WireTensorStream.with {
      $0.tensors = layout.declarations
      $0.length = UInt64(layout.byteCount)
      $0.sha256 = digest
    }
  }

  /// Bytes of tensor data.
  public var byteCount: Int { Int(declaration.length) }

  /// The next at most `length` bytes as one complete frame, nil at the end of the stream.
  func nextChunk(at place: inout Place, length: Int) -> ByteBuffer? {
    let count = min(length, byteCount - place.offset)
    guard count > 0 else { return nil }
    defer { place.offset += count }
    let values = tensors.entries[place.entry].tensor.values
    if values.count * MemoryLayout<Float>.size - place.byte >= count {
      // The common case: the chunk lies inside one tensor and is copied straight into the frame.
      let range = place.byte..<(place.byte + count)
      place.byte += count
      return values.withUnsafeBytes { bytes in
        Frame.encodeChunk(offset: place.offset, data: UnsafeRawBufferPointer(rebasing: bytes[range]))
      }
    }
    var joined: [UInt8] = []
    joined.reserveCapacity(count)
    while joined.count < count {
      tensors.entries[place.entry].tensor.values.withUnsafeBytes { bytes in
        let range = place.byte..<min(bytes.count, place.byte + count - joined.count)
        joined.append(contentsOf: bytes[range])
        place.byte = range.upperBound
        if place.byte == bytes.count {
          place.entry += 1
          place.byte = 0
        }
      }
    }
    return joined.withUnsafeBytes { Frame.encodeChunk(offset: place.offset, data: $0) }
  }

  /// How far the sending of a stream has come.
  struct Place {
    /// Bytes sent.
    var offset = 0
    /// The tensor that the next byte belongs to, and the byte within it.
    var entry = 0
    var byte = 0
  }
}
