/// A text on its way through the pre-tokenizers: words, as ranges of scalars, and a text that some of the stages
/// rewrite.
struct SplitText {
  private(set) var text: NormalizedText
  /// Ascending, none empty, none overlapping; what lies between is dropped.
  private(set) var words: [Range<Int>]

  /// One word: the part of `text` in `range`.
  init(_ text: NormalizedText, _ range: Range<Int>) {
    self.text = text
    words = range.isEmpty ? [] : [range]
  }

  /// Replaces each word by what `cut` makes of it.
  mutating func cut(_ cut: (Range<Int>, inout [Range<Int>]) -> Void) {
    var result: [Range<Int>] = []
    result.reserveCapacity(words.count)
    for word in words { cut(word, &result) }
    words = result
  }

  /// Rewrites each word: `body` appends what it becomes. A word that becomes empty is dropped.
  mutating func rewrite(_ body: (NormalizedText, Range<Int>, inout NormalizedText) -> Void) {
    var result = NormalizedText()
    result.reserve(text.count + text.count / 8)
    var ranges: [Range<Int>] = []
    ranges.reserveCapacity(words.count)
    for word in words {
      let start = result.count
      body(text, word, &result)
      if start < result.count { ranges.append(start..<result.count) }
    }
    (text, words) = (result, ranges)
  }

  /// Cuts each word at what `matches` finds in it, as `behavior` says.
  mutating func split(
    _ behavior: SplitBehavior,
    isInverted: Bool = false,
    at matches: (UnsafeBufferPointer<UInt32>, Range<Int>, (Range<Int>) -> Void) -> Void
  ) {
    var parts: [SplitBehavior.Part] = []
    let text = text
    text.scalars.withUnsafeBufferPointer { scalars in
      cut { word, result in
        parts.removeAll(keepingCapacity: true)
        var done = word.lowerBound
        matches(scalars, word) { match in
          if done < match.lowerBound {
            parts.append(SplitBehavior.Part(range: done..<match.lowerBound, isMatch: isInverted))
          }
          parts.append(SplitBehavior.Part(range: match, isMatch: !isInverted))
          done = match.upperBound
        }
        if done < word.upperBound {
          parts.append(SplitBehavior.Part(range: done..<word.upperBound, isMatch: isInverted))
        }
        behavior.append(parts, to: &result)
      }
    }
  }

  /// Cuts each word at every scalar that `isMatch`.
  mutating func split(_ behavior: SplitBehavior, atScalars isMatch: (UInt32) -> Bool) {
    split(behavior) { scalars, word, found in
      for index in word where isMatch(scalars[index]) { found(index..<index + 1) }
    }
  }
}

/// What becomes of the matches that a text is cut at.
enum SplitBehavior: String, Sendable, CaseIterable {
  /// They are dropped.
  case removed = "Removed"
  /// Each is a word.
  case isolated = "Isolated"
  /// Each goes with what stands before it.
  case mergedWithPrevious = "MergedWithPrevious"
  /// Each goes with what stands behind it.
  case mergedWithNext = "MergedWithNext"
  /// Those in a row are one word.
  case contiguous = "Contiguous"

  /// A part of a word: a match, or what lies between two.
  struct Part {
    let range: Range<Int>
    let isMatch: Bool
  }

  /// Appends the words that the parts of a word make. Of matches in a row only the first (or last) is merged with the
  /// text beside it, as in the library.
  func append(_ parts: [Part], to words: inout [Range<Int>]) {
    let first = words.count
    var wasMatch = false
    switch self {
    case .isolated:
      for part in parts { words.append(part.range) }
    case .removed:
      for part in parts where !part.isMatch { words.append(part.range) }
    case .contiguous:
      for part in parts {
        if part.isMatch == wasMatch, words.count > first {
          words[words.count - 1] = words[words.count - 1].lowerBound..<part.range.upperBound
        } else {
          words.append(part.range)
        }
        wasMatch = part.isMatch
      }
    case .mergedWithPrevious:
      for part in parts {
        if part.isMatch, !wasMatch, words.count > first {
          words[words.count - 1] = words[words.count - 1].lowerBound..<part.range.upperBound
        } else {
          words.append(part.range)
        }
        wasMatch = part.isMatch
      }
    case .mergedWithNext:
      for part in parts.reversed() {
        if part.isMatch, !wasMatch, words.count > first {
          words[words.count - 1] = part.range.lowerBound..<words[words.count - 1].upperBound
        } else {
          words.append(part.range)
        }
        wasMatch = part.isMatch
      }
      words[first...].reverse()
    }
    if parts.contains(where: \.range.isEmpty) {
      let kept = words[first...].filter { !$0.isEmpty }
      words.replaceSubrange(first..., with: kept)
    }
  }
}
