import FedLoRAEngine
import Foundation
import Testing

@Suite("Patterns cut where the library's regular expressions cut")
struct PatternTests {
  struct Fixture: Decodable {
    struct Pattern: Decodable {
      let pattern: String
      /// For each text where the parts end.
      let cuts: [[Int]]
    }
    let texts: [String]
    let patterns: [Pattern]
  }

  /// A tokenizer that makes one unknown token of each part.
  private func cutter(_ pattern: String) throws -> Tokenizer {
    let split: [String: Any] = ["type": "Split", "pattern": ["Regex": pattern], "behavior": "Isolated"]
    let model: [String: Any] = ["type": "WordLevel", "vocab": ["?": 0], "unk_token": "?"]
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("tokenizer-\(UUID().uuidString).json")
    try JSONSerialization.data(withJSONObject: ["pre_tokenizer": split, "model": model]).write(to: file)
    defer { try? FileManager.default.removeItem(at: file) }
    return try Tokenizer.load(from: file)
  }

  @Test("on every text of the fixture")
  func fixture() throws {
    let data = try Data(contentsOf: Places.fixture("patterns.json"))
    let fixture = try JSONDecoder().decode(Fixture.self, from: data)
    #expect(fixture.patterns.count > 25)
    for pattern in fixture.patterns {
      let tokenizer = try cutter(pattern.pattern)
      for (text, cuts) in zip(fixture.texts, pattern.cuts) {
        let own = try tokenizer.encode(text).offsets.map(\.upperBound)
        #expect(own == cuts, "\(pattern.pattern) on \(text.debugDescription)")
      }
    }
  }

  @Test(
    "and patterns that backtrack without end elsewhere do not here",
    .timeLimit(.minutes(1)),
    arguments: [
      "(?:a+)+b", "(?:a|a)+b", "a{0,25}a{25}b", "(?:a|b|ab)+c", "[ab]+a[ab]+c", "(?:(?:a+)+|b)+c", "a+b|a+c",
      "(?:aa?)+?b",
    ]
  )
  func backtracking(pattern: String) throws {
    let tokenizer = try cutter(pattern)
    let text = String(repeating: "a", count: 20_000)
    #expect(try tokenizer.encode(text).offsets == [0..<20_000])
    let ending = String(pattern.suffix(1))
    #expect(try tokenizer.encode(text + "x" + text.prefix(60) + ending).offsets.last?.upperBound == 20_062)
  }
}
