import FedLoRACheckpoint
import Foundation
import Synchronization

/// A pretrained base model: read once, never written, shared by every client of a process.
///
/// Weights that the file holds in the wanted precision stay where they are mapped; others are converted once. All pointers
/// live as long as the object.
///
/// `@unchecked Sendable`: nothing but the fingerprint is formed after `init`, under a lock; the allocations are freed in `deinit`.
public final class FrozenModel: @unchecked Sendable {
  /// A frozen linear module: `weight` is `[output, input]` row-major, or `[input, output]` where the inputs stand first.
  struct Linear {
    let weight: FrozenMatrix
    let bias: UnsafePointer<Float>?
    let inputSize: Int
    let outputSize: Int
    var hasInputsFirst = false
  }

  /// A frozen norm; only layer norms shift.
  struct Norm {
    let gamma: UnsafePointer<Float>
    let beta: UnsafePointer<Float>?
    let width: Int
  }

  /// The frozen tensors of one layer.
  struct Layer {
    /// By `LayerModule.rawValue`; nil where the model's layers have no such module.
    let modules: [Linear?]
    let attentionNorm: Norm
    let feedForwardNorm: Norm
    /// On what the blocks give, where norms stand around them.
    let attentionOutputNorm: Norm?
    let feedForwardOutputNorm: Norm?
    /// Of each head's query and key.
    let queryNorm: Norm?
    let keyNorm: Norm?
  }

  /// The architecture.
  public let spec: TransformerSpec
  /// The folder that it was read from.
  public let folder: URL
  /// Number of values over all tensors of the checkpoint.
  public let parameterCount: Int
  /// How the matrices are kept.
  public let precision: BasePrecision

  let names: TensorNames
  let wordEmbeddings: FrozenMatrix
  let positionEmbeddings: UnsafePointer<Float>?
  let tokenTypeEmbeddings: UnsafePointer<Float>?
  let embeddingNorm: Norm?
  let layers: [Layer]
  let finalNorm: Norm?
  let pooler: Linear?
  /// `[vocabulary, hidden]`: what turns a decoder's vectors into logits; nil in an encoder, and in a decoder without it.
  let languageHead: FrozenMatrix?

  private let weights: WeightStore
  private let identity: Mutex<CheckpointIdentity>

