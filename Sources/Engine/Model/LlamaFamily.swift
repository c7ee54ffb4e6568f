/// Llama 2 and 3 and the models of their shape: TinyLlama, SmolLM, Mistral and Qwen2.
enum LlamaFamily {
  static let modelTypes = ["llama", "mistral", "qwen2"]

  static func spec(_ config: HuggingFaceConfiguration, _ modelType: String) throws -> TransformerSpec {
    _ = try config.require("hidden_act", oneOf: ["silu"], default: "silu")
    let hidden = try config.count("hidden_size")
    let heads = try config.count("num_attention_heads")
    // What transformers takes where the key is absent.
    let usual = ["mistral": 8, "qwen2": 32][modelType] ?? heads
    let keyValueHeads = try config.count("num_key_value_heads", default: usual)
    guard heads % keyValueHeads == 0 else {
      throw config.bad("num_key_value_heads", "a divisor of num_attention_heads \(heads)")
    }
    let headSize = try config.count("head_dim", default: hidden / heads)
    guard headSize % 2 == 0, !heads.multipliedReportingOverflow(by: headSize).overflow else {
      throw config.bad("head_dim", "an even number")
    }
    var withoutBias = Set(LayerModule.allCases)
    if modelType == "qwen2" { withoutBias.subtract([.query, .key, .value]) }
    if modelType == "llama" {
      if try config.flag("attention_bias") { withoutBias.subtract([.query, .key, .value, .attentionOutput]) }
      if try config.flag("mlp_bias") { withoutBias.subtract([.feedForwardGate, .feedForwardIn, .feedForwardOut]) }
    }
    try config.refuseIfTrue("use_sliding_window", supported: "one window for all layers, or none")
    var window: Int?
    if modelType == "mistral" {
      window = config.states("sliding_window") ? try config.count("sliding_window", default: .max) : 4096
    }
    return TransformerSpec(
      family: modelType,
      vocabularySize: try config.count("vocab_size"),
      hiddenSize: hidden,
      layerCount: try config.count("num_hidden_layers"),
      headCount: heads,
      keyValueHeadCount: keyValueHeads,
      headSize: headSize,
      feedForwardSize: try config.count("intermediate_size"),
      maximumPositions: try config.count("max_position_embeddings"),
      positionOffset: 0,
      tokenTypeCount: 0,
      normEpsilon: Float(try config.number("rms_norm_eps", default: 1e-6)),
      normKind: .rootMeanSquare,
      normPlacement: .pre,
      feedForward: .gatedSilu,
      positions: .rotary(try RotaryPositions(config, headSize: headSize)),
      attention: .causal(window: window),
      modulesWithoutBias: withoutBias
    )
  }

  static func names(isTied: Bool) -> TensorNames {
    TensorNames(
      wordEmbeddings: "embed_tokens.weight",
      positionEmbeddings: nil,
      tokenTypeEmbeddings: nil,
      embeddingNorm: nil,
      module: { layer, module in
        let place =
          switch module {
          case .query: "self_attn.q_proj"
          case .key: "self_attn.k_proj"
          case .value: "self_attn.v_proj"
          case .attentionOutput: "self_attn.o_proj"
          case .feedForwardGate: "mlp.gate_proj"
          case .feedForwardIn: "mlp.up_proj"
          case .feedForwardOut: "mlp.down_proj"
          }
        return "layers.\(layer).\(place)"
      },
      attentionNorm: { "layers.\($0).input_layernorm" },
      feedForwardNorm: { "layers.\($0).post_attention_layernorm" },
      finalNorm: "norm",
      pooler: nil,
      languageHead: isTied ? nil : "lm_head.weight",
      prefixes: ["model.", ""],
      modulePrefix: "model."
    )
  }
}

extension RotaryPositions {
  /// Reads the keys of transformers 5 (`rope_parameters`), or of 4 (`rope_theta` and `rope_scaling`).
  /// - Throws: `ModelError` for a kind that is not supported.
  init(_ config: HuggingFaceConfiguration, headSize: Int) throws {
    let own = try config.section("rope_parameters")
    let scaling = try own ?? config.section("rope_scaling")
    let atTop = try config.number("rope_theta", default: 10_000)
    base = try own?.number("rope_theta", default: atTop) ?? atTop
    guard base > 1 else { throw (own ?? config).bad("rope_theta", "a number above 1") }
    let share = try (own ?? config).number("partial_rotary_factor", default: 1)
    guard share > 0, share <= 1 else { throw (own ?? config).bad("partial_rotary_factor", "above 0 and at most 1") }
    width = Int(Double(headSize) * share) / 2 * 2
    guard let scaling else {
      self.scaling = .none
      return
    }
    let kind = try scaling.require(
      scaling.has("rope_type") || !scaling.has("type") ? "rope_type" : "type",
      oneOf: ["default", "linear", "llama3"],
      default: "default"
    )
    func positive(_ key: String) throws -> Double {
      let value = try scaling.number(key, default: 0)
      guard value > 0 else { throw scaling.bad(key, "a positive number") }
      return value
    }
    switch kind {
    case "linear": self.scaling = .linear(factor: try positive("factor"))
    case "llama3":
      let (low, high) = (try positive("low_freq_factor"), try positive("high_freq_factor"))
      guard low < high else { throw scaling.bad("high_freq_factor", "more than low_freq_factor \(low)") }
      self.scaling = .llama3(
        factor: try positive("factor"),
        lowFrequencyFactor: low,
        highFrequencyFactor: high,
        originalPositions: try scaling.count("original_max_position_embeddings")
      )
    default: self.scaling = .none
    }
  }
}
