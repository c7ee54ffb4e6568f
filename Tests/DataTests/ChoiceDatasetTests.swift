import FedLoRAEngine
import Testing

/// Rows with answers to choose from.
@Suite("Choices in data files")
struct ChoiceDatasetTests {
  private func read(_ text: String) throws -> Dataset {
    try DatasetReader.read(
      Array(text.utf8),
      name: "rows",
      format: .jsonl,
      columns: DatasetColumns(choices: "options"),
      task: .causalLM
    )
  }

  @Test("name the right one by its text or its number")
  func right() throws {
    let data = try read(
      #"{"question": "q", "options": ["a", "b"], "answer": 1, "user": "u"}"# + "\n"
        + #"{"question": "r", "options": ["a", "b", "c"], "answer": "a", "user": "v"}"#
    )
    #expect(data.examples.map(\.pair) == ["b", "a"] && data.examples.map(\.choices.count) == [2, 3])
    #expect(data.examples.map(\.client) == ["u", "v"])
    // Without the column being named a number is an answer of its own.
    let plain = try DatasetReader.read(
      Array(#"{"question": "q", "options": ["a", "b"], "answer": 1}"#.utf8),
      name: "rows",
      format: .jsonl,
      task: .causalLM
    )
    #expect(plain.examples.first?.pair == "1" && plain.examples.first?.choices.isEmpty == true)
  }

  @Test(
    "that are none are refused with their line",
    arguments: [
      (#"["a", "b"]"#, "2"), (#"["a", "b"]"#, "-1"), (#"["a", "b"]"#, #""c""#), (#"["a"]"#, "0"), (#"["a", "a"]"#, "0"),
      (#"["a", 7]"#, "0"), (#"["a", " "]"#, "0"), (#""a""#, "0"),
    ]
  )
  func refused(_ options: String, _ answer: String) throws {
    let error = #expect(throws: DatasetError.self) {
      try read("{\"question\": \"q\", \"options\": \(options), \"answer\": \(answer)}")
    }
    #expect(error?.code == .badChoices && error?.line == 1)
  }
}
