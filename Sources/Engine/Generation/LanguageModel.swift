import FedLoRACheckpoint
import Foundation

/// A language model as it is used: a Hugging Face model folder, and the adapter of a PEFT folder where one is given.
public struct LanguageModel: Sendable {
  /// The model with a place for the adapter.
  public let model: AdaptedModel
  /// The adapter's values, in the model's layout; empty without an adapter.
  public let parameters: [Float]

  /// Reads both folders.
  /// - Parameters:
  ///   - adapter: a folder that PEFT or fedlora wrote; nil for the model as it is.
  ///   - precision: how the model's matrices are kept in memory.
  /// - Throws: `ModelError`, `PEFTError` or `SafetensorsError`: for a model that predicts no tokens, or an adapter whose
  ///   modules are not this model's or whose tensors are missing.
  public init(folder: URL, adapter: URL? = nil, precision: BasePrecision = .f32) throws {
    let base = try FrozenModel(folder: folder, precision: precision)
    guard base.languageHead != nil else {
      throw ModelError.badOption(
        name: "model",
        found: "\(folder.path), which predicts no tokens",
        expected: "a language model such as Llama, with its head in the checkpoint"
      )
    }
    guard let adapter else {
      (model, parameters) = (try AdaptedModel(unadapted: base), [])
      return
    }
    let stored = try PEFTAdapterFolder(reading: adapter)
    model = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(peft: stored.configuration),
      head: nil,
      stored: stored.configuration.kind == .vera ? stored.tensors : nil
    )
    parameters = try model.parameters(of: stored, in: adapter)
  }
}

extension AdaptedModel {
  /// The values of a PEFT folder in this model's layout.
  /// - Throws: `ModelError.wrongParameter` for a tensor that the model has no place for, or one that the folder lacks.
  public func parameters(of stored: PEFTAdapterFolder, in folder: URL) throws -> [Float] {
    // VeRA's projections are no parameters.
    let frozen = frozenAdapterTensors
    let tensors = canonical(stored.tensors).filter { frozen[$0] == nil }
    if let missing = layout.entries.first(where: { tensors[$0.name] == nil }) {
      throw ModelError.wrongParameter(
        name: missing.name,
        reason: "is not in \(folder.path), whose target modules name it: was the adapter trained on another model?"
      )
    }
    var values = [Float](repeating: 0, count: layout.count)
    try layout.assign(tensors, to: &values)
    return values
  }
}
