import FedLoRAEngine
import Foundation
import Testing

/// Rows with messages: which column is taken, and what is no conversation.
@Suite("Conversations in data files")
struct ConversationDatasetTests {
  private func read(
    _ text: String,
    _ columns: DatasetColumns = DatasetColumns(),
    format: DatasetFormat = .jsonl
  ) throws -> Dataset {
    try DatasetReader.read(Array(text.utf8), name: "rows", format: format, columns: columns, task: .causalLM)
  }

  private static let pair = #"[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]"#

  @Test("are found by their usual name or a given one, with their client")
  func columns() throws {
    let usual = try read("{\"messages\": \(Self.pair), \"user\": \"u\", \"prompt\": \"x\", \"prompt_id\": 7}")
    let expected = try Conversation([
      ChatMessage(role: "user", content: "a"), ChatMessage(role: "assistant", content: "b"),
    ])
    #expect(usual.examples == [Example(conversation: expected, client: "u")])
    let named = try read("{\"talk\": \(Self.pair), \"text\": \"t\"}", DatasetColumns(messages: "talk"))
    #expect(named.examples.first?.conversation == expected)
    // Without a list in it the column is what it was: something else.
    #expect(try read(#"{"messages": "none", "text": "t"}"#).examples.first?.text == "t")
    let text = try read("{\"messages\": \(Self.pair), \"text\": \"t\"}", DatasetColumns(text: "text"))
    #expect(text.examples.first?.conversation == nil && text.examples.first?.text == "t")
  }

  @Test(
    "that are none are refused with line, message and what is right",
    arguments: [
      (#"[{"role": "user", "content": "a"}]"#, DatasetError.Code.badConversation, "assistant"),
      ("[]", .badConversation, "no message"),
      (#"[{"role": "user", "content": 7}, {"role": "assistant", "content": "b"}]"#, .badConversation, "message 1"),
      (#"[{"role": "user", "content": "a"}, {"role": "assistant"}]"#, .badConversation, "message 2"),
      (#"[{"role": "user", "content": ["a"]}, {"role": "assistant", "content": "b"}]"#, .badConversation, "an array"),
      (#"[{"from": "user", "value": "a"}, {"role": "assistant", "content": "b"}]"#, .badConversation, "no role"),
      (#"["a", "b"]"#, .badConversation, "object"), (#""a""#, .wrongKind, "array"), ("null", .missingColumn, "line 2"),
    ]
  )
  func refused(_ messages: String, _ code: DatasetError.Code, _ mention: String) throws {
    let error = #expect(throws: DatasetError.self) {
      try read("{\"messages\": \(Self.pair)}\n{\"messages\": \(messages)}")
    }
    #expect(error?.code == code && error?.line == 2, "\(error.map { "\($0)" } ?? "")")
    #expect(error.map { "\($0)" }?.contains(mention) == true, "\(error.map { "\($0)" } ?? "")")
  }

  @Test("beside a text that could be meant as well are refused until one is named")
  func ambiguous() throws {
    for other in [#""text": "t""#, #""prompt": "p", "response": "r""#] {
      let row = "{\"messages\": \(Self.pair), \(other)}"
      let error = #expect(throws: DatasetError.self) { try read(row) }
      #expect(error?.code == .ambiguousColumns)
      #expect(try read(row, DatasetColumns(messages: "messages")).examples.first?.conversation != nil)
    }
    #expect(throws: DatasetError.self) {
      try read("{\"messages\": \(Self.pair), \"text\": \"t\"}", DatasetColumns(text: "text", messages: "messages"))
    }
    #expect(throws: DatasetError.self) {
      try read("messages\n[]\n", DatasetColumns(messages: "messages"), format: .csv)
    }
  }

  @Test("are one record each: equal whatever the order of keys, another one where a word differs")
  func fingerprint() throws {
    let one = try read("{\"messages\": \(Self.pair)}")
    let same = try read(
      #"{"messages": [{"content": "a", "role": "user"}, {"content": "b", "role": "assistant"}]}"#
    )
    let other = try read(#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]}"#)
    #expect(DatasetFingerprint.of(one) == DatasetFingerprint.of(same))
    #expect(DatasetFingerprint.of(one) != DatasetFingerprint.of(other))
  }

  @Test("may hold calls of tools without content")
  func calls() throws {
    let data = try read(
      #"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null, "tool_calls": [{"f": 1.5}]}]}"#
    )
    #expect(data.examples.first?.conversation?.text.contains("1.5") == true)
  }
}
