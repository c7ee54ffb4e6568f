/// Phi-3 and the models of its shape: Phi-3.5-mini, Phi-4 and Phi-4-mini.
enum Phi3Family {
  static let modelType = "phi3"

  static func spec(_ config: HuggingFaceConfiguration) throws -> TransformerSpec {
    let activation = try config.activation("hidden_act", default: "silu")
    let hidden = try config.count("hidden_size")
    let heads = try config.count("num_attention_heads")
    let headSize = try config.headSize(hidden: hidden, heads: heads)
    let original = try config.count("original_max_position_embeddings", default: 4096)
    let rotary = try RotaryPositions(
      config,
      headSize: headSize,
      usual: .init(kinds: ["default", "longrope", "su"], originalPositions: original)
    )
    var most = try config.count("max_position_embeddings", default: 4096)
    // Longer sequences turn by other frequencies than shorter ones; only the shorter ones are supported.
    if case .long = rotary.scaling { most = min(most, original) }
    var spec = TransformerSpec(
      family: modelType,
      vocabularySize: try config.count("vocab_size"),
      hiddenSize: hidden,
      layerCount: try config.count("num_hidden_layers"),
      headCount: heads,
      keyValueHeadCount: try config.keyValueHeads(heads: heads, default: heads),
      headSize: headSize,
      feedForwardSize: try config.count("intermediate_size"),
      maximumPositions: most,
      positionOffset: 0,
      tokenTypeCount: 0,
      normEpsilon: Float(try config.number("rms_norm_eps", default: 1e-5)),
      normKind: .rootMeanSquare,
      normPlacement: .pre,
      feedForward: .init(activation: activation, isGated: true),
      positions: .rotary(rotary),
      attention: .causal(window: try config.countOrNull("sliding_window", default: nil)),
      modulesWithoutBias: Set(LayerModule.allCases)
    )
    spec.queryKeyValue = .blocks
    spec.fusesGate = true
    return spec
  }
}
