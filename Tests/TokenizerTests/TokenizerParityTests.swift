import FedLoRAEngine
import Foundation
import Testing

@Suite("A tokenizer equals the tokenizers library")
struct TokenizerParityTests {
  static let kinds = ["uncased", "cased", "accents", "compatible", "canonical"]
  static let modelKinds = [
    "roberta", "llama3", "cased_words", "llama2", "suffix", "no_unknown", "t5", "xlmr", "piece_bytes", "word_level",
  ]

  struct Fixture: Decodable {
    let strings: [ExpectedTokens]
    let truncated: [ExpectedTruncation]
  }

  private func fixture(_ kind: String) throws -> Fixture {
    try JSONDecoder().decode(Fixture.self, from: Data(contentsOf: Places.fixture("\(kind)/expected.json")))
  }

  @Test("on our own strings: ids, tokens, offsets, types, decoded text", arguments: kinds + modelKinds)
  func ownStrings(kind: String) throws {
    let tokenizer = try Tokenizer.load(from: Places.fixture(kind))
    for expected in try fixture(kind).strings {
      let differences = try expected.differences(from: tokenizer)
      #expect(differences.isEmpty, "\(differences)")
    }
  }

  @Test("when it cuts or refuses to", arguments: kinds + modelKinds)
  func truncation(kind: String) throws {
    let tokenizer = try Tokenizer.load(from: Places.fixture(kind))
    for expected in try fixture(kind).truncated {
      func encode() throws -> TokenIds {
        try tokenizer.encodeIds(
          expected.text,
          pair: expected.pair,
          maxLength: expected.length,
          truncation: expected.strategy
        )
      }
      if expected.refused == true {
        #expect(throws: TokenizerError.self) { try encode() }
        continue
      }
      let lean = try encode()
      #expect(lean.ids == expected.ids, "\(expected)")
      #expect(lean.typeIds == expected.type_ids, "\(expected)")
      let full = try tokenizer.encode(
        expected.text,
        pair: expected.pair,
        maxLength: expected.length,
        truncation: expected.strategy
      )
      #expect(full.ids == lean.ids && full.tokens.count == full.ids.count && full.offsets.count == full.ids.count)
    }
  }

  @Test("in the normalised form of every scalar of Unicode 14", arguments: kinds)
  func everyScalar(kind: String) throws {
    let tokenizer = try Tokenizer.load(from: Places.fixture(kind))
    let hashes = try JSONDecoder().decode(
      [String: [String]].self,
      from: Data(contentsOf: Places.fixture("scalars.json"))
    )
    let expected = try #require(hashes[kind])
    for (block, hash) in expected.enumerated() {
      var value: UInt64 = 0xCBF2_9CE4_8422_2325
      for code in UInt32(block * 4096)..<UInt32(block * 4096 + 4096) {
        guard let scalar = Unicode.Scalar(code), scalar.isOfUnicode14 else { continue }
        for byte in (tokenizer.normalized(String(scalar)) + "\n").utf8 {
          value = (value ^ UInt64(byte)) &* 0x100_0000_01B3
        }
      }
      let own = String(value, radix: 16)
      #expect(String(repeating: "0", count: 16 - own.count) + own == hash, "block \(String(block * 4096, radix: 16))")
    }
  }

  struct Oracle: Decodable {
    let strings: [ExpectedTokens]
    let pairs: [ExpectedTokens]
    let max12_padded: [ExpectedTokens]
    let max12_padded_pairs: [ExpectedTokens]
  }

  @Test(
    "on the larger oracle, where it is at hand",
    .enabled(if: Places.hasOracle),
    arguments: [
      "bpe_gpt2", "bpe_llama2_bytefallback", "bpe_llama3", "bpe_qwen2", "bpe_roberta", "unigram_t5",
      "unigram_xlmr_precompiled", "wordpiece_cased", "wordpiece_uncased",
    ]
  )
  func oracle(kind: String) throws {
    let folder = Places.oracle.appendingPathComponent(kind)
    let tokenizer = try Tokenizer.load(from: folder)
    let oracle = try JSONDecoder().decode(
      Oracle.self,
      from: Data(contentsOf: folder.appendingPathComponent("expected.json"))
    )
    for expected in oracle.strings + oracle.pairs {
      let differences = try expected.differences(from: tokenizer)
      #expect(differences.isEmpty, "\(differences)")
    }
    for expected in oracle.max12_padded + oracle.max12_padded_pairs {
      let kept = try #require(expected.mask).reduce(0, +)
      let own = try tokenizer.encodeIds(expected.first, pair: expected.second, maxLength: 12)
      #expect(own.ids == Array(expected.ids.prefix(kept)), "\(expected.first.debugDescription)")
      if let typeIds = expected.type_ids { #expect(own.typeIds == Array(typeIds.prefix(kept))) }
    }
  }
}

extension Unicode.Scalar {
  /// Whether Unicode 14 has assigned this scalar.
  fileprivate var isOfUnicode14: Bool {
    guard properties.generalCategory != .unassigned, let age = properties.age else { return false }
    return age.major <= 14
  }
}
