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
  public internal(set) var feedForwardNorm: @Sendable (_ layer: Int) -> String
  /// Path of the norm on what attention gives; only where norms stand around the blocks.
  public internal(set) var attentionOutputNorm: (@Sendable (_ layer: Int) -> String)?
  /// Path of the norm on what the feed-forward block gives; only where norms stand around the blocks.
  public internal(set) var feedForwardOutputNorm: (@Sendable (_ layer: Int) -> String)?
  /// Paths of the norms of each head's query and key; only where heads are normed.
  public internal(set) var headNorms: (@Sendable (_ layer: Int) -> (query: String, key: String))?
  /// Module of the norm after the last layer, or nil where there is none.
  public let finalNorm: String?
  /// Path of the pooler's linear module, or nil where there is none.
  public let pooler: String?
  /// `[vocabulary, hidden]`, under no prefix: what turns vectors into the next token's logits. The word embeddings where nil.
  public let languageHead: String?
  /// Another name for the same tensor, in checkpoints of another age.
  public internal(set) var otherLanguageHead: String?
  /// Prefixes under which the checkpoint may hold the tensors; the names above stand without any of them.
  public let prefixes: [String]
  /// Prefix that module names carry to the outside.
  public let modulePrefix: String
}
