import FedLoRAEngine
import Foundation
import Testing

@Suite("Encoding is fast enough not to be felt beside training")
struct TokenizerSpeedTests {
  @Test("ASCII text goes well above two megabytes a second, the least that any machine should do")
  func asciiThroughput() throws {
    let tokenizer = try Tokenizer.load(from: Places.fixture("uncased"))
    let sentence = "The lift is fine, the door isn't; tokenisation of unbelievable words 1234567890 ends here. "
    let text = String(repeating: sentence, count: 40)
    var bytes = 0
    var tokens = 0
    let clock = ContinuousClock()
    let took = try clock.measure {
      for _ in 0..<500 {
        tokens += try tokenizer.encodeIds(text, maxLength: 512).ids.count
        bytes += text.utf8.count
      }
    }
    let rate = Double(bytes) / 1e6 / (took / .seconds(1))
    print("encoded \(rate.formatted(.number.precision(.fractionLength(1)))) MB/s, \(tokens) tokens kept")
    #expect(rate > 2)
  }

  @Test(
    "a text of half a million characters without a space takes time that grows with its length alone",
    .timeLimit(.minutes(2)),
    arguments: ["roberta", "llama3", "cased_words", "llama2", "suffix", "no_unknown", "t5", "xlmr", "piece_bytes"],
    ["a", "ab1", "!", "\u{301}", "\u{65E5}", " ", "\n", "' "]
  )
  func longTexts(kind: String, part: String) throws {
    let tokenizer = try Tokenizer.load(from: Places.fixture(kind))
    let clock = ContinuousClock()
    func seconds(_ count: Int) throws -> Double {
      let text = String(repeating: part, count: count / part.unicodeScalars.count)
      return try clock.measure { _ = try tokenizer.encodeIds(text) } / .seconds(1)
    }
    _ = try seconds(1000)
    // A quadratic step that takes a millisecond for 5 000 characters takes ten seconds for 500 000.
    let short = try seconds(5000)
    let long = try seconds(500_000)
    #expect(long < max(5, 1000 * short), "\(long) s, and \(short) s for a hundredth")
  }
}
