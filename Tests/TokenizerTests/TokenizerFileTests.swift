import FedLoRAEngine
import Foundation
import Testing

@Suite("A tokenizer file that is not understood is refused by name")
struct TokenizerFileTests {
  private static let good = """
    {"model":{"type":"WordPiece","vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"a":3,"##b":4,"\u{e9}":5,"e\u{301}":6}},
     "added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":null,"decoder":null}
    """

  private func load(_ text: String) throws -> Tokenizer {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("tokenizer-\(UUID().uuidString).json")
    try Data(text.utf8).write(to: file)
    defer { try? FileManager.default.removeItem(at: file) }
    return try Tokenizer.load(from: file)
  }

  @Test("two spellings of one letter are two tokens")
  func canonicalEquivalence() throws {
    let tokenizer = try load(Self.good)
    #expect(tokenizer.vocabularySize == 7)
    #expect(tokenizer.id(of: "\u{e9}") == 5)
    #expect(tokenizer.id(of: "e\u{301}") == 6)
    #expect(try tokenizer.encodeIds("\u{e9} e\u{301} ab").ids == [5, 6, 3, 4])
  }

  @Test(
    "naming key and value",
    arguments: [
      (#""type":"WordPiece""#, #""type":"Morphemes""#, "model.type", "Morphemes"),
      (#""normalizer":null"#, #""normalizer":{"type":"Rot13"}"#, "normalizer.type", "Rot13"),
      (
        #""normalizer":null"#, #""normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"}"#,
        "normalizer.precompiled_charsmap", "AAAA"
      ),
      (
        #""normalizer":null"#, #""normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Rot13"}]}"#,
        "normalizer.normalizers[1].type", "Rot13"
      ),
      (#""type":"BertPreTokenizer""#, #""type":"UnicodeScripts""#, "pre_tokenizer.type", "UnicodeScripts"),
      (
        #""type":"BertPreTokenizer""#, #""type":"Metaspace","replacement":"_","prepend_scheme":"last""#,
        "pre_tokenizer.prepend_scheme", "last"
      ),
      (
        #""type":"BertPreTokenizer""#, #""type":"Split","pattern":{"String":"a"},"behavior":"Doubled""#,
        "pre_tokenizer.behavior", "Doubled"
      ),
      (#""post_processor":null"#, #""post_processor":{"type":"Rotate"}"#, "post_processor.type", "Rotate"),
      (
        #""post_processor":null"#,
        #""post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"ByteLevel"}]}"#,
        "post_processor.processors[1]", "second"
      ),
      (#""decoder":null"#, #""decoder":{"type":"CTC"}"#, "decoder.type", "CTC"),
      (
        #""decoder":null"#, #""decoder":{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"CTC"}]}"#,
        "decoder.decoders[1].type", "CTC"
      ),
      (#""a":3"#, #""a":"x""#, #"model.vocab["a"]"#, "x"),
      (#""a":3"#, #""a":-3"#, #"model.vocab["a"]"#, "-3"),
      (#""a":3"#, #""a":99999999999"#, #"model.vocab["a"]"#, "99999999999"),
      (#""[UNK]":0,"#, "", "model.unk_token", "missing"),
      (#""added_tokens":[]"#, #""added_tokens":[{"id":1}]"#, "added_tokens[0].content", "missing"),
      (#""decoder":null"#, #""decoder":7"#, "decoder", "7"),
    ]
  )
  func refusals(old: String, new: String, key: String, value: String) throws {
    let text = Self.good.replacingOccurrences(of: old, with: new)
    #expect(text != Self.good)
    let error = try #require(throws: TokenizerError.self) { try load(text) }
    #expect(error.description.contains(key), "\(error)")
    #expect(error.description.contains(value), "\(error)")
  }

  @Test(
    "naming what stands in a pattern, and where",
    arguments: [
      (#"^a"#, "^", 1), (#"a$"#, "$", 2), (#"a\\b"#, "\\b", 2), (#"(a)\\1"#, "\\1", 4), (#"(?<x>a)"#, "(?<x", 1),
      (#"(?>a)"#, "(?>a", 1), (#"(?=ab)"#, "(?= with more than one character", 1), (#"\\p{Han}"#, "\\p{Han}", 1),
      (#"(ab)++"#, "a possessive group", 1), (#"(a?)*"#, "a repeated group that can be empty", 1),
      (#"(?i:[a[b]])"#, "a class in a class", 7),
      (#"[[:alpha:]]"#, "[:", 2), (#"(?i:gr\u00fcn)"#, "beyond ASCII", 7), (#"(?i:ss)"#, "without regard to case", 6),
      (#"a{1001}"#, "more than 1000 repetitions", 2), (#"((a{99}){99}){99}"#, "steps", 1),
      (#"a{2}?"#, "{}?", 5), (#"(?m:a)"#, "(?m:", 1), (#"\\R"#, "\\R", 1),
    ]
  )
  func patterns(pattern: String, construct: String, character: Int) throws {
    let stage = #""type":"Split","behavior":"Isolated","pattern":{"Regex":""# + pattern + "\"}"
    let text = Self.good.replacingOccurrences(of: #""type":"BertPreTokenizer""#, with: stage)
    let error = try #require(throws: TokenizerError.self) { try load(text) }
    guard case .unsupported(_, let key, let found, _) = error else {
      Issue.record("\(error)")
      return
    }
    #expect(key == "pre_tokenizer.pattern.Regex")
    #expect(found.contains(construct) && found.hasSuffix("at character \(character)"), "\(error)")
  }

  @Test(
    "a text that is no pattern is called so",
    arguments: ["(", ")", "[a", "*", "a|*", "[b-a]", "\\\\", "a{3,2}", "\\\\x{}"]
  )
  func malformedPatterns(pattern: String) throws {
    let stage = #""type":"Split","behavior":"Isolated","pattern":{"Regex":""# + pattern + "\"}"
    let text = Self.good.replacingOccurrences(of: #""type":"BertPreTokenizer""#, with: stage)
    let error = try #require(throws: TokenizerError.self) { try load(text) }
    guard case .invalid = error else {
      Issue.record("\(error)")
      return
    }
  }

  private static let pairs = """
    {"model":{"type":"BPE","unk_token":"u","vocab":{"u":0,"a":1,"b":2,"ab":3,"<0x41>":4},"merges":["a b"]},
     "decoder":{"type":"Fuse"}}
    """
  private static let unigram = #"{"model":{"type":"Unigram","unk_id":0,"vocab":[["u",0],["a",-1.5]]}}"#

  @Test(
    "in the models of byte pairs and of single pieces too",
    arguments: [
      (pairs, #""a b""#, #""a c""#, "model.merges[0]", "c"),
      (pairs, #""a b""#, #""a b c""#, "model.merges[0]", "a b c"),
      (pairs, #""a b""#, #"["a"]"#, "model.merges[0]", "array"), (pairs, #""a b""#, #""b a""#, "model.merges[0]", "ba"),
      (pairs, #""unk_token":"u""#, #""unk_token":"x""#, "model.unk_token", "x"),
      (pairs, #""type":"BPE""#, #""type":"BPE","dropout":0.1"#, "model.dropout", "0.1"),
      (
        pairs, #""type":"BPE""#, #""type":"BPE","byte_fallback":true,"end_of_word_suffix":"</w>""#,
        "model.byte_fallback", "true"
      ),
      (pairs, #"{"type":"Fuse"}"#, #"{"type":"Strip","content":"ab"}"#, "decoder.content", "ab"),
      (unigram, "0,\"vocab", "2,\"vocab", "model.unk_id", "2"),
      (unigram, "0,\"vocab", "null,\"vocab", "model.unk_id", "null"),
      (unigram, "-1.5", "\"x\"", "model.vocab[1][1]", "x"),
      (unigram, #"["a",-1.5]"#, #"["a"]"#, "model.vocab[1]", "array"),
    ]
  )
  func otherModels(file: String, old: String, new: String, key: String, value: String) throws {
    _ = try load(file)
    let text = file.replacingOccurrences(of: old, with: new)
    #expect(text != file)
    let error = try #require(throws: TokenizerError.self) { try load(text) }
    #expect(error.description.contains("\(key) is") && error.description.contains(value), "\(error)")
  }

  @Test("an unknown character costs ten more than the worst piece", arguments: [(6, 5, [1, 0, 2]), (5, 4.5, [3])])
  func unknownScore(first: Double, last: Double, ids: [Int32]) throws {
    let pieces = #"["u",0],["a",\#(first)],["y",\#(last)],["axy",-12]"#
    let tokenizer = try load(#"{"model":{"type":"Unigram","unk_id":0,"vocab":[\#(pieces)]}}"#)
    #expect(try tokenizer.encodeIds("axy").ids == ids)
  }

  @Test("a chain of stages that would fill the memory is refused")
  func growth() throws {
    let stage = #"{"type":"Replace","pattern":{"String":"a"},"content":"aaaaaaaaaa"}"#
    let chain = #"{"type":"Sequence","normalizers":["# + Array(repeating: stage, count: 3).joined(separator: ",") + "]}"
    let text = Self.good.replacingOccurrences(of: #""normalizer":null"#, with: #""normalizer":"# + chain)
    let error = try #require(throws: TokenizerError.self) { try load(text) }
    #expect(error.description.contains("1000 times"))
  }

  @Test("no input text of JSON crashes the reader", arguments: 0..<Self.good.utf8.count)
  func damagedText(at position: Int) throws {
    let bytes = Array(Self.good.utf8)
    #expect(throws: TokenizerError.self) { try load(String(decoding: bytes[..<position], as: UTF8.self)) }
    for replacement in "\"{[,\u{0}9".utf8 {
      var damaged = bytes
      damaged[position] = replacement
      _ = try? load(String(decoding: damaged, as: UTF8.self))
    }
  }

  @Test("deep nesting ends in an error, not in the stack")
  func deepNesting() {
    #expect(throws: TokenizerError.self) { try load(String(repeating: "[", count: 1_000_000)) }
  }

  @Test("a missing file names its path")
  func missingFile() throws {
    let error = try #require(throws: TokenizerError.self) {
      try Tokenizer.load(from: URL(fileURLWithPath: "/nowhere/model"))
    }
    #expect(error.description.contains("/nowhere/model"))
  }
}