  /// Reads `config.json` and the checkpoint of a Hugging Face model folder.
  /// - Parameter precision: how the matrices are kept in memory.
  /// - Throws: `ModelError` or `SafetensorsError`, each naming file, key or tensor.
  public init(folder: URL, precision: BasePrecision = .f32) throws {
    let config = try HuggingFaceConfiguration(folder: folder)
    let (spec, names) = try ModelFamily.resolve(config)
    let store = WeightStore(try CheckpointFolder(folder), prefixes: names.prefixes, probe: names.wordEmbeddings)
    let hidden = spec.hiddenSize
    func linear(_ path: String, _ input: Int, _ output: Int, hasBias: Bool) throws -> Linear {
      Linear(
        weight: try store.matrix(
          "\(path).weight",
          rows: spec.storesInputsFirst ? input : output,
          columns: spec.storesInputsFirst ? output : input,
          precision: precision
        ),
        bias: hasBias ? try store.pointer("\(path).bias", shape: [output]) : nil,
        inputSize: input,
        outputSize: output,
        hasInputsFirst: spec.storesInputsFirst
      )
    }
    func norm(_ path: String, width: Int) throws -> Norm {
      let stored = try store.pointer("\(path).weight", shape: [width])
      return Norm(
        gamma: spec.normOffset == 0 ? stored : store.sum(stored, spec.normOffset, count: width),
        beta: spec.normKind == .layer ? try store.pointer("\(path).bias", shape: [width]) : nil,
        width: width
      )
    }
    func norm(_ path: String) throws -> Norm { try norm(path, width: hidden) }
    wordEmbeddings = try store.matrix(
      names.wordEmbeddings,
      rows: spec.vocabularySize,
      columns: hidden,
      precision: precision.ofEmbeddings
    )
    positionEmbeddings = try names.positionEmbeddings.map {
      try store.pointer($0, shape: [spec.positionOffset + spec.maximumPositions, hidden])
    }
    tokenTypeEmbeddings = try names.tokenTypeEmbeddings.map {
      try store.pointer($0, shape: [spec.tokenTypeCount, hidden])
    }
    embeddingNorm = try names.embeddingNorm.map(norm)
    // One at a time: the first layer that the checkpoint lacks ends this, whatever number the configuration names.
    var layers: [Layer] = []
    for index in 0..<spec.layerCount {
      let headNorms = names.headNorms?(index)
      layers.append(
        Layer(
          modules: try LayerModule.allCases.map { module in
            guard spec.has(module) else { return nil }
            let (input, output) = module.sizes(spec)
            let hasBias = !spec.modulesWithoutBias.contains(module)
            return try linear(names.module(index, module), input, output, hasBias: hasBias)
          },
          attentionNorm: try norm(names.attentionNorm(index)),
          feedForwardNorm: try norm(names.feedForwardNorm(index)),
          attentionOutputNorm: try (names.attentionOutputNorm?(index)).map(norm),
          feedForwardOutputNorm: try (names.feedForwardOutputNorm?(index)).map(norm),
          queryNorm: try headNorms.map { try norm($0.query, width: spec.headSize) },
          keyNorm: try headNorms.map { try norm($0.key, width: spec.headSize) }
        )
      )
    }
    self.layers = layers
    finalNorm = try names.finalNorm.map(norm)
    pooler = try names.pooler.flatMap { path in
      store.contains("\(path).weight") ? try linear(path, hidden, hidden, hasBias: true) : nil
    }
    if !spec.isDecoder {
      languageHead = nil
    } else if let name = names.languageHead {
      // A checkpoint of the bare decoder has none.
      let found = [name, names.otherLanguageHead ?? name].first { store.contains(whole: $0) }
      languageHead = try found.map {
        try store.matrix(
          whole: $0,
          rows: spec.vocabularySize,
          columns: hidden,
          precision: precision.ofEmbeddings
        )
      }
    } else {
      languageHead = wordEmbeddings
    }
    let identity = try CheckpointIdentity(store.checkpoint)
    parameterCount = identity.parameterCount
    self.identity = Mutex(identity)
    self.spec = spec
    self.names = names
    self.folder = folder
    self.precision = precision
    weights = store
  }

  /// SHA-256 over names, types, shapes and bytes of all tensors in name order: the model's identity. The whole checkpoint is read
  /// for it when it is first asked for: ask where a second or more may pass.
  public var fingerprint: [UInt8] { identity.withLock { $0.fingerprint() } }

  /// The fingerprint in hexadecimal.
  public var fingerprintText: String { fingerprint.map { String(format: "%02x", $0) }.joined() }

  /// Floats of scratch memory that a product of `rows` rows with any linear module needs.
  func scratchCount(rows: Int) -> Int {
    let linears = (layers.first?.modules.compactMap { $0 } ?? []) + [pooler].compactMap { $0 }
    return linears.flatMap { linear in
      [true, false].map { linear.weight.scratchCount(rows: rows, transposed: $0) }
    }.max() ?? 0
  }

  /// Every module that an adapter can sit on, by its outside name, with its sizes.
  public var adaptableModules: [(name: String, inputSize: Int, outputSize: Int)] {
    var result: [(name: String, inputSize: Int, outputSize: Int)] = []
    for (index, layer) in layers.enumerated() {
      for module in spec.modules {
        guard let linear = layer.modules[module.rawValue] else { continue }
        result.append((names.modulePrefix + names.module(index, module), linear.inputSize, linear.outputSize))
      }
    }
    if let pooler, let path = names.pooler {
      result.append((names.modulePrefix + path, pooler.inputSize, pooler.outputSize))
    }
    return result
  }
}

