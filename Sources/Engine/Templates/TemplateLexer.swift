/// Cuts a template into text and tokens, with Jinja's treatment of white space under `trim_blocks` and `lstrip_blocks`:
/// the first newline behind a block goes, and so do blanks before a block that begins its line; `-` takes all white
/// space on its side, `+` keeps it.
struct TemplateLexer {
  private let source: [Unicode.Scalar]
  private var position = 0
  /// Start of the line that `placed` counts to, and its number.
  private var line = (start: 0, number: 1, counted: 0)
  private var tokens: [TemplateToken] = []

  private init(_ text: String) {
    // As Jinja does it: newlines of all kinds become one kind, and one at the very end goes.
    var scalars: [Unicode.Scalar] = []
    var last: Unicode.Scalar?
    for scalar in text.unicodeScalars {
      if scalar == "\n", last == "\r" {
        last = scalar
        continue
      }
      scalars.append(scalar == "\r" ? "\n" : scalar)
      last = scalar
    }
    if scalars.last == "\n" { scalars.removeLast() }
    source = scalars
  }

  static func tokens(of text: String) throws(TemplateError) -> [TemplateToken] {
    var lexer = TemplateLexer(text)
    try lexer.run()
    return lexer.tokens
  }

  // MARK: Text and tags

  private mutating func run() throws(TemplateError) {
    var startsLine = true
    while position < source.count {
      let start = position
      while position < source.count, !isTag(position) { position += 1 }
      var text = source[start..<position]
      guard position < source.count else {
        append(text, at: start)
        break
      }
      let tag = source[position + 1]
      let sign = position + 2 < source.count ? source[position + 2] : " "
      if sign == "-" {
        while let last = text.last, last.isTemplateSpace { text.removeLast() }
      } else if sign != "+", tag != "{" {
        // Blanks between the line's start and the block.
        let lineStart = text.lastIndex(of: "\n").map { $0 + 1 } ?? text.startIndex
        let isLineStart = lineStart > text.startIndex || startsLine
        if isLineStart, text[lineStart...].allSatisfy(\.isTemplateSpace) { text = text[..<lineStart] }
      }
      append(text, at: start)
      let opening = position
      position += sign == "-" || sign == "+" ? 3 : 2
      if tag == "#" {
        try skipComment(from: opening)
      } else {
        add(tag == "{" ? .variableBegin : .blockBegin, at: opening)
        try lexTag(isBlock: tag == "%")
      }
      startsLine = source[position - 1] == "\n"
    }
    add(.end, at: source.count)
  }

  private func isTag(_ place: Int) -> Bool {
    source[place] == "{" && place + 1 < source.count && ["{", "%", "#"].contains(source[place + 1])
  }

  private mutating func append(_ text: ArraySlice<Unicode.Scalar>, at start: Int) {
    if text.isEmpty { return }
    add(.text(String(String.UnicodeScalarView(text))), at: start)
  }

  private mutating func skipComment(from opening: Int) throws(TemplateError) {
    let content = position
    while position + 1 < source.count, source[position] != "#" || source[position + 1] != "}" { position += 1 }
    guard position + 1 < source.count else {
      throw TemplateError(.syntax, "the comment that begins here has no end", at: place(opening))
    }
    let sign: Unicode.Scalar = position > content ? source[position - 1] : " "
    position += 2
    if sign == "-" { skipSpace() } else if sign != "+" { skipNewline() }
  }

  private mutating func skipSpace() {
    while position < source.count, source[position].isTemplateSpace { position += 1 }
  }

  private mutating func skipNewline() { if position < source.count, source[position] == "\n" { position += 1 } }

  // MARK: Inside a tag

  private static let symbols = [
    "==", "!=", "<=", ">=", "//", "**", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", "<", ">", "=", ".",
    ":",
    "|", ",", ";",
  ].map { (text: $0, scalars: Array($0.unicodeScalars)) }

  private mutating func lexTag(isBlock: Bool) throws(TemplateError) {
    let closing: [Unicode.Scalar] = isBlock ? ["%", "}"] : ["}", "}"]
    let opening = position
    // Brackets that are open: inside them "}}" and "%}" are no ends.
    var open: [Unicode.Scalar] = []
    while true {
      skipSpace()
      guard position < source.count else {
        throw TemplateError(.syntax, "the tag that begins here has no end", at: place(max(0, opening - 2)))
      }
      if open.isEmpty {
        let hasSign = source[position] == "-" || (isBlock && source[position] == "+")
        let start = hasSign ? position + 1 : position
        if starts(closing, at: start) {
          let sign = source[position]
          add(isBlock ? .blockEnd : .variableEnd, at: start)
          position = start + 2
          if sign == "-" { skipSpace() } else if isBlock, sign != "+" { skipNewline() }
          return
        }
      }
      try lexToken(&open)
    }
  }

  private func starts(_ text: [Unicode.Scalar], at place: Int) -> Bool {
    place + text.count <= source.count && source[place..<place + text.count].elementsEqual(text)
  }

