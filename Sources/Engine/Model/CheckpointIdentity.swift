import Crypto
import FedLoRACheckpoint
import Foundation

/// What tells one checkpoint from another, formed when it is first asked for.
///
/// `@unchecked Sendable`: the bytes are mapped read-only, by files that it holds.
struct CheckpointIdentity: @unchecked Sendable {
  /// Number of values over all tensors.
  let parameterCount: Int

  private let tensors: [(name: String, entry: SafetensorsEntry, file: SafetensorsFile, bytes: UnsafeRawBufferPointer)]
  private var known: [UInt8]?

  /// Takes all tensors of a checkpoint, also those that no model reads.
  /// - Throws: `SafetensorsError` where a tensor's bytes cannot be had.
  init(_ checkpoint: CheckpointFolder) throws {
    tensors = try checkpoint.names.compactMap { name in
      guard let file = checkpoint.file(holding: name), let entry = file.entry(name) else { return nil }
      return (name, entry, file, try file.bytes(of: name))
    }
    parameterCount = tensors.reduce(0) { $0 + (Tensor.count(of: $1.entry.shape) ?? 0) }
  }

  /// SHA-256 over names, types, shapes and bytes in name order.
  mutating func fingerprint() -> [UInt8] {
    if let known { return known }
    var hash = SHA256()
    for tensor in tensors {
      hash.update(data: Data("\(tensor.name)\n\(tensor.entry.type.rawValue)\n\(tensor.entry.shape)\n".utf8))
      hash.update(bufferPointer: tensor.bytes)
      // Most of it is not needed soon, or not as it is in the file.
      tensor.file.release(tensor.name)
    }
    let formed = Array(hash.finalize())
    known = formed
    return formed
  }
}
