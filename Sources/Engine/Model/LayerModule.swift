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
  /// The gate of a gated feed-forward block.
  case feedForwardGate
  /// Queries, keys and values by one module.
  case queryKeyValue
  /// The gate and what it gates by one module.
  case feedForwardGateIn
}

extension LayerModule {
  /// Input and output width of the module in a model of this shape.
  func sizes(_ spec: TransformerSpec) -> (input: Int, output: Int) {
    switch self {
    case .query: (spec.hiddenSize, spec.queryWidth)
    case .key, .value: (spec.hiddenSize, spec.keyValueWidth)
    case .queryKeyValue: (spec.hiddenSize, spec.queryWidth + 2 * spec.keyValueWidth)
    case .attentionOutput: (spec.queryWidth, spec.hiddenSize)
    case .feedForwardIn, .feedForwardGate: (spec.hiddenSize, spec.feedForwardSize)
    case .feedForwardGateIn: (spec.hiddenSize, 2 * spec.feedForwardSize)
    case .feedForwardOut: (spec.feedForwardSize, spec.hiddenSize)
    }
  }
}
