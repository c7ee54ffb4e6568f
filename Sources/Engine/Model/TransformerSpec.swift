/// What a transformer is, as data. A family maps a Hugging Face `config.json` onto this; one forward and backward
/// pass reads it. Fields are added together with the first family that needs another value.
public struct TransformerSpec: Sendable, Equatable {
  /// How a vector is normed.
  public enum NormKind: String, Sendable {
    /// Mean 0 and variance 1, then scaled and shifted.
    case layer
    /// Mean square 1, then scaled.
    case rootMeanSquare
  }

  /// Where the norms stand.
  public enum NormPlacement: String, Sendable {
    /// After the residual sum, as in BERT.
    case post
    /// Before attention and before the feed-forward block, and once after the last layer, as in Llama.
    case pre
  }

  /// The feed-forward block.
  public enum FeedForward: String, Sendable {
    /// W₂ gelu(W₁ x), with the exact gelu x Φ(x).
    case gelu
    /// W₂ (silu(W_gate x) ∘ W₁ x).
    case gatedSilu
  }

  /// How a token's place enters.
  public enum Positions: Sendable, Equatable {
    /// A learned table that is added to the word embedding.
    case learned
    /// Queries and keys are turned by angles that grow with the place.
    case rotary(RotaryPositions)
  }

  /// Which tokens a token attends to.
  public enum AttentionDirection: Sendable, Equatable {
    /// Every token of its own sequence.
    case bidirectional
    /// Itself and those before it in its own sequence, at most `window` in all; nil for all of them.
    case causal(window: Int?)
  }

  /// Name of the family, as `model_type` gives it.
  public let family: String
  /// Rows of the word embedding table.
  public let vocabularySize: Int
  /// Width of the residual stream.
  public let hiddenSize: Int
  /// Number of encoder layers.
  public let layerCount: Int
  /// Heads of queries in a layer.
  public let headCount: Int
  /// Heads of keys and values, each shared by `headCount / keyValueHeadCount` heads of queries.
  public let keyValueHeadCount: Int
  /// Width of one attention head.
  public let headSize: Int
  /// Width of the feed-forward block.
  public let feedForwardSize: Int
  /// Longest sequence in tokens.
  public let maximumPositions: Int
  /// Row of a learned position table at which a sequence's first token stands.
  public let positionOffset: Int
  /// Rows of the token type table; 0 where there is none.
  public let tokenTypeCount: Int
  /// ε inside the norms.
  public let normEpsilon: Float
  /// How a vector is normed.
  public let normKind: NormKind
  /// Where the norms stand.
  public let normPlacement: NormPlacement
  /// The feed-forward block.
  public let feedForward: FeedForward
  /// How a token's place enters.
  public let positions: Positions
  /// Which tokens a token attends to.
  public let attention: AttentionDirection
  /// The linear modules of a layer that have no bias.
  public let modulesWithoutBias: Set<LayerModule>

  /// Width of all heads of queries together.
  public var queryWidth: Int { headCount * headSize }
  /// Width of all heads of keys, or of values, together.
  public var keyValueWidth: Int { keyValueHeadCount * headSize }
  /// Elements of each head that rotary positions turn; 0 where positions are learned.
  var rotaryWidth: Int {
    if case .rotary(let rotary) = positions { return rotary.width }
    return 0
  }
  /// Whether it can predict the next token.
  public var isDecoder: Bool { attention != .bidirectional }
  /// The linear modules of a layer, by `LayerModule.rawValue`.
  var modules: [LayerModule] {
    LayerModule.allCases.filter { $0 != .feedForwardGate || feedForward == .gatedSilu }
  }
}

/// The linear modules of one layer.
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
  /// The gate of a gated feed-forward block; other blocks have none, so it is the last.
  case feedForwardGate
}

/// Where a family keeps its tensors, and what its modules are called to the outside (and so to PEFT).
public struct TensorNames: Sendable {
  /// `[vocabulary, hidden]`.
  public let wordEmbeddings: String
  /// `[positions, hidden]`, or nil where positions are not learned.
  public let positionEmbeddings: String?
  /// `[types, hidden]`, or nil where there are no token types.
  public let tokenTypeEmbeddings: String?
  /// Module of the norm after the embeddings, or nil where there is none.
  public let embeddingNorm: String?
  /// Path of a layer's linear module, without `.weight`.
  public let module: @Sendable (_ layer: Int, _ module: LayerModule) -> String
  /// Path of a layer's norm after attention, or before it where norms stand before.
  public let attentionNorm: @Sendable (_ layer: Int) -> String
  /// Path of a layer's norm after the feed-forward block, or before it where norms stand before.
  public let feedForwardNorm: @Sendable (_ layer: Int) -> String
  /// Module of the norm after the last layer, or nil where there is none.
  public let finalNorm: String?
  /// Path of the pooler's linear module, or nil where there is none.
  public let pooler: String?
  /// `[vocabulary, hidden]`, under no prefix: what turns vectors into the next token's logits. The word embeddings where nil.
  public let languageHead: String?
  /// Prefixes under which the checkpoint may hold the tensors; the names above stand without any of them.
  public let prefixes: [String]
  /// Prefix that module names carry to the outside.
  public let modulePrefix: String
}
