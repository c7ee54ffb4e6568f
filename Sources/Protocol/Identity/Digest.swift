import Crypto

/// SHA-256 of bytes in lower-case digits.
enum Digest {
  static func sha256(_ bytes: some Sequence<UInt8>) -> String { sha256Bytes(bytes).hexadecimal }

  static func sha256Bytes(_ bytes: some Sequence<UInt8>) -> [UInt8] { Array(SHA256.hash(data: Array(bytes))) }

  /// Whether two byte strings are the same, in a time that depends on their lengths alone.
  static func isSame(_ left: some Collection<UInt8>, _ right: some Collection<UInt8>) -> Bool {
    guard left.count == right.count else { return false }
    return zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
  }
}

extension Sequence<UInt8> {
  /// Two lower-case digits a byte.
  var hexadecimal: String { map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
}
