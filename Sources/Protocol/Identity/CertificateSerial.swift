import X509

/// The number of a certificate, unique within its authority: lower-case hexadecimal digits without leading zeros.
public struct CertificateSerial: Hashable, Sendable, Codable, CustomStringConvertible {
  /// The digits; an even number of them, at most 40.
  public let rawValue: String

  /// Reads digits as `fedlora ca list` and OpenSSL print them; colons and upper case are understood.
  /// - Throws: `IdentityError.invalidSerial`.
  public init(_ text: String) throws(IdentityError) {
    let digits = text.lowercased().filter { $0 != ":" }
    guard !digits.isEmpty, digits.utf8.count <= 42, digits.allSatisfy({ $0.isASCII && $0.isHexDigit }) else {
      throw .invalidSerial(text)
    }
    let stripped = digits.drop { $0 == "0" }
    guard (1...40).contains(stripped.utf8.count) else { throw .invalidSerial(text) }
    rawValue = stripped.utf8.count.isMultiple(of: 2) ? String(stripped) : "0" + stripped
  }

  init(_ number: Certificate.SerialNumber) { self.init(bytes: number.bytes) }

  /// - Parameter bytes: the number, most significant byte first.
  init(bytes: some Sequence<UInt8>) { rawValue = Array(bytes.drop { $0 == 0 }).hexadecimal }

  /// Most significant byte first, without leading zeros.
  var bytes: [UInt8] {
    var result: [UInt8] = []
    var rest = Substring(rawValue)
    while rest.count >= 2 {
      result.append(UInt8(rest.prefix(2), radix: 16) ?? 0)
      rest = rest.dropFirst(2)
    }
    return result
  }

  /// Reads the digits as one string.
  public init(from decoder: any Decoder) throws {
    try self.init(decoder.singleValueContainer().decode(String.self))
  }

  /// Writes the digits as one string.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(rawValue)
  }

  /// The digits.
  public var description: String { rawValue }
}
