/// What a run teaches a model.
public enum TaskKind: String, Codable, CaseIterable, Sendable {
  /// One class for a text or a pair of texts, by a head that is trained.
  case classification
  /// The next token of a text, by the model's own frozen head: PEFT's CAUSAL_LM.
  case causalLM = "causal-lm"

  /// PEFT's name, for `task_type`.
  public var peftName: String {
    switch self {
    case .classification: "SEQ_CLS"
    case .causalLM: "CAUSAL_LM"
    }
  }
}
