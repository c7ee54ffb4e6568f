import Foundation

/// The last stage of `tokenizer.json`: makes text of tokens.
indirect enum TokenDecoder: Sendable {
  /// Joins by a space.
  case spaced
  /// Joins continuing pieces to the word before; with clean-up no space before punctuation and English contractions.
  case wordPiece(prefix: String, cleansUp: Bool)
  /// Reads the byte alphabet.
  case byteLevel
  /// Reads tokens such as `<0x0A>` as bytes.
  case byteFallback
  /// Makes spaces of the mark; with `dropsFirst` none in the first token.
  case metaspace(mark: Unicode.Scalar, dropsFirst: Bool)
  /// Makes one token of all.
  case fuse
  /// Takes up to some of one character away from the ends of each token.
  case strip(Unicode.Scalar, start: Int, stop: Int)
  case replace(Pattern, by: String)
  /// Makes a space of the suffix that ends a word, except in the last token.
  case bytePair(suffix: String)
  case sequence([TokenDecoder])

  /// How many times longer it can make the tokens at most, replacements alone regarded.
  var growth: Int {
    switch self {
    case .replace(let pattern, let content): content.unicodeScalars.count + (pattern.matchesEmpty ? 1 : 0)
    case .sequence(let parts): parts.reduce(1) { $0.multiplied(by: $1.growth) }
    default: 1
    }
  }

  func text(of tokens: [String]) -> String {
    if case .spaced = self { return tokens.joined(separator: " ") }
    return Self.joined(decoded(tokens))
  }

  /// Joins scalar for scalar: `joined` may be asked to compare characters across a seam.
  private static func joined(_ tokens: [String]) -> String {
    var text = String.UnicodeScalarView()
    for token in tokens { text.append(contentsOf: token.unicodeScalars) }
    return String(text)
  }

  private func decoded(_ tokens: [String]) -> [String] {
    switch self {
    case .spaced: tokens
    case .wordPiece(let prefix, let cleansUp): Self.words(tokens, prefix, cleansUp)
    case .byteLevel: [Self.bytes(tokens)]
    case .byteFallback: Self.withFallback(tokens)
    case .metaspace(let mark, let dropsFirst):
      tokens.enumerated().map { index, token in
        String(
          String.UnicodeScalarView(
            token.unicodeScalars.compactMap { $0 != mark ? $0 : index == 0 && dropsFirst ? nil : " " }
          )
        )
      }
    case .fuse: [Self.joined(tokens)]
    case .strip(let scalar, let start, let stop): tokens.map { Self.stripped($0, scalar, start, stop) }
    case .replace(let pattern, let content): tokens.map { Self.replaced($0, pattern, content) }
    case .bytePair(let suffix):
      tokens.enumerated().map { index, token in
        token.replacingOccurrences(of: suffix, with: index == tokens.count - 1 ? "" : " ", options: .literal)
      }
    case .sequence(let parts): parts.reduce(tokens) { $1.decoded($0) }
    }
  }

  // MARK: WordPiece

  private static func words(_ tokens: [String], _ prefix: String, _ cleansUp: Bool) -> [String] {
    tokens.enumerated().map { index, token in
      var part = token
      if index > 0 {
        if token.utf8.starts(with: prefix.utf8) {
          part = String(Substring(token.utf8.dropFirst(prefix.utf8.count)))
        } else {
          part = " " + token
        }
      }
      return cleansUp ? cleaned(part) : part
    }
  }

  private static let replacements: [(String, String)] = [
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
  ]

  private static func cleaned(_ part: String) -> String {
    guard part.utf8.contains(0x20) else { return part }
    return replacements.reduce(part) { text, pair in
      text.replacingOccurrences(of: pair.0, with: pair.1, options: .literal)
    }
  }

  // MARK: Bytes

  /// All tokens as one text; a token with a character outside the alphabet stands for itself.
  private static func bytes(_ tokens: [String]) -> String {
    var bytes: [UInt8] = []
    for token in tokens {
      let first = bytes.count
      for scalar in token.unicodeScalars {
        guard let byte = ByteAlphabet.byte(of: scalar.value) else {
          bytes.removeLast(bytes.count - first)
          bytes += token.utf8
          break
        }
        bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func withFallback(_ tokens: [String]) -> [String] {
    var result: [String] = []
    var bytes: [UInt8] = []
    func flush() {
      if bytes.isEmpty { return }
      if let text = String(validating: bytes, as: UTF8.self) {
        result.append(text)
      } else {
        result += repeatElement("\u{FFFD}", count: bytes.count)
      }
      bytes.removeAll()
    }
    for token in tokens {
      let text = Array(token.utf8)
      if text.count == 6, text.starts(with: "<0x".utf8), text[5] == UInt8(ascii: ">"),
        let byte = UInt8(String(decoding: text[3..<5], as: UTF8.self), radix: 16)
      {
        bytes.append(byte)
      } else {
        flush()
        result.append(token)
      }
    }
    flush()
    return result
  }

  // MARK: Characters

  private static func stripped(_ token: String, _ scalar: Unicode.Scalar, _ start: Int, _ stop: Int) -> String {
    var rest = token.unicodeScalars[...]
    let leading = rest.prefix { $0 == scalar }.count
    rest.removeFirst(min(leading, start))
    let trailing = rest.reversed().prefix { $0 == scalar }.count
    rest.removeLast(min(trailing, stop))
    return String(rest)
  }

  private static func replaced(_ token: String, _ pattern: Pattern, _ content: String) -> String {
    let scalars = token.unicodeScalars.map(\.value)
    var matcher = PatternMatcher(pattern)
    var result = String.UnicodeScalarView()
    var done = 0
    func copy(to end: Int) {
      result.append(contentsOf: scalars[done..<end].lazy.compactMap(Unicode.Scalar.init))
      done = end
    }
    scalars.withUnsafeBufferPointer { pointer in
      if pointer.isEmpty { return }
      matcher.forEachMatch(in: pointer, 0..<pointer.count) { match in
        copy(to: match.lowerBound)
        result.append(contentsOf: content.unicodeScalars)
        done = match.upperBound
      }
    }
    copy(to: scalars.count)
    return String(result)
  }
}
