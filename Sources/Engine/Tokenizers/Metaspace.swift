/// `Metaspace`: spaces become a visible mark, which starts the words (Kudo and Richardson 2018, "SentencePiece").
struct Metaspace: Sendable {
  /// Before which words the mark is put where it is missing.
  enum Prefix: String, Sendable, CaseIterable {
    case always
    /// Only before the word that starts the text.
    case first
    case never
  }

  let replacement: UInt32
  let prefix: Prefix
  let splits: Bool

  func apply(to split: inout SplitText) {
    split.rewrite { text, word, result in
      let first = word.lowerBound
      let isMarked = text.scalars[first] == 0x20 || text.scalars[first] == replacement
      if !isMarked, prefix == .always || prefix == .first && text.starts[first] == 0 {
        result.append(replacement, start: text.starts[first], end: text.ends[first])
      }
      for index in word {
        let scalar = text.scalars[index]
        result.append(scalar == 0x20 ? replacement : scalar, start: text.starts[index], end: text.ends[index])
      }
    }
    if splits { split.split(.mergedWithNext, atScalars: { $0 == replacement }) }
  }
}
