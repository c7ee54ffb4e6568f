/// The second stage of `tokenizer.json`: cuts the normalised text into words.
indirect enum PreTokenizer: Sendable {
  /// White space separates; each punctuation mark is a word.
  case bert
  /// White space separates.
  case whitespaceSplit
  /// Runs of word characters, and runs of what is neither word character nor space.
  case whitespace
  /// Each punctuation mark is a word; nothing is dropped.
  case punctuation
  case sequence([PreTokenizer])

  /// The words of `range`, as ranges of scalars.
  func words(of text: NormalizedText, in range: Range<Int>) -> [Range<Int>] {
    switch self {
    case .bert:
      return Self.split(text, range) { kind in
        kind.contains(.whitespace) ? .gap : kind.contains(.punctuation) ? .alone : .run(0)
      }
    case .whitespaceSplit:
      return Self.split(text, range) { $0.contains(.whitespace) ? .gap : .run(0) }
    case .whitespace:
      return Self.split(text, range) { kind in
        kind.contains(.whitespace) ? .gap : kind.contains(.word) ? .run(0) : .run(1)
      }
    case .punctuation:
      return Self.split(text, range) { $0.contains(.punctuation) ? .alone : .run(0) }
    case .sequence(let parts):
      return parts.reduce([range]) { words, part in words.flatMap { part.words(of: text, in: $0) } }
    }
  }

  private enum Part: Equatable {
    case gap
    case alone
    case run(Int)
  }

  private static func split(_ text: NormalizedText, _ range: Range<Int>, _ part: (ScalarClass) -> Part) -> [Range<Int>]
  {
    var words: [Range<Int>] = []
    var start = range.lowerBound
    var current = Part.gap
    for index in range {
      let next = part(ScalarClass.of(text.scalars[index]))
      if next == current, next != .alone { continue }
      if current != .gap { words.append(start..<index) }
      current = next
      start = index
    }
    if current != .gap, start < range.upperBound { words.append(start..<range.upperBound) }
    return words
  }
}
