/// The first stage of `tokenizer.json`: rewrites the text.
indirect enum Normalizer: Sendable {
  case bert(BertNormalizer)
  case form(UnicodeForm)
  case lowercase
  case stripAccents
  /// Takes white space away from the ends.
  case strip(left: Bool, right: Bool)
  /// Puts a text before, except before an empty text.
  case prepend([UInt32])
  case replace(Pattern, by: [UInt32])
  /// SentencePiece's rules, compiled into the file.
  case characterMap(CharacterMap)
  /// Drops control characters and makes spaces of some invisible ones.
  case nmt
  /// Writes the text in the byte alphabet.
  case byteLevel
  case sequence([Normalizer])

  func applied(to text: NormalizedText) -> NormalizedText {
    switch self {
    case .bert(let bert): bert.applied(to: text)
    case .form(let form): form.applied(to: text)
    case .lowercase: Self.lowercased(text)
    case .stripAccents: Self.dropping(.combiningMark, from: text)
    case .strip(let left, let right): Self.stripped(text, left: left, right: right)
    case .prepend(let prefix): text.prepended(prefix)
    case .replace(let pattern, let content): Self.replaced(text, pattern, by: content)
    case .characterMap(let map): map.applied(to: text)
    case .nmt: Self.cleanedForTranslation(text)
    case .byteLevel: Self.written(inBytes: text)
    case .sequence(let normalizers): normalizers.reduce(text) { $1.applied(to: $0) }
    }
  }

  /// How many times longer it can make a text at most, replacements alone regarded: a chain of them in a hostile file
  /// could fill the memory.
  var growth: Int {
    switch self {
    case .prepend(let prefix): prefix.count + 1
    case .replace(let pattern, let content): content.count + (pattern.matchesEmpty ? 1 : 0)
    case .characterMap(let map): map.longestText
    case .byteLevel: 4
    case .sequence(let parts): parts.reduce(1) { $0.multiplied(by: $1.growth) }
    case .bert, .form, .lowercase, .stripAccents, .strip, .nmt: 1
    }
  }

  private static func stripped(_ text: NormalizedText, left: Bool, right: Bool) -> NormalizedText {
    func isSpace(_ scalar: UInt32) -> Bool { ScalarClass.of(scalar).contains(.whitespace) }
    let start = left ? text.scalars.firstIndex { !isSpace($0) } ?? text.count : 0
    let end = right ? text.scalars.lastIndex { !isSpace($0) }.map { $0 + 1 } ?? 0 : text.count
    return text[start..<max(start, end)]
  }

  private static func replaced(_ text: NormalizedText, _ pattern: Pattern, by content: [UInt32]) -> NormalizedText {
    var matcher = PatternMatcher(pattern)
    var matches: [Range<Int>] = []
    text.scalars.withUnsafeBufferPointer { scalars in
      matcher.forEachMatch(in: scalars, 0..<scalars.count) { matches.append($0) }
    }
    return text.replacing(matches, by: content)
  }

  private static func written(inBytes text: NormalizedText) -> NormalizedText {
    var result = NormalizedText()
    result.reserve(text.count + text.count / 8)
    ByteAlphabet.append(text, 0..<text.count, to: &result)
    return result
  }

  /// `Nmt`: the characters that SentencePiece's rules for translation (nmt_nfkc) treat so.
  private static func cleanedForTranslation(_ text: NormalizedText) -> NormalizedText {
    text.rebuilt { scalar, start, end, into in
      switch scalar {
      case 0x1...0x8, 0xB, 0xE...0x1F, 0x7F, 0x8F, 0x9F: break
      case 0x9, 0xA, 0xC, 0xD, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD:
        into.append(0x20, start: start, end: end)
      default: into.append(scalar, start: start, end: end)
      }
    }
  }

  static func lowercased(_ text: NormalizedText) -> NormalizedText {
    text.rebuilt { scalar, start, end, into in
      if let image = ScalarMapping.lowercase.image(of: scalar) {
        for part in image { into.append(part, start: start, end: end) }
      } else {
        into.append(scalar, start: start, end: end)
      }
    }
  }

  static func dropping(_ dropped: ScalarClass, from text: NormalizedText) -> NormalizedText {
    text.rebuilt { scalar, start, end, into in
      if ScalarClass.of(scalar).isDisjoint(with: dropped) { into.append(scalar, start: start, end: end) }
    }
  }
}

/// `BertNormalizer`: cleaning, spaces around ideographs, accents, case, in this order.
struct BertNormalizer: Sendable {
  let cleansText: Bool
  let separatesChinese: Bool
  let stripsAccents: Bool
  let lowercases: Bool

  func applied(to text: NormalizedText) -> NormalizedText {
    var text = text
    if cleansText || separatesChinese {
      text = text.rebuilt { scalar, start, end, into in
        let kind = ScalarClass.of(scalar)
        if cleansText, kind.contains(.removedByCleaning) { return }
        if separatesChinese, kind.contains(.chinese) {
          into.append(0x20, start: start, end: end)
          into.append(scalar, start: start, end: end)
          into.append(0x20, start: start, end: end)
        } else {
          into.append(cleansText && kind.contains(.whitespace) ? 0x20 : scalar, start: start, end: end)
        }
      }
    }
    if stripsAccents { text = Normalizer.dropping(.nonspacingMark, from: UnicodeForm.nfd.applied(to: text)) }
    return lowercases ? Normalizer.lowercased(text) : text
  }
}

extension Int {
  /// The product with a number that is at least 1, or the greatest number where it does not fit.
  func multiplied(by growth: Int) -> Int {
    let (product, isTooLarge) = multipliedReportingOverflow(by: Swift.max(growth, 1))
    return isTooLarge ? .max : product
  }
}
