/// Llama 2 and 3 and the models of their shape: TinyLlama, SmolLM and SmolLM3, Mistral, Qwen2 and Qwen3.
enum LlamaFamily {
  static let modelTypes = ["llama", "mistral", "qwen2", "qwen3", "smollm3"]

  static func spec(_ config: HuggingFaceConfiguration, _ modelType: String) throws -> TransformerSpec {
    let activation = try config.activation("hidden_act", default: "silu")
    let hidden = try config.count("hidden_size")
    let heads = try config.count("num_attention_heads")
    // What transformers takes where the key is absent.
    let usual = ["mistral": 8, "qwen2": 32, "qwen3": 32, "smollm3": 4][modelType] ?? heads
    let usualHead = modelType == "qwen3" ? 128 : nil
    let headSize =
      try usualHead.map { try config.count("head_dim", default: $0) }
      ?? config.headSize(hidden: hidden, heads: heads)
    guard headSize % 2 == 0 else { throw config.bad("head_dim", "an even number") }
    var withoutBias = Set(LayerModule.allCases)
    if modelType == "qwen2" { withoutBias.subtract([.query, .key, .value]) }
    if modelType == "llama" || modelType == "qwen3" || modelType == "smollm3" {
      if try config.flag("attention_bias") { withoutBias.subtract([.query, .key, .value, .attentionOutput]) }
    }
    if modelType == "llama" || modelType == "smollm3" {
      if try config.flag("mlp_bias") { withoutBias.subtract([.feedForwardGate, .feedForwardIn, .feedForwardOut]) }
    }
    let (window, windowed) = try window(config, modelType)
    var spec = TransformerSpec(
      family: modelType,
      vocabularySize: try config.count("vocab_size"),
      hiddenSize: hidden,
      layerCount: try config.count("num_hidden_layers"),
      headCount: heads,
      keyValueHeadCount: try config.keyValueHeads(heads: heads, default: usual),
      headSize: headSize,
      feedForwardSize: try config.count("intermediate_size"),
      maximumPositions: try config.count("max_position_embeddings"),
      positionOffset: 0,
      tokenTypeCount: 0,
      normEpsilon: Float(try config.number("rms_norm_eps", default: 1e-6)),
      normKind: .rootMeanSquare,
      normPlacement: .pre,
      feedForward: .init(activation: activation, isGated: true),
      positions: .rotary(
        try RotaryPositions(config, headSize: headSize, usual: .init(base: modelType == "smollm3" ? 2e6 : 10_000))
      ),
      attention: .causal(window: window),
      modulesWithoutBias: withoutBias
    )
    spec.windowedLayers = windowed
    spec.normsHeads = modelType == "qwen3"
    if modelType == "smollm3" {
      let turned = try config.numbers("no_rope_layers")
      spec.rotaryLayers =
        try turned.map { .listed($0.map { $0 != 0 }) }
        ?? .allButEvery(config.count("no_rope_layer_interval", default: 4))
    }
    return spec
  }

  /// The window of attention, and the layers that have it.
  private static func window(
    _ config: HuggingFaceConfiguration,
    _ modelType: String
  ) throws -> (Int?, LayerChoice) {
    switch modelType {
    case "mistral":
      return (try config.countOrNull("sliding_window", default: 4096), .all)
    case "qwen2", "qwen3":
      guard try config.flag("use_sliding_window") else { return (nil, .all) }
      let first = try config.index("max_window_layers", default: 28)
      return (
        try config.countOrNull("sliding_window", default: 4096), try config.windowedLayers() ?? .from(first)
      )
    default:
      try config.refuseIfTrue("use_sliding_window", supported: "false for \(modelType)")
      return (nil, .all)
    }
  }
}