  private mutating func lexToken(_ open: inout [Unicode.Scalar]) throws(TemplateError) {
    let start = position
    let scalar = source[position]
    if scalar.isTemplateDigit { return try lexNumber() }
    if scalar == "'" || scalar == "\"" { return try lexString() }
    if scalar == "_" || scalar.properties.isAlphabetic {
      while position < source.count,
        source[position] == "_" || source[position].properties.isAlphabetic || source[position].isTemplateDigit
      {
        position += 1
      }
      let name = source[start..<position]
      guard name.allSatisfy(\.isASCII) else {
        throw TemplateError(
          .unsupported,
          "the name '\(String(String.UnicodeScalarView(name)))' is not ASCII",
          at: place(start)
        )
      }
      return add(.name(String(String.UnicodeScalarView(name))), at: start)
    }
    guard let symbol = Self.symbols.first(where: { starts($0.scalars, at: position) }) else {
      throw TemplateError(.syntax, "'\(scalar)' has no meaning in a tag", at: place(start))
    }
    switch symbol.text {
    case "(", "[", "{": open.append(scalar)
    case ")", "]", "}":
      let expected: Unicode.Scalar = scalar == ")" ? "(" : scalar == "]" ? "[" : "{"
      guard open.popLast() == expected else {
        throw TemplateError(.syntax, "'\(scalar)' closes nothing that is open", at: place(start))
      }
    default: break
    }
    position += symbol.scalars.count
    add(.symbol(symbol.text), at: start)
  }

  private mutating func lexNumber() throws(TemplateError) {
    let start = position
    func digits() { while position < source.count, source[position].isTemplateDigit { position += 1 } }
    func isDigit(_ place: Int) -> Bool { place < source.count && source[place].isTemplateDigit }
    digits()
    var isDouble = false
    // Behind a dot "1.2" would be two steps into a list.
    let followsDot = start > 0 && source[start - 1] == "."
    if !followsDot, position < source.count, source[position] == ".", isDigit(position + 1) {
      isDouble = true
      position += 1
      digits()
    }
    if !followsDot, position < source.count, source[position] == "e" || source[position] == "E" {
      let signed = position + 1 < source.count && ["+", "-"].contains(source[position + 1])
      if isDigit(position + (signed ? 2 : 1)) {
        isDouble = true
        position += signed ? 2 : 1
        digits()
      }
    }
    let text = String(String.UnicodeScalarView(source[start..<position]))
    let isName = position < source.count && (source[position] == "_" || source[position].properties.isAlphabetic)
    if isDouble, !isName, let value = Double(text), value.isFinite { return add(.double(value), at: start) }
    let isPlain = text == "0" || text.utf8.first != UInt8(ascii: "0")
    guard !isDouble, !isName, isPlain, let value = Int(text) else {
      throw TemplateError(
        .unsupported,
        "the number '\(text.prefix(30))' is not a plain decimal one that fits",
        at: place(start)
      )
    }
    add(.integer(value), at: start)
  }

  private mutating func lexString() throws(TemplateError) {
    let start = position
    let quote = source[position]
    var text = String.UnicodeScalarView()
    position += 1
    while position < source.count {
      let scalar = source[position]
      position += 1
      if scalar == quote { return add(.string(String(text)), at: start) }
      guard scalar == "\\" else {
        text.append(scalar)
        continue
      }
      guard position < source.count else { break }
      let escape = source[position]
      position += 1
      switch escape {
      case "n": text.append("\n")
      case "t": text.append("\t")
      case "r": text.append("\r")
      case "a": text.append("\u{7}")
      case "b": text.append("\u{8}")
      case "f": text.append("\u{C}")
      case "v": text.append("\u{B}")
      case "\\", "'", "\"": text.append(escape)
      case "\n": break
      case "x": text.append(try hexadecimal(2, start))
      case "u": text.append(try hexadecimal(4, start))
      case "U": text.append(try hexadecimal(8, start))
      case "N", "0"..."7":
        throw TemplateError(.unsupported, "the escape '\\\(escape)'", at: place(position - 2))
      default:
        // Python keeps what it does not know.
        text.append("\\")
        text.append(escape)
      }
    }
    throw TemplateError(.syntax, "the string that begins here has no end", at: place(start))
  }

  private mutating func hexadecimal(_ count: Int, _ start: Int) throws(TemplateError) -> Unicode.Scalar {
    let end = min(position + count, source.count)
    let digits = String(String.UnicodeScalarView(source[position..<end]))
    guard digits.utf8.count == count, let value = UInt32(digits, radix: 16), digits.utf8.first != UInt8(ascii: "+"),
      let scalar = Unicode.Scalar(value)
    else { throw TemplateError(.syntax, "a string holds an escape that is no character", at: place(start)) }
    position = end
    return scalar
  }

  // MARK: Places

  private mutating func add(_ kind: TemplateToken.Kind, at position: Int) {
    tokens.append(TemplateToken(kind: kind, place: place(position)))
  }

  /// Tokens come in order, so lines are counted once.
  private mutating func place(_ position: Int) -> TemplatePlace {
    if position < line.counted { line = (0, 1, 0) }
    while line.counted < position {
      if source[line.counted] == "\n" { line = (line.counted + 1, line.number + 1, line.counted) }
      line.counted += 1
    }
    return TemplatePlace(line: line.number, column: position - line.start + 1)
  }
}

extension Unicode.Scalar {
  /// What Python's `str.isspace` takes as white space.
  var isTemplateSpace: Bool { properties.isWhitespace || (0x1C...0x1F).contains(value) }
  /// 0 to 9.
  var isTemplateDigit: Bool { value &- 0x30 < 10 }
}
