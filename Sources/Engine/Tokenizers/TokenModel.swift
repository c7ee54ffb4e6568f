/// A piece of a word: a token, and where in the word it lies, in scalars.
typealias TokenPiece = (id: Int32, range: Range<Int>)

/// The third stage of `tokenizer.json`: cuts words into tokens.
enum TokenModel: Sendable {
  case wordPiece(WordPiece)
  case bytePair(BytePair)
  case unigram(Unigram)
  case wordLevel(WordLevel)

  /// Appends the pieces of one word.
  @inline(__always)
  func tokenize(_ word: UnsafeBufferPointer<UInt32>, into pieces: inout [TokenPiece]) {
    switch self {
    case .wordPiece(let model): model.tokenize(word, into: &pieces)
    case .bytePair(let model): model.tokenize(word, into: &pieces)
    case .unigram(let model): model.tokenize(word, into: &pieces)
    case .wordLevel(let model): model.tokenize(word, into: &pieces)
    }
  }

  /// The token that is shown as what stood in the text, not as its own text.
  var shownAsFound: Int32? {
    if case .unigram(let model) = self { model.unknown } else { nil }
  }
}

/// The WordLevel model: a word is a token, or unknown.
struct WordLevel: Sendable {
  private var words = TokenTrie()
  /// Id of a word that is no token.
  let unknown: Int32

  init(vocabulary: Vocabulary, unknown: Int32) {
    self.unknown = unknown
    for (id, token) in vocabulary.tokens { words.insert(token.unicodeScalars.lazy.map(\.value), token: id) }
  }

  func tokenize(_ word: UnsafeBufferPointer<UInt32>, into pieces: inout [TokenPiece]) {
    pieces.append((words.token(of: word) ?? unknown, 0..<word.count))
  }
}
