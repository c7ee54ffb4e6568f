/// The model of a `tokenizer.json`, and its vocabulary.
extension TokenizerFile {
  func model() throws(TokenizerError) -> (Vocabulary, TokenModel) {
    guard let model = root["model"] else { throw invalid("model", nil, "an object") }
    switch try modelType(model) {
    case "WordPiece":
      let vocabulary = try vocabulary(model: model)
      return (vocabulary, .wordPiece(try wordPiece(model: model, vocabulary: vocabulary)))
    case "BPE":
      let vocabulary = try vocabulary(model: model)
      return (vocabulary, .bytePair(try bytePair(model: model, vocabulary: vocabulary)))
    case "Unigram": return try unigram(model: model)
    case "WordLevel":
      let vocabulary = try vocabulary(model: model)
      let unknown = try unknownToken(model, vocabulary, default: "<unk>")
      return (vocabulary, .wordLevel(WordLevel(vocabulary: vocabulary, unknown: unknown)))
    case let other: throw unsupported("model.type", other, "WordPiece, BPE, Unigram, WordLevel")
    }
  }

  /// Files of early versions do not name the type, but each model has a key of its own.
  private func modelType(_ model: JSONNode) throws(TokenizerError) -> String {
    if model["type"] == nil {
      if model["max_input_chars_per_word"] != nil { return "WordPiece" }
      if model["merges"] != nil { return "BPE" }
      if case .array? = model["vocab"] { return "Unigram" }
    }
    return try type(of: model, "model") ?? "null"
  }

  private func vocabulary(model: JSONNode) throws(TokenizerError) -> Vocabulary {
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

  private func unknownToken(_ model: JSONNode, _ vocabulary: Vocabulary, default fallback: String)
    throws(TokenizerError) -> Int32
  {
    let unknown = try string(model["unk_token"], "model.unk_token", default: fallback)
    guard let id = vocabulary.id(of: unknown) else {
      throw invalid("model.unk_token", model["unk_token"], "a token of the vocabulary")
    }
    return id
  }

  private func wordPiece(model: JSONNode, vocabulary: Vocabulary) throws(TokenizerError) -> WordPiece {
    let unknownId = try unknownToken(model, vocabulary, default: "[UNK]")
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

  // MARK: Byte pairs

  private func bytePair(model: JSONNode, vocabulary: Vocabulary) throws(TokenizerError) -> BytePair {
    switch model["dropout"] {
    case nil, .null?, .integer(0)?: break
    case .double(let value)? where value == 0: break
    case let other?:
      throw .unsupported(path: path, key: "model.dropout", found: other.kind, supported: "null or 0")
    }
    let affixes = BytePair.Affixes(
      continuing: try optionalString(model["continuing_subword_prefix"], "model.continuing_subword_prefix") ?? "",
      ending: try optionalString(model["end_of_word_suffix"], "model.end_of_word_suffix") ?? ""
    )
    let fallsBack = try flag(model["byte_fallback"], "model.byte_fallback", default: false)
    if fallsBack, !affixes.continuing.isEmpty || !affixes.ending.isEmpty {
      throw .unsupported(
        path: path,
        key: "model.byte_fallback",
        found: "true",
        supported: "false where there is a continuing_subword_prefix or an end_of_word_suffix"
      )
    }
    var unknown: Int32?
    if let text = try optionalString(model["unk_token"], "model.unk_token") {
      guard let id = vocabulary.id(of: text) else {
        throw invalid("model.unk_token", model["unk_token"], "a token of the vocabulary")
      }
      unknown = id
    }
    return BytePair(
      vocabulary: vocabulary,
      merges: try merges(model["merges"], vocabulary, prefix: affixes.continuing),
      affixes: affixes,
      unknown: unknown,
      fusesUnknown: try flag(model["fuse_unk"], "model.fuse_unk", default: false),
      fallsBackToBytes: fallsBack,
      ignoresMerges: try flag(model["ignore_merges"], "model.ignore_merges", default: false)
    )
  }

  private func merges(_ node: JSONNode?, _ vocabulary: Vocabulary, prefix: String) throws(TokenizerError)
    -> MergeTable
  {
    var merges: [(left: Int32, right: Int32, token: Int32)] = []
    for (index, item) in try array(node, "model.merges").enumerated() {
      let key = "model.merges[\(index)]"
      let (left, right): (String, String)
      switch item {
      case .string(let text):
        // The first line of the file that early versions were made from.
        if index == 0, text.utf8.starts(with: "#version".utf8) { continue }
        let parts = text.utf8.split(separator: 0x20, omittingEmptySubsequences: false)
        guard parts.count == 2, let first = String(parts[0]), let second = String(parts[1]) else {
          throw invalid(key, item, "two tokens with a space between")
        }
        (left, right) = (first, second)
      case .array(let parts) where parts.count == 2:
        (left, right) = (try string(parts[0], "\(key)[0]"), try string(parts[1], "\(key)[1]"))
      default: throw invalid(key, item, "two tokens")
      }
      func id(_ token: String) throws(TokenizerError) -> Int32 {
        guard let id = vocabulary.id(of: token) else {
          throw .invalid(path: path, key: key, found: "the token \"\(token)\"", expected: "tokens of the vocabulary")
        }
        return id
      }
      let tail = String(decoding: right.utf8.dropFirst(prefix.utf8.count), as: UTF8.self)
      merges.append((try id(left), try id(right), try id(left + tail)))
    }
    return MergeTable(merges)
  }

  private func optionalString(_ node: JSONNode?, _ key: String) throws(TokenizerError) -> String? {
    if case .null? = node { return nil }
    return node == nil ? nil : try string(node, key)
  }

  // MARK: Unigram

  private func unigram(model: JSONNode) throws(TokenizerError) -> (Vocabulary, TokenModel) {
    var vocabulary = Vocabulary()
    var pieces: [(text: String, score: Double)] = []
    for (index, item) in try array(model["vocab"], "model.vocab").enumerated() {
      let key = "model.vocab[\(index)]"
      let parts = try array(item, key)
      guard parts.count == 2 else { throw invalid(key, item, "a token and its score") }
      let text = try string(parts[0], "\(key)[0]")
      let score: Double
      switch parts[1] {
      case .double(let value): score = value
      case .integer(let value): score = Double(value)
      case let other: throw invalid("\(key)[1]", other, "a score")
      }
      pieces.append((text, score))
      vocabulary.insert(text, id: Int32(index))
    }
    let unknown = try identifier(model["unk_id"], "model.unk_id")
    guard unknown < pieces.count else { throw invalid("model.unk_id", model["unk_id"], "the id of a token") }
    let fallsBack = try flag(model["byte_fallback"], "model.byte_fallback", default: false)
    let bytes = fallsBack ? vocabulary.byteTokens : nil
    return (vocabulary, .unigram(Unigram(pieces: pieces, unknown: unknown, bytes: bytes)))
  }
}
