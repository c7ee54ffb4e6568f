import FedLoRACheckpoint
import FedLoRAEngine
import Foundation

/// A folder of answers that PyTorch and PEFT computed: model, adapter, inputs and expected values.
struct OracleFolder: CustomStringConvertible, Sendable {
  let url: URL
  var description: String { url.lastPathComponent }

  static let packageRoot = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// Fixtures that are committed, made by Tests/Oracles/make_bert_fixtures.py.
  static let committed: [OracleFolder] = folders(
    under: packageRoot.appendingPathComponent("Tests/EngineTests/Fixtures/bert")
  )

  /// Larger ones beside the checkout, where they exist.
  static let shared: [OracleFolder] = beside(["bert", "bert_nohead"])

  static func beside(_ names: [String]) -> [OracleFolder] {
    names.map {
      OracleFolder(url: packageRoot.deletingLastPathComponent().appendingPathComponent("shared/oracle/\($0)"))
    }.filter { FileManager.default.fileExists(atPath: $0.url.path) }
  }

  /// Decoders that classify, made by Tests/Oracles/make_decoder_fixtures.py.
  static let classifyingDecoders: [OracleFolder] = folders(
    under: packageRoot.appendingPathComponent("Tests/EngineTests/Fixtures/decoder-classifiers")
  )

  static let all = committed + shared + classifyingDecoders

  static func folders(under url: URL) -> [OracleFolder] {
    let found = (try? FileManager.default.contentsOfDirectory(at: url, includingPropertiesForKeys: nil)) ?? []
    return found.sorted { $0.path < $1.path }
      .filter { FileManager.default.fileExists(atPath: $0.appendingPathComponent("oracle.json").path) }
      .map { OracleFolder(url: $0) }
  }

  /// A small encoder whose classifier can have this pooling.
  static func encoder(for pooling: Pooling) -> OracleFolder? {
    pooling == .dense ? all.first { $0.url.lastPathComponent == "roberta" } : all.first
  }

  struct Facts: Decodable {
    struct Optim: Decodable {
      struct SGD: Decodable { let lr: Double }
      struct AdamW: Decodable {
        let lr: Double
        let betas: [Double]
        let eps: Double
        let weight_decay: Double
      }
      let sgd: SGD
      let adamw: AdamW

      /// The optimizer of this name, `sgd` or `adamw`, and its rate.
      func rule(_ name: String) -> (OptimizerRule, Double) {
        guard name == "adamw" else { return (.sgd(momentum: 0, weightDecay: 0), sgd.lr) }
        return (
          .adamW(
            beta1: Float(adamw.betas[0]),
            beta2: Float(adamw.betas[1]),
            epsilon: Float(adamw.eps),
            weightDecay: Float(adamw.weight_decay)
          ), adamw.lr
        )
      }
    }
    let trained: [String]
    let optim: Optim
    let pooling: String?
  }

  func facts() throws -> Facts {
    try JSONDecoder().decode(Facts.self, from: Data(contentsOf: url.appendingPathComponent("oracle.json")))
  }

  func expected() throws -> SafetensorsFile {
    try SafetensorsFile(opening: url.appendingPathComponent("expected.safetensors"))
  }

  /// Batch `index` without its padding, and the places of its tokens in the padded tensors.
  func batch(_ index: Int) throws -> (PackedBatch, kept: [Int]) {
    let file = try SafetensorsFile(opening: url.appendingPathComponent("inputs.safetensors"))
    let prefix = file.entry("0.input_ids") == nil ? "" : "\(index)."
    let ids = try file.integers(prefix + "input_ids")
    let mask = try file.integers(prefix + "attention_mask")
    let types = try file.integers(prefix + "token_type_ids")
    let values = file.entry(prefix + "values") == nil ? nil : try file.floats(prefix + "values")
    // Of a regression the one output's number, from 0.
    let labels = try values.map { $0.map { _ in 0 } } ?? file.integers(prefix + "labels")
    let width = ids.count / labels.count
    var batch = PackedBatch()
    var kept: [Int] = []
    for row in labels.indices {
      let places = (row * width..<(row + 1) * width).filter { mask[$0] == 1 }
      kept += places
      batch.append(
        tokens: places.map { Int32(ids[$0]) },
        tokenTypes: places.map { Int32(types[$0]) },
        label: labels[row],
        value: values?[row] ?? 0
      )
    }
    return (batch, kept)
  }

  /// The adapted model and its parameters at the oracle's starting point.
  func load(model folder: URL? = nil) throws -> (AdaptedModel, [Float]) {
    let adapter = try PEFTAdapterFolder(reading: url.appendingPathComponent("adapter"))
    let base = try FrozenModel(folder: folder ?? url.appendingPathComponent("model"))
    let configuration = try LoRAConfiguration(peft: adapter.configuration)
    let pooling = Pooling(rawValue: (try? facts().pooling) ?? "pooler") ?? .pooler
    let own = ["classifier", "score", "classifier.out_proj"].lazy.compactMap { adapter.tensors["\($0).weight"] }.first
    let head =
      try own
      ?? SafetensorsFile(opening: url.appendingPathComponent("model/model.safetensors")).tensor(
        "classifier.weight"
      )
    let model = try AdaptedModel(
      base: base,
      adapter: configuration,
      head: head.shape[0] == 1
        ? .regression(pooling: pooling) : ClassificationHead(labelCount: head.shape[0], pooling: pooling)
    )
    var parameters = [Float](repeating: 0, count: model.layout.count)
    if own == nil {
      let file = try SafetensorsFile(opening: url.appendingPathComponent("model/model.safetensors"))
      for name in ["classifier.weight", "classifier.bias"] {
        try model.layout.assign(TensorSet([(name, file.tensor(name))]), to: &parameters)
      }
    }
    try model.layout.assign(model.canonical(adapter.tensors), to: &parameters)
    return (model, parameters)
  }
}

extension AdaptedModel {
  /// The parameter that an oracle calls `name`.
  func entry(oracle name: String) -> ParameterEntry? {
    layout.entries.first { $0.name == name } ?? layout.entries.first { $0.name == "bert." + name }
  }
}

/// Largest absolute difference.
func largestDifference(_ left: [Float], _ right: [Float]) -> Float {
  left.count == right.count ? zip(left, right).map { abs($0 - $1) }.max() ?? 0 : .infinity
}

/// Norm of the difference over the norm of the expectation.
func relativeDifference(_ found: [Float], _ expected: [Float]) -> Double {
  guard found.count == expected.count else { return .infinity }
  let difference = zip(found, expected).reduce(0.0) { $0 + pow(Double($1.0) - Double($1.1), 2) }
  let size = expected.reduce(0.0) { $0 + Double($1) * Double($1) }
  return (difference / max(size, 1e-300)).squareRoot()
}
