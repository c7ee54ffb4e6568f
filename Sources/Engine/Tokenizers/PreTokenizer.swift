/// The second stage of `tokenizer.json`: cuts the normalised text into words.
indirect enum PreTokenizer: Sendable {
  /// White space separates; each punctuation mark is a word.
  case bert
  /// White space separates.
  case whitespaceSplit
  /// Runs of word characters, and runs of what is neither word character nor space.
  case whitespace
  case punctuation(SplitBehavior)
  /// Numbers are words of their own, digit by digit or as they stand.
  case digits(individually: Bool)
  /// One character separates.
  case delimiter(UInt32)
  case split(Pattern, SplitBehavior, isInverted: Bool)
  case byteLevel(ByteLevel)
  case metaspace(Metaspace)
  case sequence([PreTokenizer])

  func apply(to text: inout SplitText) {
    switch self {
    case .bert:
      Self.cut(&text) { kind in
        kind.contains(.whitespace) ? .gap : kind.contains(.punctuation) ? .alone : .run(0)
      }
    case .whitespaceSplit: Self.cut(&text) { $0.contains(.whitespace) ? .gap : .run(0) }
    case .whitespace:
      Self.cut(&text) { $0.contains(.whitespace) ? .gap : $0.contains(.word) ? .run(0) : .run(1) }
    case .punctuation(let behavior): text.split(behavior, atScalars: { ScalarClass.of($0).contains(.punctuation) })
    case .digits(let individually):
      text.split(individually ? .isolated : .contiguous, atScalars: { ScalarClass.of($0).contains(.numeric) })
    case .delimiter(let delimiter): text.split(.removed, atScalars: { $0 == delimiter })
    case .split(let pattern, let behavior, let isInverted):
      var matcher = PatternMatcher(pattern)
      text.split(behavior, isInverted: isInverted) { matcher.forEachMatch(in: $0, $1, $2) }
    case .byteLevel(let byteLevel): byteLevel.apply(to: &text)
    case .metaspace(let metaspace): metaspace.apply(to: &text)
    case .sequence(let parts): for part in parts { part.apply(to: &text) }
    }
  }

  /// How many times longer it can make a text at most.
  var growth: Int {
    switch self {
    case .byteLevel: 4
    case .sequence(let parts): parts.reduce(1) { $0.multiplied(by: $1.growth) }
    default: 1
    }
  }

  private enum Part: Equatable {
    case gap
    case alone
    case run(Int)
  }

  private static func cut(_ text: inout SplitText, _ part: (ScalarClass) -> Part) {
    let scalars = text.text.scalars
    text.cut { range, words in
      var start = range.lowerBound
      var current = Part.gap
      for index in range {
        let next = part(ScalarClass.of(scalars[index]))
        if next == current, next != .alone { continue }
        if current != .gap { words.append(start..<index) }
        current = next
        start = index
      }
      if current != .gap, start < range.upperBound { words.append(start..<range.upperBound) }
    }
  }
}
