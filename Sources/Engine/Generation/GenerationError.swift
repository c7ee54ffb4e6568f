/// A text that cannot be generated, or options that make no sense.
public enum GenerationError: Error, Equatable, CustomStringConvertible {
  /// A prompt without tokens: there is nothing to go on from.
  case emptyPrompt(index: Int)
  /// A prompt that leaves no room for a new token.
  case promptTooLong(index: Int, tokens: Int, positions: Int)
  /// A token that the model has no row for.
  case unknownToken(index: Int, token: Int32, vocabularySize: Int)
  /// An option out of its range.
  case badOption(name: String, found: String, expected: String)
  /// Logits that are not finite: damaged weights or an adapter that diverged.
  case notFinite(index: Int, position: Int)
  /// A file with generation options that cannot be used.
  case badFile(file: String, reason: String)

  /// What was wrong, and what to do.
  public var description: String {
    switch self {
    case .emptyPrompt(let index):
      "prompt \(index) has no token, and the tokenizer adds none; give it a text"
    case .promptTooLong(let index, let tokens, let positions):
      "prompt \(index) has \(tokens) tokens; the model has \(positions) positions, and a new token needs one: shorten it to "
        + "\(positions - 1) at most"
    case .unknownToken(let index, let token, let size):
      "prompt \(index) holds token \(token); the model knows \(size) tokens: is the tokenizer another model's?"
    case .badOption(let name, let found, let expected): "'\(name)' is \(found), expected \(expected)"
    case .notFinite(let index, let position):
      "the logits of prompt \(index) at token \(position) are not finite: weights or adapter are damaged"
    case .badFile(let file, let reason): "\(file): \(reason)"
    }
  }
}
