/// GPT-2 and the models of its shape: DistilGPT2, DialoGPT.
enum GPT2Family {
  static let modelType = "gpt2"

  static func spec(_ config: HuggingFaceConfiguration) throws -> TransformerSpec {
    let activation = try config.activation("activation_function", default: "gelu_new")
    try config.refuseIfTrue("scale_attn_by_inverse_layer_idx", supported: "false")
    try config.refuseIfTrue("add_cross_attention", supported: "decoders without an encoder (add_cross_attention false)")
    let hidden = try config.count("n_embd", default: 768)
    let heads = try config.count("n_head", default: 12)
    guard hidden % heads == 0 else { throw config.bad("n_head", "a divisor of n_embd \(hidden)") }
    var spec = TransformerSpec(
      family: modelType,
      vocabularySize: try config.count("vocab_size", default: 50_257),
      hiddenSize: hidden,
      layerCount: try config.count("n_layer", default: 12),
      headCount: heads,
      keyValueHeadCount: heads,
      headSize: hidden / heads,
      feedForwardSize: try config.count("n_inner", default: 4 * hidden),
      maximumPositions: try config.count("n_positions", default: 1024),
      positionOffset: 0,
      tokenTypeCount: 0,
      normEpsilon: Float(try config.number("layer_norm_epsilon", default: 1e-5)),
      normKind: .layer,
      normPlacement: .pre,
      feedForward: .init(activation: activation, isGated: false),
      positions: .learned,
      attention: .causal(window: nil),
      modulesWithoutBias: []
    )
    spec.queryKeyValue = .blocks
    spec.storesInputsFirst = true
    if try !config.flag("scale_attn_weights", default: true) { spec.attentionFactor = 1 }
    return spec
  }

  static func names(isTied: Bool) -> TensorNames {
    TensorNames(
      wordEmbeddings: "wte.weight",
      positionEmbeddings: "wpe.weight",
      tokenTypeEmbeddings: nil,
      embeddingNorm: nil,
      module: { layer, module in
        let place =
          switch module {
          case .query, .key, .value, .queryKeyValue: "attn.c_attn"
          case .attentionOutput: "attn.c_proj"
          case .feedForwardIn, .feedForwardGate, .feedForwardGateIn: "mlp.c_fc"
          case .feedForwardOut: "mlp.c_proj"
          }
        return "h.\(layer).\(place)"
      },
      attentionNorm: { "h.\($0).ln_1" },
      feedForwardNorm: { "h.\($0).ln_2" },
      finalNorm: "ln_f",
      pooler: nil,
      languageHead: isTied ? nil : "lm_head.weight",
      prefixes: ["transformer.", ""],
      modulePrefix: "transformer."
    )
  }
}
