/// From text to tokens: added tokens, then normalizer, pre-tokenizer and model on what lies between.
extension Tokenizer {
  /// Appends the tokens of a text, special ones left out.
  func tokenize(_ text: String, into sequence: inout TokenSequence) {
    var text = text
    let isDone = text.withUTF8 { bytes in tokenizePlainASCII(bytes, into: &sequence) }
    if isDone { return }
    let scalars = text.unicodeScalars.map(\.value)
    for part in added.parts(of: scalars, normalized: false) {
      if let token = part.token {
        sequence.appendFound(token.id, part.range, text: string(scalars[part.range]))
        continue
      }
      let piece = NormalizedText(scalars[part.range], startingAt: part.range.lowerBound)
      let normalized = normalizer?.applied(to: piece) ?? piece
      guard added.searchesNormalized else {
        tokenizeWords(of: normalized, in: 0..<normalized.count, into: &sequence)
        continue
      }
      for inner in added.parts(of: normalized.scalars, normalized: true) {
        if let token = inner.token {
          sequence.appendFound(token.id, normalized.origin(of: inner.range), text: normalized.string(inner.range))
        } else {
          tokenizeWords(of: normalized, in: inner.range, into: &sequence)
        }
      }
    }
  }

  private func tokenizeWords(of text: NormalizedText, in range: Range<Int>, into sequence: inout TokenSequence) {
    var split = SplitText(text, range)
    preTokenizer?.apply(to: &split)
    let text = split.text
    let shownAsFound = model.shownAsFound
    var pieces: [TokenPiece] = []
    text.scalars.withUnsafeBufferPointer { scalars in
      for word in split.words {
        pieces.removeAll(keepingCapacity: true)
        model.tokenize(UnsafeBufferPointer(rebasing: scalars[word]), into: &pieces)
        for piece in pieces {
          guard sequence.keepsText else {
            sequence.ids.append(piece.id)
            continue
          }
          let place = word.lowerBound + piece.range.lowerBound..<word.lowerBound + piece.range.upperBound
          if piece.id == shownAsFound {
            sequence.appendFound(piece.id, text.origin(of: place), text: text.string(place))
          } else {
            sequence.append(piece.id, text.origin(of: place))
          }
        }
      }
    }
  }

  /// The straight road for BERT's normalizer and pre-tokenizer over ASCII text that holds no added token and nothing that
  /// cleaning drops: one pass, no intermediate text. Positions in bytes and in scalars are the same here.
  /// - Returns: whether the text was of this kind; if not, nothing was appended.
  private func tokenizePlainASCII(_ bytes: UnsafeBufferPointer<UInt8>, into sequence: inout TokenSequence) -> Bool {
    guard case .bert(let bert)? = normalizer, case .bert? = preTokenizer, !added.searchesNormalized else {
      return false
    }
    let isPlain = ScalarClass.table.withUnsafeBufferPointer { classes in
      added.firstBytes.withUnsafeBufferPointer { first in
        bytes.allSatisfy { byte in
          byte < 0x80 && !first[Int(byte)]
            && ScalarClass(rawValue: classes[Int(byte)]).isDisjoint(with: .removedByCleaning)
        }
      }
    }
    guard isPlain else { return false }
    sequence.reserve(bytes.count / 4)
    var pieces: [TokenPiece] = []
    pieces.reserveCapacity(32)
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: max(bytes.count, 1)) { scalars in
      for index in bytes.indices {
        let byte = bytes[index]
        let isUpper = bert.lowercases && byte &- 0x41 < 26
        scalars.initializeElement(at: index, to: UInt32(isUpper ? byte | 0x20 : byte))
      }
      let scalars = UnsafeBufferPointer(rebasing: UnsafeBufferPointer(scalars)[..<bytes.count])
      ScalarClass.table.withUnsafeBufferPointer { classes in
        var index = 0
        while index < bytes.count {
          let kind = ScalarClass(rawValue: classes[Int(bytes[index])])
          let start = index
          index += 1
          if kind.contains(.whitespace) { continue }
          if !kind.contains(.punctuation) {
            while index < bytes.count,
              ScalarClass(rawValue: classes[Int(bytes[index])]).isDisjoint(with: [.whitespace, .punctuation])
            {
              index += 1
            }
          }
          pieces.removeAll(keepingCapacity: true)
          model.tokenize(UnsafeBufferPointer(rebasing: scalars[start..<index]), into: &pieces)
          if sequence.keepsText {
            for piece in pieces {
              sequence.append(piece.id, start + piece.range.lowerBound..<start + piece.range.upperBound)
            }
          } else {
            for piece in pieces { sequence.ids.append(piece.id) }
          }
        }
      }
    }
    return true
  }

  private func string(_ scalars: ArraySlice<UInt32>) -> String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars.compactMap(Unicode.Scalar.init))
    return String(view)
  }
}

/// Tokens of one text before special ones are put around. Spans and texts are kept only on request.
struct TokenSequence {
  let keepsText: Bool
  var ids: [Int32] = []
  private(set) var spans: [Range<Int>] = []
  /// What stood in the text, for added tokens and unknown pieces.
  private(set) var foundTexts: [Int: String] = [:]

  init(keepsText: Bool) { self.keepsText = keepsText }

  mutating func reserve(_ count: Int) {
    ids.reserveCapacity(count)
    if keepsText { spans.reserveCapacity(count) }
  }

  @inline(__always)
  mutating func append(_ id: Int32, _ span: Range<Int>) {
    ids.append(id)
    if keepsText { spans.append(span) }
  }

  mutating func appendFound(_ id: Int32, _ span: Range<Int>, text: String) {
    if keepsText { foundTexts[ids.count] = text }
    append(id, span)
  }
}
