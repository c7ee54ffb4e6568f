/// A JSON value that keeps what Foundation's decoders lose: the order of an object's keys, keys that are only canonically
/// equivalent ("é" in one scalar or two are two keys), and where in the text something is wrong.
package indirect enum JSONNode: Sendable {
  case null
  case bool(Bool)
  /// A number without fraction or exponent that fits.
  case integer(Int)
  /// Every other number.
  case double(Double)
  case string(String)
  case array([JSONNode])
  /// Members in the order of the text. A repeated key is refused by the parser.
  case object([Member])

  /// One member of an object.
  package struct Member: Sendable {
    /// The key.
    package let key: String
    /// Its value.
    package let value: JSONNode
  }

  /// Parses one JSON text (RFC 8259) that must fill `bytes` but for white space.
  /// - Throws: `JSONSyntaxError` with the offset of the byte at fault.
  package init(parsing bytes: [UInt8]) throws(JSONSyntaxError) {
    var parser = JSONParser(bytes: bytes)
    self = try parser.parseDocument()
  }

  /// The member with this key, scalar for scalar; nil where there is none or this is no object.
  package subscript(key: String) -> JSONNode? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.key.utf8.elementsEqual(key.utf8) }?.value
  }

  /// What kind of value this is, in words.
  package var kind: String {
    switch self {
    case .null: "null"
    case .bool(let value): value ? "true" : "false"
    case .integer(let value): "the number \(value)"
    case .double(let value): "the number \(value)"
    case .string(let value): "the string \"\(value.prefix(40))\""
    case .array: "an array"
    case .object: "an object"
    }
  }
}

/// The text is not JSON.
package struct JSONSyntaxError: Error, Equatable, CustomStringConvertible {
  /// Offset of the byte at fault.
  package let offset: Int
  /// What was found and expected.
  package let reason: String

  package var description: String { "\(reason) at byte \(offset)" }
}

/// Recursive descent over bytes. Depth is bounded, so that no input exhausts the stack.
private struct JSONParser {
  static let maximumDepth = 64

  let bytes: [UInt8]
  var position = 0
  var depth = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func parseDocument() throws(JSONSyntaxError) -> JSONNode {
    let value = try parseValue()
    skipSpace()
    guard position == bytes.count else { throw failure("expected the end of the text") }
    return value
  }

  private func failure(_ expected: String) -> JSONSyntaxError {
    let found: String
    if position >= bytes.count {
      found = "the text ends"
    } else if bytes[position] >= 0x21, bytes[position] < 0x7F {
      found = "found '\(Character(Unicode.Scalar(bytes[position])))'"
    } else {
      found = "found byte 0x\(String(bytes[position], radix: 16))"
    }
    return JSONSyntaxError(offset: position, reason: "\(expected), \(found)")
  }

