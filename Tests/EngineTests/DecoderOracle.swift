import FedLoRACheckpoint
import FedLoRAEngine
import Foundation

/// A folder of answers about a language model, as `OracleFolder` is one about a classifier.
struct DecoderOracle: CustomStringConvertible, Sendable {
  let folder: OracleFolder
  var description: String { folder.description }

  /// Fixtures that are committed, made by Tests/Oracles/make_decoder_fixtures.py.
  static let committed = OracleFolder.folders(
    under: OracleFolder.packageRoot.appendingPathComponent("Tests/EngineTests/Fixtures/decoders")
  ).map { DecoderOracle(folder: $0) }

  /// Larger ones beside the checkout, where they exist.
  static let all =
    committed
    + OracleFolder.beside(["llama", "llama_tied_rslora"]).map { DecoderOracle(folder: $0) }

  /// Batch `index` without its padding, and the places of its tokens in the padded tensors.
  func batch(_ index: Int) throws -> (PackedBatch, kept: [Int]) {
    let file = try SafetensorsFile(opening: folder.url.appendingPathComponent("inputs.safetensors"))
    let ids = try file.integers("\(index).input_ids")
    let mask = try file.integers("\(index).attention_mask")
    let labels = try file.integers("\(index).labels")
    let width = file.entry("\(index).input_ids")?.shape[1] ?? 1
    var batch = PackedBatch()
    var kept: [Int] = []
    for row in 0..<ids.count / width {
      let places = (row * width..<(row + 1) * width).filter { mask[$0] == 1 }
      kept += places
      batch.append(tokens: places.map { Int32(ids[$0]) }) { labels[places[$0]] >= 0 }
    }
    return (batch, kept)
  }

  /// The adapted model and its parameters at the oracle's starting point.
  func load() throws -> (AdaptedModel, [Float]) {
    let adapter = try PEFTAdapterFolder(reading: folder.url.appendingPathComponent("adapter"))
    let model = try AdaptedModel(
      base: FrozenModel(folder: folder.url.appendingPathComponent("model")),
      adapter: LoRAConfiguration(peft: adapter.configuration),
      head: nil
    )
    var parameters = [Float](repeating: 0, count: model.layout.count)
    try model.layout.assign(model.canonical(adapter.tensors), to: &parameters)
    return (model, parameters)
  }

  /// The rows of an expected tensor that are no padding.
  func rows(_ name: String, kept: [Int], width: Int) throws -> [Float] {
    let full = try folder.expected().floats(name)
    return kept.flatMap { full[$0 * width..<($0 + 1) * width] }
  }
}
