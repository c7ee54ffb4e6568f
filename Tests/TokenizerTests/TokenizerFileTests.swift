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
      (#""type":"WordPiece""#, #""type":"BPE""#, "model.type", "BPE"),
      (#""normalizer":null"#, #""normalizer":{"type":"Precompiled"}"#, "normalizer.type", "Precompiled"),
      (
        #""normalizer":null"#, #""normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Nmt"}]}"#,
        "normalizer.normalizers[1].type", "Nmt"
      ),
      (#""type":"BertPreTokenizer""#, #""type":"Metaspace""#, "pre_tokenizer.type", "Metaspace"),
      (#""post_processor":null"#, #""post_processor":{"type":"ByteLevel"}"#, "post_processor.type", "ByteLevel"),
      (#""decoder":null"#, #""decoder":{"type":"Fuse"}"#, "decoder.type", "Fuse"),
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
