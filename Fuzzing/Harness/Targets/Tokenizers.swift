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

  /// A file of another model; what is not given stays away.
  private static func file(model: String, _ stages: (String, String)...) -> String {
    let members = stages.map { "\"\($0.0)\":\($0.1)" } + ["\"model\":\(model)"]
    return "{\(members.joined(separator: ",\n "))}"
  }

  private static func vocabulary(_ words: [String]) -> String {
    words.enumerated().map { "\"\($0.element)\":\($0.offset)" }.joined(separator: ",")
  }

  /// A map that makes "a" of "A" and "\u{E9}" of "e\u{301}", and drops U+0301 where it stands alone.
  private static let characterMap: String = {
    var units = [UInt32](repeating: 0, count: 206)
    for (index, unit) in [
      0: 0x400, 2: 0x8000_0001, 4: 0x8000_0000, 7: 0x8000_0003, 64: 0x10941, 100: 0x18465, 130: 0x21981, 135: 0x20181,
      201: 0x33CCC, 205: 0x338CC,
    ] as [Int: UInt32] {
      units[index] = unit
    }
    let numbers = [UInt32(units.count * 4)] + units
    let bytes = numbers.flatMap { number in (0..<4).map { UInt8(truncatingIfNeeded: number >> UInt32(8 * $0)) } }
    return Data(bytes + Array("\u{0}a\u{0}\u{E9}\u{0}".utf8)).base64EncodedString()
  }()

  private static let sequence = #"{"type":"Sequence","#

  private static let others = [
    file(
      model: """
        {"type":"BPE","ignore_merges":true,"vocab":{\(vocabulary(["!", "a", "b", "\u{120}", "t", "h", "e", "\u{120}t", "he", "\u{120}the", "\u{C3}", "\u{A9}"]))},
         "merges":[["\u{120}","t"],["h","e"],["\u{120}t","he"]]}
        """,
      ("added_tokens", "[\(special(12, "<mask>", ",\"lstrip\":true"))]"),
      (
        "pre_tokenizer",
        sequence + #"""
          "pretokenizers":[{"type":"Split",
           "pattern":{"Regex":"(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
           "behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":true,"use_regex":true}]}
          """#
      ),
      (
        "post_processor",
        sequence + #""processors":[{"type":"ByteLevel","trim_offsets":true},{"type":"RobertaProcessing","#
          + #""sep":["a",1],"cls":["b",2],"trim_offsets":false}]}"#
      ),
      ("decoder", #"{"type":"ByteLevel"}"#)
    ),
    file(
      model: """
        {"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,
         "vocab":{\(vocabulary(["<unk>", "<0xC3>", "<0xA9>", "<0x0A>", "\u{2581}", "a", "t", "\u{2581}t"]))},"merges":["\u{2581} t"]}
        """,
      (
        "normalizer",
        sequence + #""normalizers":[{"type":"Prepend","prepend":"\u2581"},{"type":"Strip","strip_left":false},"#
          + #"{"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]}"#
      ),
      (
        "decoder",
        sequence + #""decoders":[{"type":"Replace","pattern":{"String":"\u2581"},"content":" "},"#
          + #"{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#
      )
    ),
    file(
      model: """
        {"type":"Unigram","unk_id":0,"byte_fallback":false,"vocab":[["<unk>",0.0],["\u{2581}",-2.5],["\u{2581}the",-3],
         ["a",-4.5],["t",-4.5],["he",-4.75],["\u{E9}",-6]]}
        """,
      (
        "normalizer",
        sequence + #""normalizers":[{"type":"Nmt"},{"type":"Precompiled","precompiled_charsmap":""# + characterMap
          + #""},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}]}"#
      ),
      (
        "pre_tokenizer",
        sequence + #""pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Metaspace","replacement":"\u2581","#
          + #""prepend_scheme":"first","split":true}]}"#
      ),
      ("decoder", #"{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"always","split":true}"#)
    ),
    file(
      model: """
        {"type":"WordLevel","unk_token":"?","vocab":{\(vocabulary(["?", "the", "lift", "1", "\u{4E2D}"]))}}
        """,
      ("normalizer", #"{"type":"ByteLevel"}"#),
      (
        "pre_tokenizer",
        sequence + #""pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"CharDelimiterSplit","#
          + #""delimiter":"\u0120"},{"type":"Punctuation","behavior":"MergedWithNext"},{"type":"Split","#
          + #""pattern":{"Regex":"(a|ab)*?(c|bcd){2,3}|[a-z&&[^aeiou]]++|(?<!x).{4}"},"behavior":"Contiguous","invert":true}]}"#
      ),
      ("decoder", #"{"type":"BPEDecoder","suffix":"e"}"#)
    ),
    file(
      model: """
        {"type":"BPE","unk_token":"?","end_of_word_suffix":"</w>","continuing_subword_prefix":"##",
         "vocab":{\(vocabulary(["?", "a", "##a", "##a</w>", "aa", "##aa</w>", "aaa</w>"]))},
         "merges":["a ##a","##a ##a</w>","a ##aa</w>"]}
        """,
      ("pre_tokenizer", #"{"type":"Split","pattern":{"String":" "},"behavior":"Removed","invert":false}"#)
    ),
  ]

  private static func special(_ id: Int, _ content: String, _ flags: String = "") -> String {
    "{\"id\":\(id),\"content\":\"\(content)\",\"special\":true\(flags)}"
  }

  static let files = wordPieces + others

  private static let wordPieces = [
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
    "\"BPE\"", "\"Unigram\"", "\"WordLevel\"", "\"merges\":[", "\"unk_id\":", "\"byte_fallback\":true",
    "\"fuse_unk\":true",
    "\"ignore_merges\":true", "\"end_of_word_suffix\":", "\"dropout\":", "\"ByteLevel\"", "\"add_prefix_space\":",
    "\"use_regex\":", "\"trim_offsets\":", "\"Metaspace\"", "\"prepend_scheme\":\"first\"", "\"split\":false",
    "\"replacement\":\"\u{2581}\"", "\"Split\"", "\"pattern\":{\"Regex\":\"", "\"pattern\":{\"String\":\"",
    "\"invert\":true",
    "\"behavior\":\"Removed\"", "\"behavior\":\"Isolated\"", "\"behavior\":\"MergedWithPrevious\"",
    "\"behavior\":\"MergedWithNext\"", "\"behavior\":\"Contiguous\"", "\"Digits\"", "\"CharDelimiterSplit\"",
    "\"Replace\"",
    "\"Prepend\"", "\"Strip\"", "\"Nmt\"", "\"Precompiled\"", "\"precompiled_charsmap\":", "\"RobertaProcessing\"",
    "\"processors\":[", "\"decoders\":[", "\"ByteFallback\"", "\"Fuse\"", "\"BPEDecoder\"", "\"suffix\":",
    "\"start\":1", "<0x0A>",
    "\\\\p{L}", "\\\\p{N}", "\\\\s", "\\\\S", "\\\\w", "(?i:", "(?!", "(?<=", "(?:", "{1,3}", "{0,999}", "[^", "&&[",
    ")*", "++", "*?", "|",
  ]
}
