extension ChatTemplate {
  /// A conversation as a model is trained on it.
  public struct Written: Sendable, Equatable {
    /// The text; it holds the special tokens that belong to it.
    public let text: String
    /// Places of what the assistant says, in Unicode scalars of `text`, ascending and apart.
    public let answers: [Range<Int>]
  }

  /// Writes a conversation and finds what the assistant says in it.
  ///
  /// A template with `{% generation %}` says so itself. Of another the conversation is written up to each of the
  /// assistant's messages, with the opening of its turn, and again with that message: what the second has more is the
  /// assistant's, the end of its turn and all that the template writes behind it included. There is no date, as what is
  /// learnt is not to change from one day to the next.
  /// - Throws: `TemplateError`; of kind `answers` where the first is not how the second begins, or the second not how
  ///   the whole begins, so that no place is the message's own.
  public func written(_ conversation: Conversation, limits: TemplateLimits = TemplateLimits()) throws(TemplateError)
    -> Written
  {
    let messages = conversation.messages
    func write(_ count: Int, opens: Bool) throws(TemplateError) -> (text: String, marks: [Range<Int>], hidesMarks: Bool)
    {
      try written(
        .array(Array(messages.prefix(count))),
        values: [("add_generation_prompt", .bool(opens))],
        limits: limits
      )
    }
    let whole = try write(messages.count, opens: false)
    if Self.marksAnswers(body) {
      guard !whole.hidesMarks else {
        throw TemplateError(
          .answers,
          "{% generation %} stands in a macro or a {% set %} block, where its place in the text is not known",
          at: nil
        )
      }
      return Written(text: whole.text, answers: whole.marks.filter { !$0.isEmpty })
    }
    var answers: [Range<Int>] = []
    for place in messages.indices where conversation.isAnswer(place) {
      let given = try write(place, opens: true).text
      let said = try write(place + 1, opens: false).text
      guard said.utf8.starts(with: given.utf8), whole.text.utf8.starts(with: said.utf8) else {
        throw TemplateError(
          .answers,
          "what it writes of the messages before the assistant's message \(place + 1) is not how it begins the "
            + "conversation, so its tokens cannot be told from others; give the model a template that marks them with {% generation %}",
          at: nil
        )
      }
      let range = given.unicodeScalars.count..<said.unicodeScalars.count
      if !range.isEmpty { answers.append(range) }
    }
    return Written(text: whole.text, answers: answers)
  }

  /// What stands before the assistant's last message, with the opening of its turn, and the message; nil where it has
  /// no words.
  /// - Throws: `TemplateError`.
  func lastQuestion(of conversation: Conversation) throws(TemplateError) -> (given: String, answer: String)? {
    let messages = conversation.messages
    guard let place = messages.indices.last(where: conversation.isAnswer),
      case .string(let answer)? = messages[place]["content"]
    else { return nil }
    let given = try written(
      .array(Array(messages.prefix(place))),
      values: [("add_generation_prompt", .bool(true))]
    ).text
    return (given, answer)
  }

  /// Whether a template says itself what is the assistant's.
  private static func marksAnswers(_ body: [TemplateStatement]) -> Bool {
    body.contains { statement in
      switch statement.kind {
      case .generation: true
      case .condition(let branches, let otherwise):
        branches.contains { marksAnswers($0.body) } || marksAnswers(otherwise)
      case .loop(let loop): marksAnswers(loop.body) || marksAnswers(loop.otherwise)
      case .capture(_, _, let body): marksAnswers(body)
      case .macro(let macro): marksAnswers(macro.body)
      case .text, .output, .set, .leave, .next: false
      }
    }
  }
}
