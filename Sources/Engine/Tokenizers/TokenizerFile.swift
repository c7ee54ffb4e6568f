import Foundation

/// Reads the stages out of a `tokenizer.json`. Whatever is not built is refused by name, never passed over.
struct TokenizerFile {
  let path: String
  let root: JSONNode

  init(path: String) throws(TokenizerError) {
    self.path = path
    let data: Data
    do {
      data = try Data(contentsOf: URL(fileURLWithPath: path))
    } catch {
      throw .unreadable(path: path, reason: error.localizedDescription)
    }
    do {
      root = try JSONNode(parsing: [UInt8](data))
    } catch {
      throw .notJSON(path: path, reason: error.description)
    }
    guard case .object = root else {
      throw .invalid(path: path, key: "the file", found: root.kind, expected: "an object")
    }
  }

  // MARK: Stages

  func vocabulary(model: JSONNode) throws(TokenizerError) -> Vocabulary {
    guard case .object(let members)? = model["vocab"] else {
      throw invalid("model.vocab", model["vocab"], "an object of tokens and ids")
    }
    var vocabulary = Vocabulary()
    for member in members {
      let id = try identifier(member.value, "model.vocab[\"\(member.key)\"]")
      vocabulary.insert(member.key, id: id)
    }
    return vocabulary
  }

  func wordPiece(model: JSONNode, vocabulary: Vocabulary) throws(TokenizerError) -> WordPiece {
    let unknown = try string(model["unk_token"], "model.unk_token", default: "[UNK]")
    guard let unknownId = vocabulary.id(of: unknown) else {
      throw invalid("model.unk_token", model["unk_token"], "a token of the vocabulary")
    }
    let limit: Int
    switch model["max_input_chars_per_word"] {
    case nil: limit = 100
    case .integer(let value)? where value > 0: limit = value
    case let other: throw invalid("model.max_input_chars_per_word", other, "a positive number")
    }
    return WordPiece(
      vocabulary: vocabulary,
      unknown: unknownId,
      continuingPrefix: try string(
        model["continuing_subword_prefix"],
        "model.continuing_subword_prefix",
        default: "##"
      ),
      maximumWordLength: limit
    )
  }

  func normalizer(_ node: JSONNode?, key: String = "normalizer") throws(TokenizerError) -> Normalizer? {
    guard let type = try type(of: node, key) else { return nil }
    switch type {
    case "BertNormalizer":
      let lowercases = try flag(node?["lowercase"], "\(key).lowercase", default: true)
      return .bert(
        BertNormalizer(
          cleansText: try flag(node?["clean_text"], "\(key).clean_text", default: true),
          separatesChinese: try flag(node?["handle_chinese_chars"], "\(key).handle_chinese_chars", default: true),
          stripsAccents: try flag(node?["strip_accents"], "\(key).strip_accents", default: lowercases),
          lowercases: lowercases
        )
      )
    case "Lowercase": return .lowercase
    case "StripAccents": return .stripAccents
    case "Sequence":
      var parts: [Normalizer] = []
      for (index, part) in try array(node?["normalizers"], "\(key).normalizers").enumerated() {
        if let normalizer = try normalizer(part, key: "\(key).normalizers[\(index)]") { parts.append(normalizer) }
      }
      return .sequence(parts)
    default:
      if let form = UnicodeForm(rawValue: type) { return .form(form) }
      throw unsupported(
        "\(key).type",
        type,
        "BertNormalizer, Lowercase, StripAccents, NFC, NFD, NFKC, NFKD, Sequence, null"
      )
    }
  }

  func preTokenizer(_ node: JSONNode?, key: String = "pre_tokenizer") throws(TokenizerError) -> PreTokenizer? {
    guard let type = try type(of: node, key) else { return nil }
    switch type {
    case "BertPreTokenizer": return .bert
    case "WhitespaceSplit": return .whitespaceSplit
    case "Whitespace": return .whitespace
    case "Punctuation":
      let behaviour = try string(node?["behavior"], "\(key).behavior", default: "Isolated")
      guard behaviour == "Isolated" else { throw unsupported("\(key).behavior", behaviour, "Isolated") }
      return .punctuation
    case "Sequence":
      var parts: [PreTokenizer] = []
      for (index, part) in try array(node?["pretokenizers"], "\(key).pretokenizers").enumerated() {
        if let cutter = try preTokenizer(part, key: "\(key).pretokenizers[\(index)]") { parts.append(cutter) }
      }
      return .sequence(parts)
    default:
      throw unsupported(
        "\(key).type",
        type,
        "BertPreTokenizer, Whitespace, WhitespaceSplit, Punctuation, Sequence, null"
      )
    }
  }

  func addedTokens(_ node: JSONNode?) throws(TokenizerError) -> [AddedTokens.Token] {
    guard let node else { return [] }
    var tokens: [AddedTokens.Token] = []
    for (index, item) in try array(node, "added_tokens").enumerated() {
      let key = "added_tokens[\(index)]"
      let special = try flag(item["special"], "\(key).special", default: false)
      let content = try string(item["content"], "\(key).content")
      guard !content.isEmpty else { throw invalid("\(key).content", item["content"], "a token that is not empty") }
      tokens.append(
        AddedTokens.Token(
          id: try identifier(item["id"], "\(key).id"),
          content: content,
          isSpecial: special,
          isSingleWord: try flag(item["single_word"], "\(key).single_word", default: false),
          stripsLeft: try flag(item["lstrip"], "\(key).lstrip", default: false),
          stripsRight: try flag(item["rstrip"], "\(key).rstrip", default: false),
          isNormalized: try flag(item["normalized"], "\(key).normalized", default: !special)
        )
      )
    }
    return tokens
  }

