import Foundation

/// The last stage of `tokenizer.json`: makes text of tokens.
enum TokenDecoder: Sendable {
  /// Joins by a space.
  case spaced
  /// Joins continuing pieces to the word before; with clean-up no space before punctuation and English contractions.
  case wordPiece(prefix: String, cleansUp: Bool)

  func text(of tokens: [String]) -> String {
    switch self {
    case .spaced: return tokens.joined(separator: " ")
    case .wordPiece(let prefix, let cleansUp):
      var text = ""
      for (index, token) in tokens.enumerated() {
        var part = token
        if index > 0 {
          if token.utf8.starts(with: prefix.utf8) {
            part = String(Substring(token.utf8.dropFirst(prefix.utf8.count)))
          } else {
            part = " " + token
          }
        }
        text.unicodeScalars.append(contentsOf: (cleansUp ? Self.cleaned(part) : part).unicodeScalars)
      }
      return text
    }
  }

  private static let replacements: [(String, String)] = [
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
  ]

  private static func cleaned(_ part: String) -> String {
    guard part.utf8.contains(0x20) else { return part }
    return replacements.reduce(part) { text, pair in
      text.replacingOccurrences(of: pair.0, with: pair.1, options: .literal)
    }
  }
}
