/// The unigram model (Kudo 2018, "Subword Regularization", section 3.2): the pieces whose scores have the greatest sum,
/// found by Viterbi's algorithm in time that grows with the length of the word and of the longest token.
struct Unigram: Sendable {
  /// Id of what no token covers; neighbours become one.
  let unknown: Int32
  private var tokens = TokenTrie()
  private let scores: [Double]
  /// Tokens `<0x00>` to `<0xFF>` for the bytes of what no token covers; nil where there is no such fallback.
  private let bytes: [Int32?]?

  /// How much worse than the worst token a scalar is that no token covers.
  private static let penalty = 10.0
  private let unknownScore: Double

  /// - Parameter pieces: texts and scores in the order of the ids. Of two equal texts the later one counts.
  init(pieces: [(text: String, score: Double)], unknown: Int32, bytes: [Int32?]?) {
    self.unknown = unknown
    self.bytes = bytes
    scores = pieces.map(\.score)
    unknownScore = (scores.min() ?? 0) - Self.penalty
    for (id, piece) in pieces.enumerated() where !piece.text.isEmpty {
      tokens.insert(piece.text.unicodeScalars.lazy.map(\.value), token: Int32(id))
    }
  }

  /// The best way to a place in the word: its score, and its last token.
  private struct Step {
    var score: Double
    var start: Int32
    var id: Int32
  }

  /// Appends the pieces of one word.
  func tokenize(_ word: UnsafeBufferPointer<UInt32>, into pieces: inout [TokenPiece]) {
    if word.isEmpty { return }
    let first = pieces.count
    withUnsafeTemporaryAllocation(of: Step.self, capacity: word.count + 1) { steps in
      steps.initialize(repeating: Step(score: 0, start: -1, id: 0))
      for start in word.indices {
        let before = steps[start].score
        func offer(_ id: Int32, _ end: Int, _ score: Double) {
          if steps[end].start < 0 || score > steps[end].score {
            steps[end] = Step(score: score, start: Int32(start), id: id)
          }
        }
        var hasSingle = false
        tokens.forEachMatch(in: word, from: start) { id, end in
          offer(id, end, scores[Int(id)] + before)
          if end == start + 1 { hasSingle = true }
        }
        if !hasSingle { offer(unknown, start + 1, unknownScore + before) }
      }
      var end = word.count
      while end > 0 {
        let step = steps[end]
        let start = Int(step.start)
        if step.id == unknown, pieces.count > first, let last = pieces.last, last.id == unknown {
          pieces[pieces.count - 1].range = start..<last.range.upperBound
        } else {
          pieces.append((step.id, start..<end))
        }
        end = start
      }
    }
    pieces[first...].reverse()
    if pieces[first...].contains(where: { $0.id == unknown }) { resolveUnknown(word, from: first, &pieces) }
  }

  /// Gives what was left unknown the token that it spells when taken together, or those of its bytes.
  private func resolveUnknown(_ word: UnsafeBufferPointer<UInt32>, from first: Int, _ pieces: inout [TokenPiece]) {
    let found = Array(pieces[first...])
    pieces.removeLast(found.count)
    for piece in found {
      guard piece.id == unknown else {
        pieces.append(piece)
        continue
      }
      if let token = tokens.token(of: UnsafeBufferPointer(rebasing: word[piece.range])) {
        pieces.append((token, piece.range))
      } else if let spelled = byteTokens(of: word[piece.range]) {
        for token in spelled { pieces.append((token, piece.range)) }
      } else {
        pieces.append(piece)
      }
    }
  }

  /// The tokens of all bytes of some scalars; nil where one of them has none.
  private func byteTokens(of scalars: Slice<UnsafeBufferPointer<UInt32>>) -> [Int32]? {
    guard let bytes else { return nil }
    var tokens: [Int32] = []
    for scalar in scalars {
      guard let encoded = Unicode.Scalar(scalar).flatMap(UTF8.encode) else { return nil }
      for byte in encoded {
        guard let token = bytes[Int(byte)] else { return nil }
        tokens.append(token)
      }
    }
    return tokens
  }
}
