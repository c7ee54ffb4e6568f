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
    /// As `pre`, and also on what each of the two blocks gives before it is added, as in Gemma 2.
    case around
  }

  /// The feed-forward block: W₂ f(W₁ x), or W₂ (f(W_gate x) ∘ W₁ x) where it is gated.
  public struct FeedForward: Sendable, Equatable {
    /// The function f.
    public let activation: Activation
    /// Whether it has a gate.
    public let isGated: Bool

    /// The exact GELU without a gate, as in BERT.
    public static let gelu = FeedForward(activation: .gelu, isGated: false)
    /// SiLU with a gate, as in Llama.
    public static let gatedSilu = FeedForward(activation: .silu, isGated: true)
  }

  /// How queries, keys and values are projected.
  public enum QueryKeyValue: String, Sendable {
    /// Each by a module of its own.
    case separate
    /// By one module, whose outputs are all queries, then all keys, then all values.
    case blocks
    /// By one module, whose outputs are one head's queries, keys and values, then the next head's.
    case byHead = "by-head"
  }

  /// What the feed-forward block of a layer reads.
  public enum Residual: String, Sendable {
    /// The sum after attention: u = x + attention(norm(x)), y = u + F(norm(u)).
    case sequential
    /// The layer's own input: y = x + attention(norm(x)) + F(norm'(x)), as in GPT-J and GPT-NeoX.
    case parallel
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
  /// Which tokens a token attends to, in the layers that `windowedLayers` chooses.
  public let attention: AttentionDirection
  /// The linear modules of a layer that have no bias.
  public let modulesWithoutBias: Set<LayerModule>
  /// How queries, keys and values are projected.
  public internal(set) var queryKeyValue = QueryKeyValue.separate
  /// Whether one module gives the gate and what it gates, in this order.
  public internal(set) var fusesGate = false
  /// Whether weights stand as inputs × outputs rather than outputs × inputs.
  public internal(set) var storesInputsFirst = false
  /// What the feed-forward block reads.
  public internal(set) var residual = Residual.sequential
  /// Added to a norm's stored weight: 1 where a family stores the difference from one.
  public internal(set) var normOffset: Float = 0
  /// Whether each head's query and key are normed before they are turned.
  public internal(set) var normsHeads = false
  /// Factor on the word embeddings.
  public internal(set) var embeddingScale: Float = 1
  /// What the scores are scaled by, where that is not 1 / √headSize.
  public internal(set) var attentionFactor: Float?
  /// c of the attention scores' soft bound c · tanh(score / c); nil for none.
  public internal(set) var attentionCap: Float?
  /// c of the logits' soft bound c · tanh(logit / c); nil for none.
  public internal(set) var logitCap: Float?
  /// The layers whose attention has the window; others see everything before.
  public internal(set) var windowedLayers = LayerChoice.all
  /// The layers whose queries and keys are turned, where positions are rotary.
  public internal(set) var rotaryLayers = LayerChoice.all

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
  /// What the attention scores are scaled by.
  var attentionScale: Float { attentionFactor ?? 1 / Float(headSize).squareRoot() }
  /// Which tokens a token of layer `layer` attends to.
  public func attention(of layer: Int) -> AttentionDirection {
    if case .causal = attention, !windowedLayers.contains(layer) { return .causal(window: nil) }
    return attention
  }
  /// Whether layer `layer` turns its queries and keys.
  func rotates(_ layer: Int) -> Bool { rotaryWidth > 0 && rotaryLayers.contains(layer) }
  /// Whether a layer has the linear module.
  func has(_ module: LayerModule) -> Bool {
    switch module {
    case .query, .key, .value: queryKeyValue == .separate
    case .queryKeyValue: queryKeyValue != .separate
    case .feedForwardGate: feedForward.isGated && !fusesGate
    case .feedForwardIn: !fusesGate
    case .feedForwardGateIn: fusesGate
    case .attentionOutput, .feedForwardOut: true
    }
  }
  /// The linear modules of a layer.
  var modules: [LayerModule] { LayerModule.allCases.filter(has) }
}
