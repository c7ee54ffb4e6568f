/// Gemma and Gemma 2.
enum GemmaFamily {
  static let modelTypes = ["gemma", "gemma2"]

  static func spec(_ config: HuggingFaceConfiguration, _ modelType: String) throws -> TransformerSpec {
    let isSecond = modelType == "gemma2"
    var activation = try config.activation(
      isSecond ? "hidden_activation" : "hidden_act",
      default: "gelu_pytorch_tanh"
    )
    // The first releases said "gelu" and meant its tanh form.
    if !isSecond, activation == .gelu { activation = .geluTanh }
    try config.refuseIfTrue("use_bidirectional_attention", supported: "causal attention (false)")
    let heads = try config.count("num_attention_heads")
    let headSize = try config.count("head_dim", default: 256)
    guard headSize % 2 == 0 else { throw config.bad("head_dim", "an even number") }
    let hidden = try config.count("hidden_size")
    let window = isSecond ? try config.countOrNull("sliding_window", default: 4096) : nil
    var spec = TransformerSpec(
      family: modelType,
      vocabularySize: try config.count("vocab_size"),
      hiddenSize: hidden,
      layerCount: try config.count("num_hidden_layers"),
      headCount: heads,
      keyValueHeadCount: try config.keyValueHeads(heads: heads, default: isSecond ? 4 : 16),
      headSize: headSize,
      feedForwardSize: try config.count("intermediate_size"),
      maximumPositions: try config.count("max_position_embeddings", default: 8192),
      positionOffset: 0,
      tokenTypeCount: 0,
      normEpsilon: Float(try config.number("rms_norm_eps", default: 1e-6)),
      normKind: .rootMeanSquare,
      normPlacement: isSecond ? .around : .pre,
      feedForward: .init(activation: activation, isGated: true),
      positions: .rotary(try RotaryPositions(config, headSize: headSize)),
      attention: .causal(window: window),
      modulesWithoutBias: Set(LayerModule.allCases).subtracting(
        try config.flag("attention_bias") ? [.query, .key, .value, .attentionOutput] : []
      )
    )
    spec.normOffset = 1
    spec.embeddingScale = Float(Double(hidden).squareRoot())
    guard isSecond else { return spec }
    let scalar = try config.number("query_pre_attn_scalar", default: 256)
    guard scalar > 0 else { throw config.bad("query_pre_attn_scalar", "a positive number") }
    spec.attentionFactor = Float(1 / scalar.squareRoot())
    spec.attentionCap = try config.positiveOrNull("attn_logit_softcapping", default: 50).map { Float($0) }
    spec.logitCap = try config.positiveOrNull("final_logit_softcapping", default: 30).map { Float($0) }
    spec.windowedLayers = try config.windowedLayers() ?? .even
    return spec
  }

  static func names(_ modelType: String, isTied: Bool) -> TensorNames {
    var names = TensorNames.llama(isTied: isTied)
    if modelType == "gemma2" {
      names.feedForwardNorm = { "layers.\($0).pre_feedforward_layernorm" }
      names.attentionOutputNorm = { "layers.\($0).post_attention_layernorm" }
      names.feedForwardOutputNorm = { "layers.\($0).post_feedforward_layernorm" }
    }
    return names
  }
}
