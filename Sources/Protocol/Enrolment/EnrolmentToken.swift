import Foundation

/// A one-time right to a participant's certificate, as one word that is handed over safely.
///
/// The word is "fl1." and, in base64url: the SHA-256 of the authority's certificate (32 bytes), what names the token (8),
/// its secret (32), the participant's name and the address of the enrolment service (a length byte and text each), and
/// the first four bytes of the SHA-256 of all that, so that a word which lost a letter is told apart from a wrong one.
/// Whoever has the word before it is used can become that participant.
public struct EnrolmentToken: Sendable, Equatable {
  /// SHA-256 of the authority's certificate, 32 bytes: whom the new participant believes.
  let authority: [UInt8]
  /// Names the token; 8 bytes.
  let id: [UInt8]
  /// Proves it; 32 bytes.
  let secret: [UInt8]
  /// The participant that it is for.
  public let name: ParticipantName
  /// Where it can be used, as HOST:PORT; empty where it does not say.
  public let address: String

  static let prefix = "fl1."
  static let idLength = 8
  static let secretLength = 32
  private static let checkLength = 4
  private static let longestAddress = 255

  /// A new token; its parts come from the system's generator.
  /// - Throws: `IdentityError.invalidToken` for an address that does not fit.
  init(authority: [UInt8], name: ParticipantName, address: String) throws(IdentityError) {
    guard address.utf8.count <= Self.longestAddress else {
      throw .invalidToken("an address of \(address.utf8.count) bytes does not fit, at most \(Self.longestAddress)")
    }
    var generator = SystemRandomNumberGenerator()
    func draw(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) } }
    self.authority = authority
    id = draw(Self.idLength)
    secret = draw(Self.secretLength)
    self.name = name
    self.address = address
  }

  /// SHA-256 of the authority's certificate in lower-case digits.
  public var authorityFingerprint: String { authority.hexadecimal }

  /// The word.
  public var text: String {
    var bytes = authority + id + secret
    for part in [name.rawValue, address] { bytes += [UInt8(clamping: part.utf8.count)] + Array(part.utf8) }
    bytes += Digest.sha256Bytes(bytes).prefix(Self.checkLength)
    let base64 = Data(bytes).base64EncodedString()
    return Self.prefix
      + base64.replacingOccurrences(of: "+", with: "-").replacingOccurrences(of: "/", with: "_")
      .replacingOccurrences(of: "=", with: "")
  }

  /// Reads a word.
  /// - Throws: `IdentityError.invalidToken`, which does not repeat it.
  public init(_ text: String) throws(IdentityError) {
    let word = text.trimmingCharacters(in: .whitespacesAndNewlines)
    guard word.hasPrefix(Self.prefix) else { throw .invalidToken("it does not begin with \(Self.prefix)") }
    guard word.utf8.count <= 1024 else { throw .invalidToken("it is too long") }
    var base64 = word.dropFirst(Self.prefix.count).replacingOccurrences(of: "-", with: "+")
      .replacingOccurrences(of: "_", with: "/")
    base64 += String(repeating: "=", count: (4 - base64.count % 4) % 4)
    guard let data = Data(base64Encoded: base64), data.count > Self.checkLength else {
      throw .invalidToken("it is not in base64url")
    }
    let bytes = Array(data)
    guard
      bytes.suffix(Self.checkLength).elementsEqual(
        Digest.sha256Bytes(bytes.dropLast(Self.checkLength)).prefix(Self.checkLength)
      )
    else { throw .invalidToken("a letter is missing or wrong; copy all of it") }
    var rest = bytes.dropLast(Self.checkLength)
    func take(_ count: Int) throws(IdentityError) -> [UInt8] {
      guard rest.count >= count else { throw .invalidToken("it is too short") }
      defer { rest = rest.dropFirst(count) }
      return Array(rest.prefix(count))
    }
    authority = try take(32)
    id = try take(Self.idLength)
    secret = try take(Self.secretLength)
    name = try ParticipantName(String(decoding: try take(Int(try take(1)[0])), as: UTF8.self))
    guard let address = String(validating: try take(Int(try take(1)[0])), as: UTF8.self) else {
      throw .invalidToken("its address is no text")
    }
    self.address = address
    guard rest.isEmpty else { throw .invalidToken("something follows it") }
  }
}
