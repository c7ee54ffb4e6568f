/// GPT-NeoX, which is also what Pythia is.
enum GPTNeoXFamily {
  static let modelType = "gpt_neox"

  static func spec(_ config: HuggingFaceConfiguration) throws -> TransformerSpec {
    let activation = try config.activation("hidden_act", default: "gelu")
    let hidden = try config.count("hidden_size")
    let heads = try config.count("num_attention_heads")
    guard hidden % heads == 0 else { throw config.bad("num_attention_heads", "a divisor of hidden_size \(hidden)") }
    let rotary = RotaryPositions.Usual(baseKey: "rotary_emb_base", share: 0.25, shareKey: "rotary_pct")
    let hasBias = try config.flag("attention_bias", default: true)
    var spec = TransformerSpec(
      family: modelType,
      vocabularySize: try config.count("vocab_size"),
      hiddenSize: hidden,
      layerCount: try config.count("num_hidden_layers"),
      headCount: heads,
      keyValueHeadCount: heads,
      headSize: hidden / heads,
      feedForwardSize: try config.count("intermediate_size"),
      maximumPositions: try config.count("max_position_embeddings", default: 2048),
      positionOffset: 0,
      tokenTypeCount: 0,
      normEpsilon: Float(try config.number("layer_norm_eps", default: 1e-5)),
      normKind: .layer,
      normPlacement: .pre,
      feedForward: .init(activation: activation, isGated: false),
      positions: .rotary(try RotaryPositions(config, headSize: hidden / heads, usual: rotary)),
      attention: .causal(window: nil),
      modulesWithoutBias: hasBias ? [] : [.queryKeyValue, .attentionOutput]
    )
    spec.queryKeyValue = .byHead
    spec.residual = try config.flag("use_parallel_residual", default: true) ? .parallel : .sequential
    return spec
  }

  static func names(isTied: Bool) -> TensorNames {
    var names = TensorNames(
      wordEmbeddings: "embed_in.weight",
      positionEmbeddings: nil,
      tokenTypeEmbeddings: nil,
      embeddingNorm: nil,
      module: { layer, module in
        let place =
          switch module {
          case .query, .key, .value, .queryKeyValue: "attention.query_key_value"
          case .attentionOutput: "attention.dense"
          case .feedForwardIn, .feedForwardGate, .feedForwardGateIn: "mlp.dense_h_to_4h"
          case .feedForwardOut: "mlp.dense_4h_to_h"
          }
        return "layers.\(layer).\(place)"
      },
      attentionNorm: { "layers.\($0).input_layernorm" },
      feedForwardNorm: { "layers.\($0).post_attention_layernorm" },
      finalNorm: "final_layer_norm",
      pooler: nil,
      languageHead: isTied ? nil : "embed_out.weight",
      prefixes: ["gpt_neox.", ""],
      modulePrefix: "gpt_neox."
    )
    if !isTied { names.otherLanguageHead = "lm_head.weight" }
    return names
  }
}
