/// BERT, which is also what MiniLM sentence encoders are.
enum BertFamily {
  static let modelType = "bert"

  static func spec(_ config: HuggingFaceConfiguration) throws -> TransformerSpec {
    _ = try config.require("hidden_act", oneOf: ["gelu"], default: "gelu")
    _ = try config.require("position_embedding_type", oneOf: ["absolute"], default: "absolute")
    try config.refuseIfTrue("is_decoder", supported: "encoders only (is_decoder false)")
    try config.refuseIfTrue("add_cross_attention", supported: "encoders only (add_cross_attention false)")
    let hidden = try config.count("hidden_size")
    let heads = try config.count("num_attention_heads")
    guard hidden % heads == 0 else {
      throw ModelError.badConfiguration(
        file: config.file,
        key: "num_attention_heads",
        expected: "a divisor of hidden_size \(hidden)",
        found: "\(heads)"
      )
    }
    return TransformerSpec(
      family: modelType,
      vocabularySize: try config.count("vocab_size"),
      hiddenSize: hidden,
      layerCount: try config.count("num_hidden_layers"),
      headCount: heads,
      feedForwardSize: try config.count("intermediate_size"),
      maximumPositions: try config.count("max_position_embeddings"),
      tokenTypeCount: try config.count("type_vocab_size", default: 2),
      normEpsilon: Float(try config.number("layer_norm_eps", default: 1e-12)),
      normPlacement: .post,
      activation: .gelu,
      positions: .learned,
      attention: .bidirectional
    )
  }

  static let names = TensorNames(
    wordEmbeddings: "embeddings.word_embeddings.weight",
    positionEmbeddings: "embeddings.position_embeddings.weight",
    tokenTypeEmbeddings: "embeddings.token_type_embeddings.weight",
    embeddingNorm: "embeddings.LayerNorm",
    module: { layer, module in
      let place =
        switch module {
        case .query: "attention.self.query"
        case .key: "attention.self.key"
        case .value: "attention.self.value"
        case .attentionOutput: "attention.output.dense"
        case .feedForwardIn: "intermediate.dense"
        case .feedForwardOut: "output.dense"
        }
      return "encoder.layer.\(layer).\(place)"
    },
    attentionNorm: { "encoder.layer.\($0).attention.output.LayerNorm" },
    feedForwardNorm: { "encoder.layer.\($0).output.LayerNorm" },
    pooler: "pooler.dense",
    prefixes: ["bert.", ""],
    modulePrefix: "bert."
  )
}
