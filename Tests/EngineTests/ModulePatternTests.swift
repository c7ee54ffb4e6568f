import FedLoRAEngine
import Testing

@Suite("Patterns of target modules")
struct ModulePatternTests {
  private func matches(_ pattern: String, _ path: String) throws -> Bool {
    try TargetModules.pattern(pattern).matches(path)
  }

  @Test("answer as the standard library's regular expressions do, for random patterns and paths")
  func oracle() throws {
    var generator = SeededGenerator(seed: 7)
    func number(_ limit: Int) -> Int { Int(generator.next() >> 1) % limit }
    func pattern(_ depth: Int) -> String {
      let atoms = ["a", "b", "0", ".", "\\.", "[ab]", "[^a]", "[a-z0]", "\\d", "\\w", "_"]
      func atom() -> String {
        depth > 0 && number(4) == 0
          ? (number(2) == 0 ? "(" : "(?:") + pattern(depth - 1) + ")" : atoms[number(atoms.count)]
      }
      let repetitions = ["", "", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "*?", "+?"]
      let parts = (0...number(3)).map { _ in
        (0...number(3)).map { _ in atom() + repetitions[number(repetitions.count)] }.joined()
      }
      return parts.prefix(1 + number(2)).joined(separator: "|")
    }
    var positive = 0
    for _ in 0..<1500 {
      let text = pattern(2)
      let expected = try Regex("(?:\(text))")
      for _ in 0..<8 {
        let path = (0..<number(6)).map { _ in ["a", "b", "0", ".", "_"][number(5)] }.joined()
        let isMatch = try expected.wholeMatch(in: path) != nil
        #expect(try matches(text, path) == isMatch, "\(text) on \(path)")
        if isMatch { positive += 1 }
      }
    }
    #expect(positive > 500)
  }

  @Test(
    "take no longer for a pattern that tries every way",
    arguments: ["(.|.)*x", "(a*)*b", "((.*)*)*x", "(.?){40}.{40}x", "(a|b|ab|e|.)+x"]
  )
  func hostile(pattern: String) throws {
    let path = "bert.encoder.layer.11.attention.self.query.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    let start = ContinuousClock().now
    #expect(try !matches(pattern, path))
    #expect(start.duration(to: ContinuousClock().now) < .seconds(2))
  }

  @Test(
    "that are no regular expressions, or too large ones, are refused by name",
    arguments: [
      "(", ")", "a)", "*a", "a**", "[a", "[b-a]", "\\", "\\b", "(?=a)", "a{2,1}", "a{9999}", "((a{1000}){1000}){1000}",
      "a$b",
    ]
      + ["(((){1000}){1000}){1000}", String(repeating: "(", count: 5000)]
  )
  func refused(pattern: String) {
    #expect(throws: ModelError.self) { try matches(pattern, "a") }
  }

  @Test("may name both ends")
  func anchors() throws {
    #expect(try matches("^.*\\.(query|value)$", "layer.0.query"))
    #expect(try !matches("^query$", "layer.0.query"))
    #expect(try matches("[]a.-]+", "]a.-"))
  }
}
