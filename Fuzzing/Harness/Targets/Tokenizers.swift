import FedLoRAEngine
import Foundation

extension FuzzTarget {
  /// `tokenizer.json`, and then texts with whatever tokenizer came out.
  static let tokenizer = FuzzTarget(
    name: "tokenizer",
    about: "tokenizer.json, and texts encoded with it",
    limits: FuzzLimits(memory: 4 << 20, memoryPerByte: 512),
    dictionary: TokenizerSamples.dictionary,
    seeds: { TokenizerSamples.files.map { Array($0.utf8) } }
  ) { bytes, scratch in
    let tokenizer = try Tokenizer.load(from: scratch.file("tokenizer.json", bytes))
    // A part of the file is a text too: it holds the very words that the file is about.
    let own = String(decoding: bytes.prefix(512), as: UTF8.self)
    for text in TokenizerSamples.texts + [own] { try checkEncoding(of: text, with: tokenizer) }
    try checkEncoding(of: TokenizerSamples.texts[1], pair: own, with: tokenizer)
  }

  /// A text, with tokenizers of several kinds.
  static let text = FuzzTarget(
    name: "text",
    about: "a text to encode",
    limits: FuzzLimits(memory: 4 << 20, memoryPerByte: 1024),
    dictionary: [
      "[CLS]", "[SEP]", "[MASK]", "##ing", "\u{E9}", "e\u{301}", "\u{1100}\u{1161}\u{11A8}", "\u{AC00}", "\u{4E2D}",
      "\u{FDFA}",
      "\u{200D}", "\u{1F468}\u{200D}\u{1F469}", "\u{0}", "\u{FFFD}", "\u{3000}", "\r\n", "\u{130}", "\u{DF}",
      "\u{323}\u{307}",
      "\u{10FFFF}", "  ", "don't",
    ],
    seeds: { TokenizerSamples.texts.map { Array($0.utf8) } }
  ) { bytes, _ in
    let text = String(decoding: bytes, as: UTF8.self)
    let middle = text.unicodeScalars.index(text.startIndex, offsetBy: text.unicodeScalars.count / 2)
    for tokenizer in try TokenizerSamples.tokenizers() {
      try checkEncoding(of: text, with: tokenizer)
      try checkEncoding(of: String(text[..<middle]), pair: String(text[middle...]), with: tokenizer)
    }
  }

  private static func checkEncoding(of text: String, pair: String? = nil, with tokenizer: Tokenizer) throws {
    for (limit, strategy) in [(nil, .longestFirst), (7, .longestFirst), (9, .onlyFirst), (9, .onlySecond)]
      as [(Int?, TruncationStrategy)]
    {
      let full: Encoding
      do { full = try tokenizer.encode(text, pair: pair, maxLength: limit, truncation: strategy) } catch { continue }
      let fast = try FuzzFailure.onError("one way of encoding refuses what the other accepts") {
        try tokenizer.encodeIds(text, pair: pair, maxLength: limit, truncation: strategy)
      }
      try FuzzFailure.unless(fast.ids == full.ids && fast.typeIds == full.typeIds, "two ways of encoding differ")
      try FuzzFailure.unless(
        full.tokens.count == full.ids.count && full.offsets.count == full.ids.count,
        "\(full.ids.count) tokens have \(full.tokens.count) texts and \(full.offsets.count) places"
      )
      try FuzzFailure.unless(
        full.ids.count <= limit ?? .max,
        "\(full.ids.count) tokens, at most \(limit ?? 0) were asked for"
      )
      let longest = max(text.unicodeScalars.count, pair?.unicodeScalars.count ?? 0)
      try FuzzFailure.unless(full.offsets.allSatisfy { $0.upperBound <= longest }, "a token lies outside its text")
      _ = tokenizer.decode(full.ids)
    }
  }
}

/// Tokenizers of every stage that is built, and texts with the scalars that normalizers care about.
enum TokenizerSamples {
  private static let cached = Result {
    let scratch = try FuzzScratch()
    return try files.map { try Tokenizer.load(from: scratch.file("tokenizer.json", Array($0.utf8))) }
  }

  static func tokenizers() throws -> [Tokenizer] { try cached.get() }

