import FedLoRAEngine

/// How a language model is asked on held-out examples: its owner's choice, no term of a run.
public struct QuestionTerms: Sendable, Equatable {
  /// When a generated answer is right; nil generates none.
  public let match: AnswerMatch?
  /// Most tokens of an answer.
  public let maximumNewTokens: Int
  /// What the likelihood of an answer to choose is divided by.
  public let choiceLength: MultipleChoice.Length

  /// Takes all parts.
  public init(
    match: AnswerMatch? = nil,
    maximumNewTokens: Int = 64,
    choiceLength: MultipleChoice.Length = .characters
  ) {
    self.match = match
    self.maximumNewTokens = maximumNewTokens
    self.choiceLength = choiceLength
  }
}
