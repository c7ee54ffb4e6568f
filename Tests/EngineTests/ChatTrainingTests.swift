import FedLoRAEngine
import Foundation
import Testing

/// Conversations as training data, against transformers' `apply_chat_template` (Tests/Oracles/make_chat_fixtures.py).
@Suite("Conversations to learn from")
struct ChatTrainingTests {
  private struct Case {
    let name: String
    let template: ChatTemplate
    let messages: [ChatMessage]
    /// Nil where the conversation is to be refused.
    let expected: (ids: [Int32], mask: [Int])?
  }

  private static let folder = OracleFolder.packageRoot.appendingPathComponent("Tests/EngineTests/Fixtures/chat")

  private static func cases() throws -> [Case] {
    struct File: Decodable {
      struct Message: Decodable { let role, content: String }
      struct Case: Decodable {
        let name, template: String
        let messages: [Message]
        let ids: [Int32]?
        let mask: [Int]?
      }
      let tokens: [String: String]
      let cases: [Case]
    }
    let file = try JSONDecoder().decode(File.self, from: Data(contentsOf: folder.appendingPathComponent("chat.json")))
    return try file.cases.map { each in
      Case(
        name: each.name,
        template: try ChatTemplate(text: each.template, specialTokens: file.tokens),
        messages: each.messages.map { ChatMessage(role: $0.role, content: $0.content) },
        expected: each.ids.flatMap { ids in each.mask.map { (ids, $0) } }
      )
    }
  }

  private func encoded(_ each: Case, maxLength: Int = 4096) throws -> EncodedExample {
    let example = Example(conversation: try Conversation(each.messages))
    return try #require(
      try TokenizedDataset(
        language: Dataset(examples: [example], labels: []),
        tokenizer: Tokenizer.load(from: Self.folder.appendingPathComponent("tokenizer.json")),
        format: .plain,
        endOfText: 1,
        maxLength: maxLength,
        template: each.template
      ).examples.first
    )
  }

  private func mask(_ example: EncodedExample) -> [Int] {
    example.ids.indices.map { place in example.targets.contains { $0.contains(place) } ? 1 : 0 }
  }

  @Test("have transformers' tokens, and its mask or that of their beginnings")
  func oracle() throws {
    var (written, refused) = (0, 0)
    for each in try Self.cases() {
      let comment: Comment = "\(each.name): \(each.messages.map(\.content))"
      guard let expected = each.expected else {
        #expect(throws: ConversationError.self, comment) { try encoded(each) }
        refused += 1
        continue
      }
      guard expected.mask.contains(1) else {
        #expect(throws: ModelError.self, comment) { try encoded(each) }
        continue
      }
      let found = try encoded(each)
      #expect(found.ids == expected.ids, comment)
      #expect(mask(found) == expected.mask, comment)
      written += 1
    }
    #expect(written > 40 && refused > 20)
  }

  @Test("that are too long lose their end, and with it what would have been learnt there")
  func truncation() throws {
    let each = try #require(try Self.cases().first { $0.name == "smollm" && $0.messages.count == 5 })
    let expected = try #require(each.expected)
    let first = try #require(expected.mask.firstIndex(of: 1))
    for length in [first + 1, first + 3, expected.ids.count - 2, expected.ids.count, expected.ids.count + 9] {
      let found = try encoded(each, maxLength: length)
      #expect(found.ids == Array(expected.ids.prefix(length)))
      #expect(mask(found) == Array(expected.mask.prefix(length)))
    }
    #expect(throws: ModelError.self) { try encoded(each, maxLength: first) }
  }

  @Test("are refused with the message where a template writes their beginnings otherwise, and where it hides its marks")
  func refused() throws {
    let messages = [ChatMessage(role: "user", content: "a"), ChatMessage(role: "assistant", content: "b")]
    let conversation = try Conversation(messages)
    let counting = try ChatTemplate(text: "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}")
    let error = #expect(throws: TemplateError.self) { try counting.written(conversation) }
    #expect(error?.kind == .answers && error.map { "\($0)" }?.contains("message 2") == true)
    #expect(error.map { "\($0)" }?.contains("{% generation %}") == true)
    let hidden = try ChatTemplate(
      text: "{% macro m(x) %}{% generation %}{{ x }}{% endgeneration %}{% endmacro %}{{ m(messages[1].content) }}"
    )
    #expect(throws: TemplateError.self) { try hidden.written(conversation) }
    let marked = try ChatTemplate(
      text: "é{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        + "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    )
    #expect(try marked.written(conversation).answers == [2..<3])
    // A template that would take today's date takes its own here: what is learnt does not change overnight.
    let dated = try ChatTemplate(
      text: "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}then{% endif %}"
        + "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    #expect(try dated.written(conversation).text == "thenab")
  }
}