  func postProcessor(_ node: JSONNode?) throws(TokenizerError) -> PostProcessor {
    let key = "post_processor"
    guard let type = try type(of: node, key) else { return .none }
    switch type {
    case "BertProcessing":
      return .bert(cls: try tokenAndId(node?["cls"], "\(key).cls"), sep: try tokenAndId(node?["sep"], "\(key).sep"))
    case "TemplateProcessing":
      let specials = node?["special_tokens"]
      return PostProcessor(
        single: try template(node?["single"], "\(key).single", specials, sequences: ["A"]),
        pair: try template(node?["pair"], "\(key).pair", specials, sequences: ["A", "B"])
      )
    default: throw unsupported("\(key).type", type, "TemplateProcessing, BertProcessing, null")
    }
  }

  func decoder(_ node: JSONNode?) throws(TokenizerError) -> TokenDecoder {
    guard let type = try type(of: node, "decoder") else { return .spaced }
    guard type == "WordPiece" else { throw unsupported("decoder.type", type, "WordPiece, null") }
    return .wordPiece(
      prefix: try string(node?["prefix"], "decoder.prefix", default: "##"),
      cleansUp: try flag(node?["cleanup"], "decoder.cleanup", default: true)
    )
  }

  // MARK: Parts

  /// Most special tokens around one text; known files add two to four.
  private static let mostAddedTokens = 256

  private func template(
    _ node: JSONNode?,
    _ key: String,
    _ specials: JSONNode?,
    sequences: Set<String>
  ) throws(TokenizerError) -> [PostProcessor.Piece] {
    var pieces: [PostProcessor.Piece] = []
    var found: Set<String> = []
    var added = 0
    for (index, item) in try array(node, key).enumerated() {
      let place = "\(key)[\(index)]"
      guard let body = item["Sequence"] ?? item["SpecialToken"] else {
        throw invalid(place, item, "a Sequence or a SpecialToken")
      }
      let name = try string(body["id"], "\(place).id")
      let typeId = try identifier(body["type_id"], "\(place).type_id")
      if item["Sequence"] != nil {
        guard sequences.contains(name) else { throw invalid("\(place).id", body["id"], "one of \(sequences.sorted())") }
        guard found.insert(name).inserted else { throw unsupported("\(place).id", name, "each sequence once") }
        pieces.append(name == "A" ? .first(typeId: typeId) : .second(typeId: typeId))
        continue
      }
      let where_ = "post_processor.special_tokens[\"\(name)\"]"
      guard let special = specials?[name] else { throw invalid(where_, nil, "ids and tokens") }
      var (ids, tokens): ([Int32], [String]) = ([], [])
      for id in try array(special["ids"], "\(where_).ids") { ids.append(try identifier(id, "\(where_).ids")) }
      for token in try array(special["tokens"], "\(where_).tokens") {
        tokens.append(try string(token, "\(where_).tokens"))
      }
      guard ids.count == tokens.count else { throw invalid(where_, special, "as many ids as tokens") }
      added += ids.count
      // A file names a token's ids once and may put it around every text a thousand times.
      guard added <= Self.mostAddedTokens else {
        throw invalid(key, node, "a template that adds at most \(Self.mostAddedTokens) tokens")
      }
      pieces.append(.special(ids: ids, tokens: tokens, typeId: typeId))
    }
    guard found == sequences else { throw invalid(key, node, "a template with each of \(sequences.sorted())") }
    return pieces
  }

  private func tokenAndId(_ node: JSONNode?, _ key: String) throws(TokenizerError) -> (String, Int32) {
    let items = try array(node, key)
    guard items.count == 2 else { throw invalid(key, node, "a token and its id") }
    return (try string(items[0], "\(key)[0]"), try identifier(items[1], "\(key)[1]"))
  }

  // MARK: Values

  /// The type of a stage; nil where the stage is absent or null.
  func type(of node: JSONNode?, _ key: String) throws(TokenizerError) -> String? {
    switch node {
    case nil, .null?: nil
    case .object?: try string(node?["type"], "\(key).type")
    case let other: throw invalid(key, other, "an object or null")
    }
  }

  private func string(_ node: JSONNode?, _ key: String, default fallback: String? = nil) throws(TokenizerError)
    -> String
  {
    if case .string(let value)? = node { return value }
    if node == nil, let fallback { return fallback }
    throw invalid(key, node, "a string")
  }

  private func flag(_ node: JSONNode?, _ key: String, default fallback: Bool) throws(TokenizerError) -> Bool {
    switch node {
    case .bool(let value)?: value
    case nil, .null?: fallback
    case let other: throw invalid(key, other, "true or false")
    }
  }

  private func array(_ node: JSONNode?, _ key: String) throws(TokenizerError) -> [JSONNode] {
    guard case .array(let items)? = node else { throw invalid(key, node, "an array") }
    return items
  }

  /// Ids are bounded by what an embedding table can have.
  private func identifier(_ node: JSONNode?, _ key: String) throws(TokenizerError) -> Int32 {
    guard case .integer(let value)? = node, (0..<10_000_000).contains(value) else {
      throw invalid(key, node, "an id from 0 to 9999999")
    }
    return Int32(value)
  }

  private func invalid(_ key: String, _ node: JSONNode?, _ expected: String) -> TokenizerError {
    .invalid(path: path, key: key, found: node?.kind ?? "missing", expected: expected)
  }

  private func unsupported(_ key: String, _ found: String, _ supported: String) -> TokenizerError {
    .unsupported(path: path, key: key, found: "\"\(found)\"", supported: supported)
  }
}
