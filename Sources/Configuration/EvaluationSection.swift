import FedLoRAClient
import FedLoRAEngine

/// How language models are asked on held-out examples.
public struct EvaluationSection: Codable, Sendable, Equatable {
  /// When a generated answer is right: `plain`, `squad`, `gsm8k`, `last-number`; or `none`, and no answer is generated.
  public var answers: String
  /// Most tokens of an answer.
  public var maxNewTokens: Int
  /// Most questions that are asked of a client's model, and of the pooled set; 0 asks all.
  public var questions: Int
  /// What the likelihood of an answer to choose is divided by: `none`, `tokens`, `characters` or `bytes`.
  public var choiceLength: String
  enum CodingKeys: String, CodingKey {
    case answers
    case maxNewTokens = "max_new_tokens"
    case questions
    case choiceLength = "choice_length"
  }

  static let defaults = """
    evaluation:
      answers: none
      max_new_tokens: 64
      questions: 0
      choice_length: characters
    """

  /// What the defaults say.
  public static let standard = EvaluationSection(
    answers: "none",
    maxNewTokens: 64,
    questions: 0,
    choiceLength: MultipleChoice.Length.characters.rawValue
  )

  /// The section in the client's words.
  public var terms: QuestionTerms {
    QuestionTerms(
      match: AnswerMatch(rawValue: answers),
      maximumNewTokens: maxNewTokens,
      choiceLength: MultipleChoice.Length(rawValue: choiceLength) ?? .characters
    )
  }

  func validate(_ ranges: Ranges, task: TaskKind) throws {
    try ranges.oneOf(["none"] + AnswerMatch.allCases.map(\.rawValue), answers, "evaluation.answers")
    try ranges.require(
      answers == "none" || task == .causalLM,
      "evaluation.answers",
      "is \(answers), but model.task is \(task.rawValue); only causal-lm generates answers"
    )
    try ranges.atLeast(1, maxNewTokens, "evaluation.max_new_tokens")
    try ranges.atLeast(0, questions, "evaluation.questions")
    try ranges.oneOf(MultipleChoice.Length.allCases.map(\.rawValue), choiceLength, "evaluation.choice_length")
  }
}
