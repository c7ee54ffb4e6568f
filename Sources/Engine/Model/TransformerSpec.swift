/// What a transformer is, as data. A family maps a Hugging Face `config.json` onto this; one forward and backward
/// pass reads it. Fields are added together with the first family that needs another value.
public struct TransformerSpec: Sendable, Equatable {
  /// Where the layer norms stand.
  public enum NormPlacement: String, Sendable {
    /// After the residual sum, as in BERT.
    case post
  }

  /// The activation of the feed-forward block.
  public enum Activation: String, Sendable {
    /// x Φ(x), exactly.
    case gelu
  }

  /// How a token's place enters.
  public enum Positions: String, Sendable {
    /// A learned table that is added to the word embedding.
    case learned
  }

  /// Which tokens a token attends to.
  public enum AttentionDirection: String, Sendable {
    /// Every token of its own sequence.
    case bidirectional
  }

  /// Name of the family, as `model_type` gives it.
  public let family: String
  /// Rows of the word embedding table.
  public let vocabularySize: Int
  /// Width of the residual stream.
  public let hiddenSize: Int
  /// Number of encoder layers.
  public let layerCount: Int
  /// Attention heads per layer; they divide `hiddenSize`.
  public let headCount: Int
  /// Width of the feed-forward block.
  public let feedForwardSize: Int
  /// Longest sequence in tokens.
  public let maximumPositions: Int
  /// Rows of the token type table; 0 where there is none.
  public let tokenTypeCount: Int
  /// ε inside the layer norms.
  public let normEpsilon: Float
  /// Where the layer norms stand.
  public let normPlacement: NormPlacement
  /// The feed-forward activation.
  public let activation: Activation
  /// How a token's place enters.
  public let positions: Positions
  /// Which tokens a token attends to.
  public let attention: AttentionDirection

  /// Width of one attention head.
  public var headSize: Int { hiddenSize / headCount }
}

/// The linear modules of one encoder layer, in the order in which they run.
public enum LayerModule: Int, Sendable, CaseIterable {
  /// Attention's queries.
  case query
  /// Attention's keys.
  case key
  /// Attention's values.
  case value
  /// The projection after attention.
  case attentionOutput
  /// The feed-forward block's widening projection.
  case feedForwardIn
  /// The feed-forward block's narrowing projection.
  case feedForwardOut
}

/// Where a family keeps its tensors, and what its modules are called to the outside (and so to PEFT).
public struct TensorNames: Sendable {
  /// `[vocabulary, hidden]`.
  public let wordEmbeddings: String
  /// `[positions, hidden]`.
  public let positionEmbeddings: String
  /// `[types, hidden]`, or nil where there are no token types.
  public let tokenTypeEmbeddings: String?
  /// Module of the norm after the embeddings.
  public let embeddingNorm: String
  /// Path of a layer's linear module, without `.weight`.
  public let module: @Sendable (_ layer: Int, _ module: LayerModule) -> String
  /// Path of a layer's norm after attention.
  public let attentionNorm: @Sendable (_ layer: Int) -> String
  /// Path of a layer's norm after the feed-forward block.
  public let feedForwardNorm: @Sendable (_ layer: Int) -> String
  /// Path of the pooler's linear module.
  public let pooler: String
  /// Prefixes under which the checkpoint may hold the tensors; the names above stand without any of them.
  public let prefixes: [String]
  /// Prefix that module names carry to the outside.
  public let modulePrefix: String
}
