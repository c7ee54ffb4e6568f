import FedLoRACheckpoint
import FedLoRAEngine
import Foundation

/// The shapes of known models, for timing without downloading them: a step takes as long with random weights as with
/// trained ones, and nothing can be learnt from them.
public enum ModelShape: String, CaseIterable, Sendable {
  /// 6 layers, 384 wide: 23 million values.
  case miniLM = "minilm"
  /// 12 layers, 768 wide: 125 million values.
  case robertaBase = "roberta-base"
  /// 24 layers, 1,024 wide: 355 million values.
  case robertaLarge = "roberta-large"
  /// 6 layers, 288 wide, a vocabulary of 32,000: the 15 million of TinyStories' Llama.
  case llama15M = "llama-15m"
  /// 30 layers, 576 wide, 9 heads of which 3 have keys, a vocabulary of 49,152: SmolLM-135M's.
  case llama135M = "llama-135m"

  /// Whether it predicts tokens rather than classes.
  public var isDecoder: Bool { self == .llama15M || self == .llama135M }
  /// Modules that get an adapter: queries and values.
  public var targets: [String] { isDecoder ? ["q_proj", "v_proj"] : ["query", "value"] }

  private struct Sizes {
    let layers, hidden, heads, keyValueHeads, feedForward, vocabulary, positions: Int

    init(
      _ layers: Int,
      _ hidden: Int,
      _ heads: Int,
      _ keys: Int,
      _ feedForward: Int,
      _ vocabulary: Int,
      _ positions: Int
    ) {
      (self.layers, self.hidden, self.heads, keyValueHeads) = (layers, hidden, heads, keys)
      (self.feedForward, self.vocabulary, self.positions) = (feedForward, vocabulary, positions)
    }
  }

  private var sizes: Sizes {
    switch self {
    case .miniLM: Sizes(6, 384, 12, 12, 1536, 30522, 512)
    case .robertaBase: Sizes(12, 768, 12, 12, 3072, 50265, 514)
    case .robertaLarge: Sizes(24, 1024, 16, 16, 4096, 50265, 514)
    case .llama15M: Sizes(6, 288, 6, 6, 768, 32000, 2048)
    case .llama135M: Sizes(30, 576, 9, 3, 1536, 49152, 2048)
    }
  }

  /// Writes a model folder with `config.json` and random weights of float32, normal with a standard deviation of 0.02, unless
  /// it is there already.
  /// - Throws: `ModelError`, `SafetensorsError` or `DurableFileError`.
  public func write(to folder: URL) throws {
    let weights = folder.appendingPathComponent("model.safetensors")
    if FileManager.default.fileExists(atPath: weights.path) { return }
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try JSONSerialization.data(withJSONObject: configuration, options: [.prettyPrinted, .sortedKeys])
      .write(to: folder.appendingPathComponent("config.json"), options: .atomic)
    var generator = SeededGenerator(seed: 1, "model-shape", .name(rawValue))
    var tensors = TensorSet()
    for (name, shape) in matrices {
      let count = shape.reduce(1, *)
      // A sum of four bytes is near enough to a normal draw for timing, and fast.
      let values = (0..<count).map { _ -> Float in
        let bits = generator.next()
        let sum = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48)
        return (Float(sum) / 65535 - 2) * 0.02 * 1.732
      }
      tensors[name] = try Tensor(shape: shape, values: values)
    }
    for (name, width, value) in vectors {
      tensors[name] = try Tensor(shape: [width], values: [Float](repeating: value, count: width))
    }
    try SafetensorsFile.write(tensors, to: weights, metadata: ["format": "pt"])
  }

  private var configuration: [String: Any] {
    let own = sizes
    let common: [String: Any] = [
      "hidden_size": own.hidden, "num_hidden_layers": own.layers, "num_attention_heads": own.heads,
      "intermediate_size": own.feedForward, "vocab_size": own.vocabulary, "max_position_embeddings": own.positions,
    ]
    let family: [String: Any] =
      switch self {
      case .miniLM:
        [
          "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "type_vocab_size": 2,
          "layer_norm_eps": 1e-12, "pad_token_id": 0, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        ]
      case .robertaBase, .robertaLarge:
        [
          "model_type": "roberta", "architectures": ["RobertaModel"], "hidden_act": "gelu", "type_vocab_size": 1,
          "layer_norm_eps": 1e-5, "pad_token_id": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        ]
      case .llama15M, .llama135M:
        [
          "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "rms_norm_eps": 1e-5,
          "num_key_value_heads": own.keyValueHeads, "tie_word_embeddings": true, "rope_theta": 10000.0,
        ]
      }
    return common.merging(family) { _, new in new }
  }

  private var matrices: [(String, [Int])] {
    let (own, h) = (sizes, sizes.hidden)
    if isDecoder {
      let keyValueWidth = h / own.heads * own.keyValueHeads
      return [("model.embed_tokens.weight", [own.vocabulary, h])]
        + (0..<own.layers).flatMap { index -> [(String, [Int])] in
          let layer = "model.layers.\(index)"
          return [
            ("\(layer).self_attn.q_proj.weight", [h, h]), ("\(layer).self_attn.k_proj.weight", [keyValueWidth, h]),
            ("\(layer).self_attn.v_proj.weight", [keyValueWidth, h]), ("\(layer).self_attn.o_proj.weight", [h, h]),
            ("\(layer).mlp.gate_proj.weight", [own.feedForward, h]),
            ("\(layer).mlp.up_proj.weight", [own.feedForward, h]),
            ("\(layer).mlp.down_proj.weight", [h, own.feedForward]),
          ]
        }
    }
    return [
      ("embeddings.word_embeddings.weight", [own.vocabulary, h]),
      ("embeddings.position_embeddings.weight", [own.positions, h]),
      ("embeddings.token_type_embeddings.weight", [self == .miniLM ? 2 : 1, h]),
    ]
      + (0..<own.layers).flatMap { index in
        linears(index).map { ("\($0.name).weight", [$0.output, $0.input]) }
      }
  }

  private func linears(_ index: Int) -> [(name: String, input: Int, output: Int)] {
    let (own, h) = (sizes, sizes.hidden)
    let layer = "encoder.layer.\(index)"
    return ["self.query", "self.key", "self.value", "output.dense"].map { ("\(layer).attention.\($0)", h, h) } + [
      ("\(layer).intermediate.dense", h, own.feedForward), ("\(layer).output.dense", own.feedForward, h),
    ]
  }

  private var vectors: [(String, Int, Float)] {
    let (own, h) = (sizes, sizes.hidden)
    if isDecoder {
      return [("model.norm.weight", h, 1)]
        + (0..<own.layers).flatMap {
          [
            ("model.layers.\($0).input_layernorm.weight", h, Float(1)),
            ("model.layers.\($0).post_attention_layernorm.weight", h, Float(1)),
          ]
        }
    }
    func norm(_ name: String) -> [(String, Int, Float)] { [("\(name).weight", h, 1), ("\(name).bias", h, 0)] }
    var all = norm("embeddings.LayerNorm")
    for index in 0..<own.layers {
      all += norm("encoder.layer.\(index).attention.output.LayerNorm")
      all += norm("encoder.layer.\(index).output.LayerNorm")
      for linear in linears(index) { all.append(("\(linear.name).bias", linear.output, 0)) }
    }
    return all
  }
}
