/// BERT, which is also what MiniLM sentence encoders are, and the encoders of its shape: RoBERTa, XLM-R and ELECTRA.
enum BertFamily {
  static let modelTypes = ["bert", "roberta", "xlm-roberta", "electra"]

  static func spec(_ config: HuggingFaceConfiguration, _ modelType: String) throws -> TransformerSpec {
    let activation = try config.activation("hidden_act", default: "gelu")
    _ = try config.require("position_embedding_type", oneOf: ["absolute"], default: "absolute")
    try config.refuseIfTrue("is_decoder", supported: "encoders only (is_decoder false)")
    try config.refuseIfTrue("add_cross_attention", supported: "encoders only (add_cross_attention false)")
    let hidden = try config.count("hidden_size")
    let heads = try config.count("num_attention_heads")
    guard hidden % heads == 0 else {
      throw config.bad("num_attention_heads", "a divisor of hidden_size \(hidden)")
    }
    if modelType == "electra", try config.count("embedding_size", default: 128) != hidden {
      // A smaller embedding is projected to the hidden size.
      throw config.bad("embedding_size", "hidden_size \(hidden): no other is supported")
    }
    // The first position of RoBERTa's table is that of the padding token's id plus one.
    let offset = modelType.hasSuffix("roberta") ? try config.index("pad_token_id", default: 1) + 1 : 0
    let rows = try config.count("max_position_embeddings")
    guard rows > offset else { throw config.bad("max_position_embeddings", "more than \(offset)") }
    return TransformerSpec(
      family: modelType,
      vocabularySize: try config.count("vocab_size"),
      hiddenSize: hidden,
      layerCount: try config.count("num_hidden_layers"),
      headCount: heads,
      keyValueHeadCount: heads,
      headSize: hidden / heads,
      feedForwardSize: try config.count("intermediate_size"),
      maximumPositions: rows - offset,
      positionOffset: offset,
      tokenTypeCount: try config.count("type_vocab_size", default: 2),
      normEpsilon: Float(try config.number("layer_norm_eps", default: 1e-12)),
      normKind: .layer,
      normPlacement: .post,
      feedForward: .init(activation: activation, isGated: false),
      positions: .learned,
      attention: .bidirectional,
      modulesWithoutBias: []
    )
  }

  static func names(_ modelType: String) -> TensorNames {
    let prefix = modelType == "xlm-roberta" ? "roberta." : "\(modelType)."
    return TensorNames(
      wordEmbeddings: "embeddings.word_embeddings.weight",
      positionEmbeddings: "embeddings.position_embeddings.weight",
      tokenTypeEmbeddings: "embeddings.token_type_embeddings.weight",
      embeddingNorm: "embeddings.LayerNorm",
      module: { layer, module in
        let place =
          switch module {
          case .query, .queryKeyValue: "attention.self.query"
          case .key: "attention.self.key"
          case .value: "attention.self.value"
          case .attentionOutput: "attention.output.dense"
          case .feedForwardIn, .feedForwardGate, .feedForwardGateIn: "intermediate.dense"
          case .feedForwardOut: "output.dense"
          }
        return "encoder.layer.\(layer).\(place)"
      },
      attentionNorm: { "encoder.layer.\($0).attention.output.LayerNorm" },
      feedForwardNorm: { "encoder.layer.\($0).output.LayerNorm" },
      finalNorm: nil,
      pooler: "pooler.dense",
      languageHead: nil,
      prefixes: [prefix, ""],
      modulePrefix: prefix
    )
  }
}
