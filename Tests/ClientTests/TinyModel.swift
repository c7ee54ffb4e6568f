import FedLoRACheckpoint
import FedLoRAEngine
import FedLoRATestSupport
import Foundation

/// A BERT of the test's own size, with numbers from a formula: small enough that a private step takes a millisecond.
struct TinyModel {
  let base: FrozenModel
  private let folder: ScratchFolder

  static let vocabulary = 50
  static let positions = 16

  init(hidden: Int = 16, layers: Int = 1) throws {
    folder = try ScratchFolder()
    let config: [String: Any] = [
      "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": hidden,
      "intermediate_size": 2 * hidden, "num_attention_heads": 2, "num_hidden_layers": layers,
      "vocab_size": TinyModel.vocabulary, "max_position_embeddings": TinyModel.positions, "type_vocab_size": 2,
      "layer_norm_eps": 1e-12, "pad_token_id": 0, "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0,
    ]
    try JSONSerialization.data(withJSONObject: config).write(to: folder.appending("config.json"))
    var tensors = TensorSet()
    func add(_ name: String, _ shape: [Int], _ size: Double = 0.3) {
      let phase = Double(tensors.names.count) * 1.7
      let count = shape.reduce(1, *)
      tensors[name] = try? Tensor(shape: shape, values: (0..<count).map { Float(sin(Double($0) * 1.3 + phase) * size) })
    }
    func norm(_ name: String) {
      tensors["\(name).weight"] = try? Tensor(shape: [hidden], values: [Float](repeating: 1, count: hidden))
      tensors["\(name).bias"] = Tensor(zeros: [hidden])
    }
    func linear(_ name: String, _ input: Int, _ output: Int) {
      add("\(name).weight", [output, input])
      add("\(name).bias", [output])
    }
    add("embeddings.word_embeddings.weight", [TinyModel.vocabulary, hidden], 1)
    add("embeddings.position_embeddings.weight", [TinyModel.positions, hidden])
    add("embeddings.token_type_embeddings.weight", [2, hidden])
    norm("embeddings.LayerNorm")
    for layer in 0..<layers {
      let path = "encoder.layer.\(layer)"
      for name in ["query", "key", "value"] { linear("\(path).attention.self.\(name)", hidden, hidden) }
      linear("\(path).attention.output.dense", hidden, hidden)
      norm("\(path).attention.output.LayerNorm")
      linear("\(path).intermediate.dense", hidden, 2 * hidden)
      linear("\(path).output.dense", 2 * hidden, hidden)
      norm("\(path).output.LayerNorm")
    }
    try SafetensorsFile.write(tensors, to: folder.appending("model.safetensors"))
    base = try FrozenModel(folder: folder.url)
  }
}
