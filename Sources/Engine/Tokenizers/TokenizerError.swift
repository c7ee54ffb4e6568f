/// A tokenizer could not be read, or a text could not be encoded as asked.
public enum TokenizerError: Error, Equatable, CustomStringConvertible {
  /// The file cannot be read.
  case unreadable(path: String, reason: String)
  /// The file is not JSON.
  case notJSON(path: String, reason: String)
  /// A key holds a value of a kind that is not built.
  case unsupported(path: String, key: String, found: String, supported: String)
  /// A key is missing or holds a value that makes no sense.
  case invalid(path: String, key: String, found: String, expected: String)
  /// Special tokens alone are longer than the wanted length.
  case lengthTooSmall(maximumLength: Int, specialTokens: Int)
  /// The sequence that should be cut is shorter than what must go.
  case cannotTruncate(strategy: TruncationStrategy, maximumLength: Int)

  /// The error in words.
  public var description: String {
    switch self {
    case .unreadable(let path, let reason):
      "cannot read the tokenizer \(path): \(reason); a model folder needs a tokenizer.json"
    case .notJSON(let path, let reason):
      "\(path) is not JSON: \(reason)"
    case .unsupported(let path, let key, let found, let supported):
      "\(path): \(key) is \(found), which is not supported; supported: \(supported)"
    case .invalid(let path, let key, let found, let expected):
      "\(path): \(key) is \(found), expected \(expected)"
    case .lengthTooSmall(let maximumLength, let specialTokens):
      "a maximum length of \(maximumLength) leaves no room: the special tokens alone take \(specialTokens)"
    case .cannotTruncate(let strategy, let maximumLength):
      "cannot cut to \(maximumLength) tokens with the strategy \(strategy.rawValue): "
        + "the sequence to cut is missing or too short; use longest_first or a greater length"
    }
  }
}
