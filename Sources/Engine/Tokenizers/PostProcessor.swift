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

  func template(isPair: Bool) -> [Piece] { isPair ? pair : single }

  /// How many special tokens come on top.
  func addedTokens(isPair: Bool) -> Int {
    template(isPair: isPair).reduce(0) { count, piece in
      if case .special(let ids, _, _) = piece { count + ids.count } else { count }
    }
  }
}
