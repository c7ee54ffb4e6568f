/// A conversation to learn from: messages, each with a `role`, of which the assistant's are learnt.
public struct Conversation: Sendable, Equatable {
  /// The messages as they stand in the data, with everything that a template may ask of them.
  let messages: [JSONNode]
  /// The messages as JSON on one line, keys in order: the same for the same conversation.
  public let text: String

  /// A conversation of plain messages.
  /// - Throws: `ConversationFault`.
  public init(_ messages: [ChatMessage]) throws(ConversationFault) { try self.init(messages.map(\.node)) }

  /// Takes messages as they stand in a file.
  /// - Throws: `ConversationFault`.
  package init(_ messages: [JSONNode]) throws(ConversationFault) {
    var hasAnswer = false
    for (index, message) in messages.enumerated() {
      func fault(_ found: String, _ expected: String) -> ConversationFault {
        ConversationFault(message: index + 1, found: found, expected: expected)
      }
      guard case .object = message else { throw fault(message.kind, "an object with role and content") }
      guard case .string(let role) = message["role"] else {
        throw fault(message["role"].map { "the role \($0.kind)" } ?? "no role", "a role such as user or assistant")
      }
      let isCall = message["tool_calls"] != nil
      switch message["content"] {
      case .string: break
      case nil, .null: if !isCall { throw fault("no content", "a content that is a string") }
      case let other?: throw fault("a content that is \(other.kind)", "a string")
      }
      hasAnswer = hasAnswer || role == "assistant"
    }
    guard hasAnswer else {
      throw ConversationFault(
        message: nil,
        found: messages.isEmpty ? "no message" : "no message of the assistant",
        expected: "at least one with the role assistant: it is what is learnt"
      )
    }
    self.messages = messages
    var layout = TemplateValue.JSONLayout()
    layout.sortsKeys = true
    // JSON has a text for every value that came from it.
    text =
      (try? TemplateValue(.array(messages)).json(layout, at: TemplatePlace(line: 1, column: 1)))
      ?? "\(messages.count) messages"
  }

  /// Whether the message at this place is the assistant's.
  func isAnswer(_ place: Int) -> Bool {
    if case .string("assistant") = messages[place]["role"] { true } else { false }
  }

  /// Whether both are of the same messages.
  public static func == (left: Conversation, right: Conversation) -> Bool {
    left.text.utf8.elementsEqual(right.text.utf8)
  }
}

/// Messages that are no conversation to learn from.
public struct ConversationFault: Error, Equatable, CustomStringConvertible {
  /// The message, from 1; nil where the conversation as a whole is meant.
  public let message: Int?
  /// What is there.
  public let found: String
  /// What should be there.
  public let expected: String

  /// One sentence.
  public var description: String {
    "\(message.map { "message \($0): " } ?? "")found \(found), expected \(expected)"
  }
}

/// A conversation of a data set that cannot be made tokens.
public struct ConversationError: Error, CustomStringConvertible {
  /// Its place in the data set, from 1; nil where none can.
  public let record: Int?
  /// What is wrong, and what to do.
  public let reason: String

  /// Takes both.
  public init(record: Int?, reason: String) { (self.record, self.reason) = (record, reason) }

  /// One sentence.
  public var description: String { record.map { "conversation \($0) of the data: \(reason)" } ?? reason }
}
