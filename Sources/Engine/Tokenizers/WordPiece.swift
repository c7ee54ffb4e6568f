/// The WordPiece model: the longest known piece from the left, again and again; a word that cannot be covered is unknown as
/// a whole (Wu et al. 2016, "Google's Neural Machine Translation System"; greedy matching as in BERT).
struct WordPiece: Sendable {
  /// Id that stands for a word that cannot be covered.
  let unknown: Int32
  /// Words of more scalars than this are unknown.
  let maximumWordLength: Int
  /// Pieces that may start a word, by their text.
  private var initial = TokenTrie()
  /// Pieces that may continue a word, by their text without the prefix.
  private var continuing = TokenTrie()

  init(vocabulary: Vocabulary, unknown: Int32, continuingPrefix: String, maximumWordLength: Int) {
    self.unknown = unknown
    self.maximumWordLength = maximumWordLength
    let prefix = Array(continuingPrefix.unicodeScalars.map(\.value))
    for (id, token) in vocabulary.tokens {
      let scalars = token.unicodeScalars.map(\.value)
      if scalars.isEmpty { continue }
      initial.insert(scalars, token: id)
      if scalars.starts(with: prefix), scalars.count > prefix.count {
        continuing.insert(scalars.dropFirst(prefix.count), token: id)
      }
    }
  }

  /// Appends the pieces of one word: ids, and where in the word each one lies.
  @inline(__always)
  func tokenize(_ word: UnsafeBufferPointer<UInt32>, into pieces: inout [TokenPiece]) {
    let before = pieces.count
    var start = 0
    if word.count <= maximumWordLength {
      while start < word.count {
        guard let match = (start == 0 ? initial : continuing).longestMatch(in: word, from: start) else { break }
        pieces.append((match.token, start..<match.end))
        start = match.end
      }
      if start == word.count { return }
    }
    pieces.removeLast(pieces.count - before)
    pieces.append((unknown, 0..<word.count))
  }
}
