/// The stages of a `tokenizer.json` that work on text: normalizers and pre-tokenizers.
extension TokenizerFile {
  func normalizer(_ node: JSONNode?) throws(TokenizerError) -> Normalizer? {
    let normalizer = try normalizer(node, key: "normalizer")
    try checkGrowth(normalizer?.growth ?? 1, "normalizer")
    return normalizer
  }

  private func normalizer(_ node: JSONNode?, key: String) throws(TokenizerError) -> Normalizer? {
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
    case "Strip":
      return .strip(
        left: try flag(node?["strip_left"], "\(key).strip_left", default: true),
        right: try flag(node?["strip_right"], "\(key).strip_right", default: true)
      )
    case "Prepend": return .prepend(try string(node?["prepend"], "\(key).prepend").unicodeScalars.map(\.value))
    case "Replace":
      let content = try string(node?["content"], "\(key).content").unicodeScalars.map(\.value)
      return .replace(try pattern(node?["pattern"], "\(key).pattern"), by: content)
    case "Precompiled":
      let map = node?["precompiled_charsmap"]
      guard let decoded = CharacterMap(encoded: try string(map, "\(key).precompiled_charsmap")) else {
        throw invalid("\(key).precompiled_charsmap", map, "a character map of SentencePiece in Base64")
      }
      return .characterMap(decoded)
    case "Nmt": return .nmt
    case "ByteLevel": return .byteLevel
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
        "BertNormalizer, Lowercase, StripAccents, Strip, Prepend, Replace, Precompiled, Nmt, ByteLevel, NFC, NFD, NFKC, "
          + "NFKD, Sequence, null"
      )
    }
  }

  func preTokenizer(_ node: JSONNode?) throws(TokenizerError) -> PreTokenizer? {
    let preTokenizer = try preTokenizer(node, key: "pre_tokenizer")
    try checkGrowth(preTokenizer?.growth ?? 1, "pre_tokenizer")
    return preTokenizer
  }

  private func preTokenizer(_ node: JSONNode?, key: String) throws(TokenizerError) -> PreTokenizer? {
    guard let type = try type(of: node, key) else { return nil }
    switch type {
    case "BertPreTokenizer": return .bert
    case "WhitespaceSplit": return .whitespaceSplit
    case "Whitespace": return .whitespace
    case "Punctuation":
      return .punctuation(try choice(node?["behavior"], "\(key).behavior", default: SplitBehavior.isolated))
    case "Digits":
      return .digits(individually: try flag(node?["individual_digits"], "\(key).individual_digits", default: false))
    case "CharDelimiterSplit": return .delimiter(try scalar(node?["delimiter"], "\(key).delimiter").value)
    case "Split":
      guard node?["behavior"] != nil else { throw invalid("\(key).behavior", nil, "a behavior") }
      return .split(
        try pattern(node?["pattern"], "\(key).pattern"),
        try choice(node?["behavior"], "\(key).behavior", default: SplitBehavior.isolated),
        isInverted: try flag(node?["invert"], "\(key).invert", default: false)
      )
    case "ByteLevel":
      let cuts = try flag(node?["use_regex"], "\(key).use_regex", default: true)
      return .byteLevel(
        ByteLevel(
          addsPrefixSpace: try flag(node?["add_prefix_space"], "\(key).add_prefix_space", default: true),
          pattern: cuts ? try pattern(ByteLevel.words, key) : nil
        )
      )
    case "Metaspace": return .metaspace(try metaspace(node, key))
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
        "BertPreTokenizer, Whitespace, WhitespaceSplit, Punctuation, Digits, CharDelimiterSplit, Split, ByteLevel, "
          + "Metaspace, Sequence, null"
      )
    }
  }

  /// The stage that is a pre-tokenizer and a decoder.
  func metaspace(_ node: JSONNode?, _ key: String) throws(TokenizerError) -> Metaspace {
    let prefix = try choice(node?["prepend_scheme"], "\(key).prepend_scheme", default: Metaspace.Prefix.always)
    let addsPrefix = try flag(node?["add_prefix_space"], "\(key).add_prefix_space", default: prefix != .never)
    if !addsPrefix, prefix != .never {
      throw invalid("\(key).add_prefix_space", node?["add_prefix_space"], "true, as prepend_scheme has it")
    }
    return Metaspace(
      replacement: try scalar(node?["replacement"], "\(key).replacement").value,
      prefix: prefix,
      splits: try flag(node?["split"], "\(key).split", default: true)
    )
  }
}