  private mutating func skipSpace() {
    while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) { position += 1 }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard position < bytes.count, bytes[position] == byte else { return false }
    position += 1
    return true
  }

  private mutating func parseValue() throws(JSONSyntaxError) -> JSONNode {
    skipSpace()
    guard position < bytes.count else { throw failure("expected a value") }
    switch bytes[position] {
    case UInt8(ascii: "{"): return try nested { (parser) throws(JSONSyntaxError) in try parser.parseObject() }
    case UInt8(ascii: "["): return try nested { (parser) throws(JSONSyntaxError) in try parser.parseArray() }
    case UInt8(ascii: "\""): return .string(try parseString())
    case UInt8(ascii: "t"): return try parseWord("true", .bool(true))
    case UInt8(ascii: "f"): return try parseWord("false", .bool(false))
    case UInt8(ascii: "n"): return try parseWord("null", .null)
    default: return try parseNumber()
    }
  }

  private mutating func nested(
    _ parse: (inout JSONParser) throws(JSONSyntaxError) -> JSONNode
  ) throws(JSONSyntaxError) -> JSONNode {
    guard depth < Self.maximumDepth else { throw failure("nested deeper than \(Self.maximumDepth) levels") }
    position += 1
    depth += 1
    defer { depth -= 1 }
    return try parse(&self)
  }

  private mutating func parseWord(_ word: String, _ value: JSONNode) throws(JSONSyntaxError) -> JSONNode {
    let end = position + word.utf8.count
    guard end <= bytes.count, bytes[position..<end].elementsEqual(word.utf8) else { throw failure("expected a value") }
    position = end
    return value
  }

  private mutating func parseArray() throws(JSONSyntaxError) -> JSONNode {
    var items: [JSONNode] = []
    skipSpace()
    if take(UInt8(ascii: "]")) { return .array(items) }
    while true {
      items.append(try parseValue())
      skipSpace()
      if take(UInt8(ascii: "]")) { return .array(items) }
      guard take(UInt8(ascii: ",")) else { throw failure("expected ',' or ']'") }
    }
  }

  private mutating func parseObject() throws(JSONSyntaxError) -> JSONNode {
    var members: [JSONNode.Member] = []
    var seen: Set<[UInt8]> = []
    skipSpace()
    if take(UInt8(ascii: "}")) { return .object(members) }
    while true {
      skipSpace()
      guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else { throw failure("expected a key") }
      let start = position
      let key = try parseString()
      guard seen.insert(Array(key.utf8)).inserted else {
        throw JSONSyntaxError(offset: start, reason: "the key \"\(key)\" occurs twice")
      }
      skipSpace()
      guard take(UInt8(ascii: ":")) else { throw failure("expected ':'") }
      members.append(JSONNode.Member(key: key, value: try parseValue()))
      skipSpace()
      if take(UInt8(ascii: "}")) { return .object(members) }
      guard take(UInt8(ascii: ",")) else { throw failure("expected ',' or '}'") }
    }
  }

  private mutating func skipDigits() -> Int {
    let first = position
    while position < bytes.count, bytes[position] &- 0x30 < 10 { position += 1 }
    return position - first
  }

  private mutating func parseNumber() throws(JSONSyntaxError) -> JSONNode {
    let start = position
    _ = take(UInt8(ascii: "-"))
    let leadingZero = position < bytes.count && bytes[position] == 0x30
    let whole = skipDigits()
    guard whole > 0 else { throw failure("expected a value") }
    guard !leadingZero || whole == 1 else { throw JSONSyntaxError(offset: start, reason: "a number starts with 0") }
    var isInteger = true
    if take(UInt8(ascii: ".")) {
      isInteger = false
      guard skipDigits() > 0 else { throw failure("expected a digit") }
    }
    if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
      isInteger = false
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      guard skipDigits() > 0 else { throw failure("expected a digit") }
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isInteger, let value = Int(text) { return .integer(value) }
    guard let value = Double(text), value.isFinite else {
      throw JSONSyntaxError(offset: start, reason: "the number \(text.prefix(40)) does not fit")
    }
    return .double(value)
  }

  private mutating func parseString() throws(JSONSyntaxError) -> String {
    position += 1
    let start = position
    while position < bytes.count, bytes[position] != UInt8(ascii: "\""), bytes[position] != UInt8(ascii: "\\"),
      bytes[position] >= 0x20
    {
      position += 1
    }
    if position < bytes.count, bytes[position] == UInt8(ascii: "\"") {
      defer { position += 1 }
      return try text(bytes[start..<position], at: start)
    }
    var content = Array(bytes[start..<position])
    while position < bytes.count {
      let byte = bytes[position]
      if byte == UInt8(ascii: "\"") {
        position += 1
        return try text(content[...], at: start)
      }
      guard byte >= 0x20 else { throw failure("a control character stands in a string") }
      position += 1
      if byte == UInt8(ascii: "\\") {
        content.append(contentsOf: try parseEscape().utf8)
      } else {
        content.append(byte)
      }
    }
    throw JSONSyntaxError(offset: start - 1, reason: "the string that starts here has no closing quote")
  }

  private func text(_ content: ArraySlice<UInt8>, at offset: Int) throws(JSONSyntaxError) -> String {
    guard let text = String(validating: content, as: UTF8.self) else {
      throw JSONSyntaxError(offset: offset, reason: "the string that starts here is not UTF-8")
    }
    return text
  }

  /// The scalar of the escape whose backslash was just read.
  private mutating func parseEscape() throws(JSONSyntaxError) -> String {
    guard position < bytes.count else { throw failure("expected an escape") }
    let byte = bytes[position]
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return String(Character(Unicode.Scalar(byte)))
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): break
    default:
      position -= 1
      throw failure("expected an escape")
    }
    let start = position - 2
    var unit = try parseHex()
    if (0xD800..<0xDC00).contains(unit), take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) {
      let low = try parseHex()
      if (0xDC00..<0xE000).contains(low) { unit = 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00) }
    }
    guard let scalar = Unicode.Scalar(unit) else {
      throw JSONSyntaxError(offset: start, reason: "the escape is half of a surrogate pair")
    }
    return String(Character(scalar))
  }

  private mutating func parseHex() throws(JSONSyntaxError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard position < bytes.count, let digit = Character(Unicode.Scalar(bytes[position])).hexDigitValue,
        bytes[position] < 0x80
      else { throw failure("expected four hexadecimal digits") }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    return value
  }
}
