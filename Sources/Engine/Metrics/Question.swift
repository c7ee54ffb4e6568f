/// A question of a held-out set for a language model.
public struct Question: Sendable, Equatable {
  /// The tokens that the model is given.
  public let given: [Int32]
  /// The right answer.
  public let answer: String
  /// Each answer to choose from, with its tokens behind the given ones; empty where there are none.
  public let choices: [(text: String, tokens: Continuation)]
  /// The right one's place among them.
  public let right: Int?

  /// The question that an example asks; nil for one without an answer, such as a text that is learnt whole.
  ///
  /// Given is what training gives: the prompt in its format, or a conversation up to the assistant's last message with
  /// the opening of its turn. White space at a prompt's end belongs to the answer, because most tokenizers keep a space
  /// with the word behind.
  /// - Throws: `TokenizerError`, or `TemplateError`.
  public init?(
    _ example: Example,
    tokenizer: Tokenizer,
    format: PromptFormat,
    endOfText: Int32?,
    template: ChatTemplate?
  ) throws {
    if let conversation = example.conversation {
      guard let template, let (given, answer) = try template.lastQuestion(of: conversation) else { return nil }
      self.given = try tokenizer.encodeIds(given, addSpecialTokens: false).ids
      self.answer = answer
      (choices, right) = ([], nil)
      return
    }
    guard let answer = example.pair else { return nil }
    var context = format.given(example.text).unicodeScalars[...]
    while context.last?.properties.isWhitespace == true { context.removeLast() }
    var ids = try tokenizer.encodeIds(String(context)).ids
    if let endOfText, ids.last == endOfText { ids.removeLast() }
    given = ids
    self.answer = answer
    choices = try example.choices.map { choice in
      let pair = try Continuation(context: format.given(example.text), ending: choice, tokenizer: tokenizer)
      return (choice, pair)
    }
    right = example.choices.firstIndex { $0.utf8.elementsEqual(answer.utf8) }
  }

  /// Whether both ask the same.
  public static func == (left: Question, right: Question) -> Bool {
    left.given == right.given && left.answer == right.answer && left.right == right.right
      && left.choices.elementsEqual(right.choices) { $0.text == $1.text && $0.tokens == $1.tokens }
  }
}

/// How questions are asked.
public struct Asking: Sendable {
  /// When a generated answer is right; nil generates none.
  public let match: AnswerMatch?
  /// Most tokens of an answer.
  public let maximumNewTokens: Int
  /// Tokens that end one.
  public let stopTokens: Set<Int32>
  /// What the likelihood of an answer to choose is divided by.
  public let choiceLength: MultipleChoice.Length
  /// Of the model.
  public let tokenizer: Tokenizer

  /// Takes all parts.
  public init(
    match: AnswerMatch?,
    maximumNewTokens: Int,
    stopTokens: Set<Int32>,
    choiceLength: MultipleChoice.Length,
    tokenizer: Tokenizer
  ) {
    self.match = match
    self.maximumNewTokens = maximumNewTokens
    self.stopTokens = stopTokens
    self.choiceLength = choiceLength
    self.tokenizer = tokenizer
  }
}

/// Examples that a model has not learnt from, and the questions that are asked of a language model.
public struct HeldOut: Sendable {
  /// The examples.
  public let examples: [EncodedExample]
  /// Questions; empty for a classifier or a regression.
  public let questions: [Question]
  /// How they are asked; nil asks none.
  public let asking: Asking?

  /// Takes all parts.
  public init(examples: [EncodedExample], questions: [Question] = [], asking: Asking? = nil) {
    self.examples = examples
    self.questions = questions
    self.asking = asking
  }
}

/// Right answers of so many.
public struct AnswerScore: Sendable, Equatable {
  /// Answers.
  public var count = 0
  /// Right ones.
  public var right = 0

  /// Nothing seen yet.
  public init(count: Int = 0, right: Int = 0) { (self.count, self.right) = (count, right) }

  /// Their share; nil of none.
  public var share: Double? { count == 0 ? nil : Double(right) / Double(count) }

  /// Both together.
  public static func + (left: AnswerScore, right: AnswerScore) -> AnswerScore {
    AnswerScore(count: left.count + right.count, right: left.right + right.right)
  }
}
