extension TensorNames {
  /// The names of Llama and of the families that took them over, fused modules under Phi-3's.
  static func llama(isTied: Bool, normsHeads: Bool = false) -> TensorNames {
    var names = TensorNames(
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
          case .queryKeyValue: "self_attn.qkv_proj"
          case .attentionOutput: "self_attn.o_proj"
          case .feedForwardGate: "mlp.gate_proj"
          case .feedForwardIn: "mlp.up_proj"
          case .feedForwardGateIn: "mlp.gate_up_proj"
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
    if normsHeads {
      names.headNorms = { ("layers.\($0).self_attn.q_norm", "layers.\($0).self_attn.k_norm") }
    }
    return names
  }
}