/// Hands out float pointers into a checkpoint and owns whatever had to be converted.
///
/// Used on one thread during `FrozenModel.init`; after that it only keeps the memory alive.
final class WeightStore {
  let checkpoint: CheckpointFolder
  private let prefix: String
  private var converted: [UnsafeMutablePointer<Float>] = []
  private var owned: [UnsafeMutableRawPointer] = []

  /// `probe` is a tensor that every checkpoint of the family has: the prefix under which it is found is used for all.
  init(_ checkpoint: CheckpointFolder, prefixes: [String], probe: String) {
    self.checkpoint = checkpoint
    prefix = Self.prefix(of: checkpoint, among: prefixes, probe: probe)
  }

  /// The prefix under which `checkpoint` holds the tensor `probe`.
  static func prefix(of checkpoint: CheckpointFolder, among prefixes: [String], probe: String) -> String {
    prefixes.first { checkpoint.file(holding: $0 + probe) != nil } ?? prefixes.last ?? ""
  }

  /// A tensor that the architecture needs, and the file that holds it.
  /// - Throws: `SafetensorsError.missingTensor`, or `ModelError.wrongShape` for another shape.
  static func entry(
    _ name: String,
    of checkpoint: CheckpointFolder,
    shape: [Int]
  ) throws -> (file: SafetensorsFile, entry: SafetensorsEntry) {
    guard let file = checkpoint.file(holding: name), let entry = file.entry(name) else {
      throw SafetensorsError(
        .missingTensor,
        file: checkpoint.path,
        tensor: name,
        reason: "is missing, and the architecture needs it"
      )
    }
    guard entry.shape == shape else {
      throw ModelError.wrongShape(file: file.path, tensor: name, expected: shape, found: entry.shape)
    }
    return (file, entry)
  }

  deinit {
    for pointer in converted { pointer.deallocate() }
    for pointer in owned { pointer.deallocate() }
  }

  /// Memory of this store's own.
  func own(bytes: Int) -> UnsafeMutableRawPointer {
    let pointer = UnsafeMutableRawPointer.allocate(byteCount: max(bytes, 1), alignment: 64)
    owned.append(pointer)
    return pointer
  }

  /// A matrix of the checkpoint in `precision`.
  func matrix(_ name: String, rows: Int, columns: Int, precision: BasePrecision) throws -> FrozenMatrix {
    try matrix(whole: prefix + name, rows: rows, columns: columns, precision: precision)
  }

  func contains(_ name: String) -> Bool { contains(whole: prefix + name) }

  func pointer(_ name: String, shape: [Int]) throws -> UnsafePointer<Float> {
    try pointer(whole: prefix + name, shape: shape)
  }

  /// Takes a name as it is, without the prefix.
  func contains(whole full: String) -> Bool { checkpoint.file(holding: full) != nil }

  /// Takes a name as it is, without the prefix.
  func pointer(whole full: String, shape: [Int]) throws -> UnsafePointer<Float> {
    let (file, entry) = try Self.entry(full, of: checkpoint, shape: shape)
    if entry.type == .f32, let start = try file.bytes(of: full).baseAddress,
      UInt(bitPattern: start) % UInt(MemoryLayout<Float>.alignment) == 0
    {
      return start.assumingMemoryBound(to: Float.self)
    }
    let values = try file.floats(full)
    file.release(full)
    let copy = UnsafeMutablePointer<Float>.allocate(capacity: max(values.count, 1))
    copy.initialize(from: values, count: values.count)
    converted.append(copy)
    return UnsafePointer(copy)
  }

  /// A copy with `offset` added to each of `count` values.
  func sum(_ values: UnsafePointer<Float>, _ offset: Float, count: Int) -> UnsafePointer<Float> {
    let copy = UnsafeMutablePointer<Float>.allocate(capacity: max(count, 1))
    for index in 0..<count { (copy + index).initialize(to: values[index] + offset) }
    converted.append(copy)
    return UnsafePointer(copy)
  }
}
