/// The fourth stage of `tokenizer.json`: where special tokens stand around one text or two, and the type ids.
struct PostProcessor: Sendable {
  /// One piece of a template.
  enum Piece: Sendable {
    case first(typeId: Int32)
    case second(typeId: Int32)
    case special(ids: [Int32], tokens: [String], typeId: Int32)
  }

  let single: [Piece]
  let pair: [Piece]
  /// How the places of tokens lose the white space that the tokens hold; nil where they keep it.
  var trim: OffsetTrim?

  /// Adds nothing: the text, then the second one with type 1.
  static let none = PostProcessor(single: [.first(typeId: 0)], pair: [.first(typeId: 0), .second(typeId: 1)])

  /// BERT's: `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`.
  static func bert(cls: (String, Int32), sep: (String, Int32)) -> PostProcessor {
    func special(_ token: (String, Int32), _ typeId: Int32) -> Piece {
      .special(ids: [token.1], tokens: [token.0], typeId: typeId)
    }
    let head = [special(cls, 0), .first(typeId: 0), special(sep, 0)]
    return PostProcessor(single: head, pair: head + [.second(typeId: 1), special(sep, 1)])
  }

  /// RoBERTa's: `<s> A </s>` and `<s> A </s></s> B </s>`, all of type 0.
  static func roberta(cls: (String, Int32), sep: (String, Int32)) -> PostProcessor {
    func special(_ token: (String, Int32)) -> Piece { .special(ids: [token.1], tokens: [token.0], typeId: 0) }
    let head = [special(cls), .first(typeId: 0), special(sep)]
    return PostProcessor(single: head, pair: head + [special(sep), .second(typeId: 0), special(sep)])
  }

  func template(isPair: Bool) -> [Piece] { isPair ? pair : single }

  /// How many special tokens come on top.
  func addedTokens(isPair: Bool) -> Int {
    template(isPair: isPair).reduce(0) { count, piece in
      if case .special(let ids, _, _) = piece { count + ids.count } else { count }
    }
  }
}

/// Takes white space at the ends of byte-level tokens out of their places in the text.
struct OffsetTrim: Sendable {
  /// Whether the pre-tokenizer put a space before the text: one space of the first token is then not in the text.
  let addsPrefixSpace: Bool

  /// The place of a token without the white space at its ends.
  func trimmed(_ span: Range<Int>, of token: String, isFirst: Bool) -> Range<Int> {
    func isSpace(_ scalar: Unicode.Scalar) -> Bool {
      scalar.value == ByteAlphabet.space || ScalarClass.of(scalar.value).contains(.whitespace)
    }
    var leading = token.unicodeScalars.prefix(while: isSpace).count
    let trailing = token.unicodeScalars.reversed().prefix(while: isSpace).count
    if leading == 1, addsPrefixSpace, isFirst || span.lowerBound == 0 { leading = 0 }
    let start = min(span.lowerBound + leading, span.upperBound)
    let end = trailing > 0 && span.upperBound >= trailing ? max(span.upperBound - trailing, start) : span.upperBound
    return start..<end
  }
}
