/// Makes text of tokens as they come.
///
/// A token alone may be no text: it can be a part of a character, and whether a space stands before it depends on the tokens
/// before it. So some tokens are decoded together with those before, what was given out already is taken away, and nothing is
/// given out that ends inside a character.
public struct TextStream: Sendable {
  private let tokenizer: Tokenizer
  /// From the token before those whose text is not known yet; the first `known` of them have been given out.
  private var tokens: [Int32]
  private var known: Int

  /// Tokens behind which the text of a new one no longer changes.
  private static let context = 6

  /// - Parameter prompt: the tokens that the new ones follow; their text is not given out.
  public init(_ tokenizer: Tokenizer, after prompt: [Int32] = []) {
    self.tokenizer = tokenizer
    tokens = Array(prompt.suffix(Self.context))
    known = tokens.count
  }

  /// The text that `token` settles; empty where a character is not whole yet, and for special tokens.
  public mutating func append(_ token: Int32) -> String {
    tokens.append(token)
    let text = rest()
    // A replacement mark at the end may become a character with the next byte.
    if text.unicodeScalars.last == "\u{FFFD}" { return "" }
    settle()
    return text
  }

  /// What is left at the end: a part of a character, as replacement marks.
  public mutating func finish() -> String {
    let text = rest()
    settle()
    return text
  }

  private mutating func settle() {
    known = tokens.count
    if tokens.count > 2 * Self.context {
      tokens.removeFirst(tokens.count - Self.context)
      known = tokens.count
    }
  }

  private func rest() -> String {
    let before = tokenizer.decode(Array(tokens[..<known])).unicodeScalars
    let all = tokenizer.decode(tokens).unicodeScalars
    return String(String.UnicodeScalarView(all.dropFirst(before.count)))
  }
}
