/// Tokens that are found in the text before the model sees it, special ones among them.
struct AddedTokens: Sendable {
  /// One of them, with the flags of `tokenizer.json`.
  struct Token: Sendable {
    let id: Int32
    let content: String
    /// Is left out when decoding skips special tokens.
    let isSpecial: Bool
    /// Counts only where no word character touches it.
    let isSingleWord: Bool
    /// Takes the white space before it.
    let stripsLeft: Bool
    /// Takes the white space after it.
    let stripsRight: Bool
    /// Is looked for in the normalised text rather than in the text as given.
    let isNormalized: Bool
  }

  let tokens: [Token]
  /// Ids that decoding skips on request.
  let special: Set<Int32>
  private var raw = TokenTrie()
  private var normalized = TokenTrie()
  /// Whether some token is looked for in the normalised text.
  private(set) var searchesNormalized = false
  /// First bytes of the tokens that are looked for in the text as given.
  private(set) var firstBytes = [Bool](repeating: false, count: 256)

  init(_ tokens: [Token], normalizer: Normalizer?) {
    self.tokens = tokens
    special = Set(tokens.filter(\.isSpecial).map(\.id))
    for (index, token) in tokens.enumerated() {
      let text = NormalizedText(token.content.unicodeScalars.lazy.map(\.value), startingAt: 0)
      if token.isNormalized {
        let scalars = (normalizer?.applied(to: text) ?? text).scalars
        if scalars.isEmpty { continue }
        normalized.insert(scalars, token: Int32(index))
        searchesNormalized = true
      } else if let first = token.content.utf8.first {
        raw.insert(text.scalars, token: Int32(index))
        firstBytes[Int(first)] = true
      }
    }
  }

  /// A part of a text: one added token, or what lies between.
  struct Part {
    let token: Token?
    let range: Range<Int>
  }

  /// Cuts `scalars` at the tokens that are looked for in this kind of text: leftmost first, the longest of those.
  func parts(of scalars: [UInt32], normalized isNormalized: Bool) -> [Part] {
    let trie = isNormalized ? normalized : raw
    var parts: [Part] = []
    var done = 0
    var index = 0
    while index < scalars.count {
      guard let match = scalars.withUnsafeBufferPointer({ trie.longestMatch(in: $0, from: index) }) else {
        index += 1
        continue
      }
      let token = tokens[Int(match.token)]
      var (start, end) = (index, match.end)
      index = match.end
      if token.isSingleWord {
        let touchesLeft = start > 0 && ScalarClass.of(scalars[start - 1]).contains(.word)
        let touchesRight = end < scalars.count && ScalarClass.of(scalars[end]).contains(.word)
        if touchesLeft || touchesRight { continue }
      }
      if token.stripsLeft {
        while start > done, ScalarClass.of(scalars[start - 1]).contains(.whitespace) { start -= 1 }
      }
      if token.stripsRight {
        while end < scalars.count, ScalarClass.of(scalars[end]).contains(.whitespace) { end += 1 }
      }
      if done < start { parts.append(Part(token: nil, range: done..<start)) }
      parts.append(Part(token: token, range: start..<end))
      done = end
      index = max(index, end)
    }
    if done < scalars.count { parts.append(Part(token: nil, range: done..<scalars.count)) }
    return parts
  }
}
