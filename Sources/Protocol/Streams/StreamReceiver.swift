import Crypto
import FedLoRACheckpoint
import Foundation

/// Puts the tensors of one stream together from its chunks, knowing no socket.
///
/// Bytes go straight into the tensors: every platform of this package is little-endian, as the stream is. A tensor's memory is taken when its first byte arrives, so that a peer that
/// declares much and sends nothing costs nothing.
struct StreamReceiver: Sendable {
  private let layout: TensorLayout
  private let requiresFinite: Bool
  private let sha256: Data
  private var hash = SHA256()
  private var received = 0
  private var filled: [(String, Tensor)] = []
  private var values: [Float] = []
  private var filledBytes = 0

  /// Accepts `stream` where it is what `expectation` says.
  /// - Throws: `StreamViolation`.
  init(_ stream: WireTensorStream, expectation: StreamExpectation) throws(StreamViolation) {
    try expectation.check(stream)
    layout = expectation.layout
    requiresFinite = expectation.requiresFinite
    sha256 = stream.sha256
    beginTensors()
  }

  /// Whether every byte is there.
  var isComplete: Bool { received == layout.byteCount }

  /// Takes the next chunk.
  /// - Throws: `StreamViolation`; the receiver is of no use after that.
  mutating func append(_ chunk: WireChunk) throws(StreamViolation) {
    let count = chunk.data.count
    guard chunk.offset == UInt64(received) else {
      throw StreamViolation(
        code: .wrongOffset,
        text: "a chunk starts at byte \(chunk.offset); byte \(received) was expected"
      )
    }
    guard count > 0 else { throw StreamViolation(code: .emptyChunk, text: "the chunk at byte \(received) is empty") }
    guard count <= Frame.maximumChunkLength else {
      throw StreamViolation(
        code: .tooLarge,
        text: "the chunk at byte \(received) has \(count) bytes; at most \(Frame.maximumChunkLength) are allowed"
      )
    }
    guard count <= layout.byteCount - received else {
      throw StreamViolation(
        code: .tooLarge,
        text: "the chunk at byte \(received) has \(count) bytes; the stream ends after \(layout.byteCount)"
      )
    }
    hash.update(data: chunk.data)
    chunk.data.withUnsafeBytes { fill($0) }
    received += count
  }

  /// The tensors, after the last chunk.
  /// - Throws: `StreamViolation` for bytes without the declared hash and for values that are not finite.
  func finish() throws(StreamViolation) -> TensorSet {
    let found = Data(hash.finalize())
    guard found == sha256 || (layout.entries.isEmpty && sha256.isEmpty) else {
      throw StreamViolation(
        code: .wrongHash,
        text: "the stream has SHA-256 \(found.hexadecimal); \(sha256.hexadecimal) was declared"
      )
    }
    if requiresFinite {
      for (name, tensor) in filled {
        guard let index = tensor.values.firstIndex(where: { !$0.isFinite }) else { continue }
        throw StreamViolation(
          code: .notFinite,
          text: "tensor '\(name)' holds \(tensor.values[index]) at index \(index); values must be finite"
        )
      }
    }
    do {
      return try TensorSet(filled)
    } catch {
      throw StreamViolation(code: .unexpectedTensor, text: "\(error)")
    }
  }

  /// Copies bytes into the tensors, across their borders. A chunk may end inside a value.
  private mutating func fill(_ bytes: UnsafeRawBufferPointer) {
    var rest = bytes
    while !rest.isEmpty, filled.count < layout.entries.count {
      let size = layout.entries[filled.count].count * MemoryLayout<Float>.size
      // Every byte of it is written before the tensor counts as filled.
      if values.isEmpty {
        values = [Float](unsafeUninitializedCapacity: size / MemoryLayout<Float>.size) { $1 = $0.count }
      }
      let count = min(rest.count, size - filledBytes)
      let start = filledBytes
      values.withUnsafeMutableBytes { target in
        UnsafeMutableRawBufferPointer(rebasing: target[start..<(start + count)])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: rest[..<count]))
      }
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      filledBytes += count
      if filledBytes == size { completeTensor() }
    }
  }

  private mutating func completeTensor() {
    let entry = layout.entries[filled.count]
    // The count is the layout's, so this cannot fail.
    if let tensor = try? Tensor(shape: entry.shape, values: values) { filled.append((entry.name, tensor)) }
    values = []
    filledBytes = 0
    beginTensors()
  }

  /// Passes over tensors without elements, which no byte announces.
  private mutating func beginTensors() {
    while filled.count < layout.entries.count, layout.entries[filled.count].count == 0 {
      let entry = layout.entries[filled.count]
      filled.append((entry.name, Tensor(zeros: entry.shape)))
    }
  }
}
