/// What a run teaches a model.
public enum TaskKind: String, Codable, CaseIterable, Sendable {
  /// One class for a text or a pair of texts, by a head that is trained.
  case classification
  /// One number for a text or a pair of texts, by a head that is trained on the squared error: transformers' classifier
  /// with one label and `problem_type` regression.
  case regression
  /// The next token of a text, by the model's own frozen head: PEFT's CAUSAL_LM.
  case causalLM = "causal-lm"

  /// PEFT's name, for `task_type`.
  public var peftName: String {
    switch self {
    case .classification, .regression: "SEQ_CLS"
    case .causalLM: "CAUSAL_LM"
    }
  }

  /// Whether examples belong to classes, which have names.
  public var hasClasses: Bool { self == .classification }

  /// The head that is trained; nil for a language model, which has its own.
  public func head(labelCount: Int, pooling: Pooling) -> ClassificationHead? {
    switch self {
    case .classification: ClassificationHead(labelCount: labelCount, pooling: pooling)
    case .regression: .regression(pooling: pooling)
    case .causalLM: nil
    }
  }
}
