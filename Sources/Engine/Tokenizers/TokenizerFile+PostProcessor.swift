/// The post-processor of a `tokenizer.json`.
extension TokenizerFile {
  func postProcessor(_ node: JSONNode?, key: String = "post_processor") throws(TokenizerError) -> PostProcessor {
    guard let type = try type(of: node, key) else { return .none }
    switch type {
    case "BertProcessing":
      return .bert(cls: try tokenAndId(node?["cls"], "\(key).cls"), sep: try tokenAndId(node?["sep"], "\(key).sep"))
    case "RobertaProcessing":
      var processor = PostProcessor.roberta(
        cls: try tokenAndId(node?["cls"], "\(key).cls"),
        sep: try tokenAndId(node?["sep"], "\(key).sep")
      )
      processor.trim = try offsetTrim(node, key)
      return processor
    case "ByteLevel":
      var processor = PostProcessor.none
      processor.trim = try offsetTrim(node, key)
      return processor
    case "TemplateProcessing":
      let specials = Specials(node: node?["special_tokens"], key: "\(key).special_tokens")
      return PostProcessor(
        single: try template(node?["single"], "\(key).single", specials, sequences: ["A"]),
        pair: try template(node?["pair"], "\(key).pair", specials, sequences: ["A", "B"])
      )
    case "Sequence": return try postProcessors(node?["processors"], "\(key).processors")
    default:
      throw unsupported(
        "\(key).type",
        type,
        "TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel, Sequence, null"
      )
    }
  }

  /// Several: one that puts special tokens around, and one that trims places.
  private func postProcessors(_ node: JSONNode?, _ key: String) throws(TokenizerError) -> PostProcessor {
    var whole: PostProcessor?
    var trim: OffsetTrim?
    for (index, item) in try array(node, key).enumerated() {
      let place = "\(key)[\(index)]"
      let processor = try postProcessor(item, key: place)
      if let own = processor.trim {
        guard trim == nil else { throw unsupported("\(place)", "a second trimming of offsets", "one") }
        trim = own
      }
      if try string(item["type"], "\(place).type") != "ByteLevel" {
        guard whole == nil else { throw unsupported(place, "a second template", "one") }
        whole = processor
      }
    }
    var result = whole ?? .none
    result.trim = trim
    return result
  }

  private func offsetTrim(_ node: JSONNode?, _ key: String) throws(TokenizerError) -> OffsetTrim? {
    let trims = try flag(node?["trim_offsets"], "\(key).trim_offsets", default: true)
    let addsPrefixSpace = try flag(node?["add_prefix_space"], "\(key).add_prefix_space", default: true)
    return trims ? OffsetTrim(addsPrefixSpace: addsPrefixSpace) : nil
  }

  /// The special tokens that a template may name.
  private struct Specials {
    let node: JSONNode?
    let key: String
  }

  /// Most special tokens around one text; known files add two to four.
  private static let mostAddedTokens = 256

  private func template(
    _ node: JSONNode?,
    _ key: String,
    _ specials: Specials,
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
      let where_ = "\(specials.key)[\"\(name)\"]"
      guard let special = specials.node?[name] else { throw invalid(where_, nil, "ids and tokens") }
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
}
