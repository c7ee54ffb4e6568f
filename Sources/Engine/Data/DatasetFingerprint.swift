import Crypto
import Foundation

/// Identifies a data set by its records: the same whatever their order, file format, tokenizer or model.
public enum DatasetFingerprint {
  /// SHA-256, in hexadecimal digits, over the sorted SHA-256 of all records. A record is its text, the second text of a
  /// pair and the name of its class or its number, or its messages; records that occur twice count twice.
  public static func of(_ dataset: Dataset) -> String {
    let digests = dataset.examples.map { example -> [UInt8] in
      var hash = SHA256()
      func absorb(_ text: String?) {
        // Lengths keep ("ab", "c") and ("a", "bc") apart; a missing text is not an empty one.
        let bytes = Array((text ?? "").utf8)
        withUnsafeBytes(of: UInt64(bytes.count).littleEndian) { hash.update(bufferPointer: $0) }
        hash.update(data: bytes)
        hash.update(data: [text == nil ? 0 : 1] as [UInt8])
      }
      absorb(example.text)
      absorb(example.pair)
      let name = dataset.labels.indices.contains(example.label) ? dataset.labels[example.label] : nil
      absorb(name ?? example.value.map { "\($0)" })
      return Array(hash.finalize())
    }
    var total = SHA256()
    for digest in digests.sorted(by: { $0.lexicographicallyPrecedes($1) }) { total.update(data: digest) }
    return total.finalize().map { String(format: "%02x", $0) }.joined()
  }
}
