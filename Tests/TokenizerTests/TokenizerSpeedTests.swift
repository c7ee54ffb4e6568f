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
}