  static let texts = [
    "The lift is fine, the door isn't.",
    "caf\u{E9} cafe\u{301} \u{AC00}\u{1100}\u{1161}\u{11A8} \u{4E2D}\u{6587} [MASK] na\u{EF}ve",
    "\u{0}\u{FFFD}\u{200B}\u{3000}\t\u{85} \u{130}stanbul STRASSE \u{FB01}ne \u{FDFA}", "", " ",
    "\u{323}\u{307}d\u{323}\u{307} \u{1F468}\u{200D}\u{1F469} \u{10FFFF}",
    "unhappiness##ing aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
  ]

  private static func file(normalizer: String, preTokenizer: String, added: String, post: String, decoder: String)
    -> String
  {
    let words = [
      "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "lift", "is", "fine", "door", "##ing", "##s", "a", "##a",
      "un",
      "##happi", "##ness", "caf", "##e", "\u{4E2D}", ",", ".", "'", "t", "n",
    ]
    let vocabulary = words.enumerated().map { "\"\($0.element)\":\($0.offset)" }.joined(separator: ",")
    return """
      {"version":"1.0","truncation":null,"padding":null,"added_tokens":[\(added)],"normalizer":\(normalizer),
       "pre_tokenizer":\(preTokenizer),"post_processor":\(post),"decoder":\(decoder),
       "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":20,
       "vocab":{\(vocabulary)}}}
      """
  }

  private static func special(_ id: Int, _ content: String, _ flags: String = "") -> String {
    "{\"id\":\(id),\"content\":\"\(content)\",\"special\":true\(flags)}"
  }

  static let files = [
    file(
      normalizer:
        #"{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}"#,
      preTokenizer: #"{"type":"BertPreTokenizer"}"#,
      added: [special(2, "[CLS]"), special(3, "[SEP]"), special(4, "[MASK]", ",\"lstrip\":true")].joined(
        separator: ","
      ),
      post: #"""
        {"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}},
         {"SpecialToken":{"id":"[SEP]","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},
         {"SpecialToken":{"id":"[SEP]","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],
         "special_tokens":{"[CLS]":{"id":"[CLS]","ids":[2],"tokens":["[CLS]"]},"[SEP]":{"id":"[SEP]","ids":[3],"tokens":["[SEP]"]}}}
        """#,
      decoder: ###"{"type":"WordPiece","prefix":"##","cleanup":true}"###
    ),
    file(
      normalizer: #"{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Lowercase"},{"type":"StripAccents"}]}"#,
      preTokenizer: #"{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Punctuation"}]}"#,
      added: "{\"id\":25,\"content\":\"Caf\u{E9}\",\"single_word\":true,\"rstrip\":true,\"normalized\":true}",
      post: #"{"type":"BertProcessing","cls":["[CLS]",2],"sep":["[SEP]",3]}"#,
      decoder: "null"
    ),
    file(
      normalizer: #"{"type":"NFD"}"#,
      preTokenizer: #"{"type":"Whitespace"}"#,
      added: "",
      post: "null",
      decoder: "null"
    ),
  ]

  static let dictionary = [
    "{", "}", "[", "]", ",", ":", "null", "true", "false", "\"type\":", "\"vocab\":{", "\"id\":", "\"ids\":[",
    "\"tokens\":[",
    "\"content\":", "\"special\":", "\"normalized\":", "\"single_word\":", "\"lstrip\":", "\"rstrip\":",
    "\"added_tokens\":[",
    "\"normalizer\":", "\"normalizers\":[", "\"pre_tokenizer\":", "\"pretokenizers\":[", "\"post_processor\":",
    "\"decoder\":",
    "\"single\":[", "\"pair\":[", "\"special_tokens\":{", "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}",
    "\"BertNormalizer\"",
    "{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}}", "\"Sequence\"", "\"NFC\"", "\"NFD\"", "\"NFKC\"", "\"NFKD\"",
    "\"Lowercase\"", "\"StripAccents\"", "\"BertPreTokenizer\"", "\"WhitespaceSplit\"", "\"Whitespace\"",
    "\"Punctuation\"",
    "\"TemplateProcessing\"", "\"BertProcessing\"", "\"WordPiece\"", "\"unk_token\":", "\"max_input_chars_per_word\":",
    "\"continuing_subword_prefix\":", "\"\"", "\"##\"", "9999999", "\\u0000", "\\ud800", "\\ud83d\\ude00", "\"\u{E9}\"",
    "\"e\u{301}\"",
  ]
}
