/// DistilBERT: half of BERT's layers, without token types and pooler.
enum DistilBertFamily {
  static let modelType = "distilbert"

  static func spec(_ config: HuggingFaceConfiguration) throws -> TransformerSpec {
    let activation = try config.activation("activation", default: "gelu")
    let hidden = try config.count("dim", default: 768)
    let heads = try config.count("n_heads", default: 12)
    guard hidden % heads == 0 else { throw config.bad("n_heads", "a divisor of dim \(hidden)") }
    return TransformerSpec(
      family: modelType,
      vocabularySize: try config.count("vocab_size"),
      hiddenSize: hidden,
      layerCount: try config.count("n_layers", default: 6),
      headCount: heads,
      keyValueHeadCount: heads,
      headSize: hidden / heads,
      feedForwardSize: try config.count("hidden_dim", default: 3072),
      maximumPositions: try config.count("max_position_embeddings", default: 512),
      positionOffset: 0,
      tokenTypeCount: 0,
      normEpsilon: 1e-12,
      normKind: .layer,
      normPlacement: .post,
      feedForward: .init(activation: activation, isGated: false),
      positions: .learned,
      attention: .bidirectional,
      modulesWithoutBias: []
    )
  }

  static let names = TensorNames(
    wordEmbeddings: "embeddings.word_embeddings.weight",
    positionEmbeddings: "embeddings.position_embeddings.weight",
    tokenTypeEmbeddings: nil,
    embeddingNorm: "embeddings.LayerNorm",
    module: { layer, module in
      let place =
        switch module {
        case .query, .queryKeyValue: "attention.q_lin"
        case .key: "attention.k_lin"
        case .value: "attention.v_lin"
        case .attentionOutput: "attention.out_lin"
        case .feedForwardIn, .feedForwardGate, .feedForwardGateIn: "ffn.lin1"
        case .feedForwardOut: "ffn.lin2"
        }
      return "transformer.layer.\(layer).\(place)"
    },
    attentionNorm: { "transformer.layer.\($0).sa_layer_norm" },
    feedForwardNorm: { "transformer.layer.\($0).output_layer_norm" },
    finalNorm: nil,
    pooler: nil,
    languageHead: nil,
    prefixes: ["distilbert.", ""],
    modulePrefix: "distilbert."
  )
}
