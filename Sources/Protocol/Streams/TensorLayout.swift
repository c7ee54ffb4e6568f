import FedLoRACheckpoint
import SwiftProtobuf

/// The names and shapes of the tensors of a stream, in order, with their place in its byte string.
public struct TensorLayout: Sendable, Equatable {
  /// One tensor of the stream: 32-bit floats, row-major, little-endian.
  public struct Entry: Sendable, Equatable {
    /// Unique within the layout.
    public let name: String
    /// Extents from the slowest to the fastest dimension.
    public let shape: [Int]
    /// Elements of the tensor.
    public let count: Int
  }

  /// In ascending order of the names' UTF-8 bytes.
  public let entries: [Entry]
  /// Bytes over all tensors.
  public let byteCount: Int

  /// The layout of tensors at hand.
  public init(_ tensors: TensorSet) {
    entries = tensors.entries.map { Entry(name: $0.name, shape: $0.tensor.shape, count: $0.tensor.values.count) }
    byteCount = tensors.elementCount * MemoryLayout<Float>.size
  }

  /// The layout that a peer or a manifest declares.
  /// - Throws: `StreamViolation` for names that are empty, repeated or out of order, another type than F32, and
  ///   sizes beyond `maximumByteCount`.
  public init(_ declarations: [WireTensorDeclaration], maximumByteCount: Int = .max) throws(StreamViolation) {
    var entries: [Entry] = []
    entries.reserveCapacity(declarations.count)
    var bytes = 0
    for declaration in declarations {
      let name = declaration.name
      if name.isEmpty { throw StreamViolation(code: .unexpectedTensor, text: "a tensor without a name is declared") }
      if let last = entries.last?.name, !last.utf8.lexicographicallyPrecedes(name.utf8) {
        throw last == name
          ? StreamViolation(code: .unexpectedTensor, text: "tensor '\(name)' is declared twice")
          : StreamViolation(code: .wrongOrder, text: "tensor '\(name)' is declared after '\(last)'; names must ascend")
      }
      try declaration.requireFloat32()
      guard let shape = declaration.extents, let count = Tensor.count(of: shape),
        count <= (maximumByteCount - bytes) / MemoryLayout<Float>.size
      else {
        throw StreamViolation(
          code: .tooLarge,
          text: "tensor '\(name)' of shape \(declaration.shape) takes the stream beyond \(maximumByteCount) bytes"
        )
      }
      bytes += count * MemoryLayout<Float>.size
      entries.append(Entry(name: name, shape: shape, count: count))
    }
    self.entries = entries
    byteCount = bytes
  }

  /// The layout as messages and manifests carry it.
  public var declarations: [WireTensorDeclaration] {
    entries.map { entry in
      WireTensorDeclaration.with {
        $0.name = entry.name
        $0.dataType = .f32
        $0.shape = entry.shape.map(UInt64.init)
      }
    }
  }
}

extension WireTensorDeclaration {
  /// The shape, nil where an extent does not fit an `Int`.
  var extents: [Int]? {
    var result: [Int] = []
    for extent in shape {
      guard let value = Int(exactly: extent) else { return nil }
      result.append(value)
    }
    return result
  }

  func requireFloat32() throws(StreamViolation) {
    guard dataType != .f32 else { return }
    throw StreamViolation(code: .wrongDataType, text: "tensor '\(name)' is declared as \(dataType); f32 was expected")
  }
}
