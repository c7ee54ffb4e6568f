import FedLoRACheckpoint
import Foundation

/// What a model folder holds, from its configuration and the headers of its checkpoint: no weight is read.
public struct ModelOutline: Sendable {
  /// A kind of linear module that an adapter can sit on.
  public struct Module: Sendable, Equatable {
    /// Its path, with `*` for the layer's number.
    public let path: String
    /// The last part of the path, as `target_modules` may name it.
    public let name: String
    /// Width of what it takes.
    public let inputSize: Int
    /// Width of what it gives.
    public let outputSize: Int
    /// How many of them the model has.
    public let count: Int
  }

  /// The architecture.
  public let spec: TransformerSpec
  /// Values over all tensors that the architecture needs; tied ones count once.
  public let parameterCount: Int
  /// Those of the tables of words, positions and token types.
  public let embeddingCount: Int
  /// Whether it can predict tokens: a decoder with its language head, tied or not.
  public let hasLanguageHead: Bool
  /// Whether the head that predicts tokens is the table of words.
  public let isTied: Bool
  /// Types of the needed tensors, as the checkpoint has them, in ascending order.
  public let storedTypes: [String]
  /// Bytes of the needed tensors in the checkpoint.
  public let storedBytes: Int
  /// The kinds of module that an adapter can sit on, in the order of a layer.
  public let modules: [Module]

  /// Reads `config.json` and the headers of the checkpoint, and checks that every tensor is there in its shape.
  /// - Throws: `ModelError` or `SafetensorsError`, each naming file, key or tensor.
  public init(folder: URL) throws {
    let (spec, names) = try ModelFamily.resolve(HuggingFaceConfiguration(folder: folder))
    let checkpoint = try CheckpointFolder(folder)
    let headers = CheckpointHeaders(checkpoint, prefixes: names.prefixes, probe: names.wordEmbeddings)
    var needed = try headers.embeddings(spec, names)
    embeddingCount = needed.reduce(0) { $0 + $1.count }
    for layer in 0..<spec.layerCount { needed += try headers.layer(layer, spec, names) }
    needed += try headers.ends(spec, names)
    let head = try headers.languageHead(spec, names)
    needed += head.map { [$0] } ?? []
    let hasPooler = names.pooler.map { headers.contains("\($0).weight") } ?? false
    self.spec = spec
    isTied = spec.isDecoder && names.languageHead == nil
    hasLanguageHead = isTied || head != nil
    parameterCount = needed.reduce(0) { $0 + $1.count }
    storedBytes = needed.reduce(0) { $0 + $1.byteCount }
    storedTypes = Set(needed.map(\.type)).sorted()
    var modules = spec.modules.map { module in
      let (input, output) = module.sizes(spec)
      let inner = names.module(0, module)
      // A layer's number is the only part of its path that is one.
      let path = inner.split(separator: ".").map { $0 == "0" ? "*" : String($0) }.joined(separator: ".")
      return Self.module(names.modulePrefix + path, input, output, spec.layerCount)
    }
    if let pooler = names.pooler, hasPooler {
      modules.append(Self.module(names.modulePrefix + pooler, spec.hiddenSize, spec.hiddenSize, 1))
    }
    self.modules = modules
  }

  /// Bytes that the weights take in memory in a precision.
  public func byteCount(in precision: BasePrecision) -> Int {
    let linear = modules.reduce(0) { $0 + $1.inputSize * $1.outputSize * $1.count }
    let head = hasLanguageHead && !isTied ? spec.vocabularySize * spec.hiddenSize : 0
    let wide = parameterCount - linear - embeddingCount - head
    return Int((Double(linear) * precision.bitsPerValue / 8).rounded(.up))
      + Int(Double(embeddingCount + head) * precision.ofEmbeddings.bitsPerValue / 8) + 4 * wide
  }

  private static func module(_ path: String, _ input: Int, _ output: Int, _ count: Int) -> Module {
    let name = path.split(separator: ".").last.map(String.init) ?? path
    return Module(path: path, name: name, inputSize: input, outputSize: output, count: count)
  }

  /// The kinds of module that `targets` take in at least one layer.
  /// - Throws: `ModelError.noSuchModule` where they take none, `ModelError.badOption` for a bad pattern.
  public func modules(taken targets: TargetModules) throws -> [Module] {
    let taken = try modules.compactMap { module -> Module? in
      let layers = module.path.contains("*") ? spec.layerCount : 1
      let count = try (0..<layers).count { layer in
        let path = module.path.split(separator: ".").map { $0 == "*" ? "\(layer)" : String($0) }
        return try targets.matches(path.joined(separator: "."))
      }
      guard count > 0 else { return nil }
      return Module(
        path: module.path,
        name: module.name,
        inputSize: module.inputSize,
        outputSize: module.outputSize,
        count: count
      )
    }
    guard !taken.isEmpty else {
      throw ModelError.noSuchModule(targets: targets.texts, available: modules.map(\.path))
    }
    return taken
  }
}

/// The headers of a checkpoint, asked for what an architecture needs.
private struct CheckpointHeaders {
  struct Found {
    let count: Int
    let byteCount: Int
    let type: String
  }

  private let checkpoint: CheckpointFolder
  private let prefix: String

  init(_ checkpoint: CheckpointFolder, prefixes: [String], probe: String) {
    self.checkpoint = checkpoint
    prefix = WeightStore.prefix(of: checkpoint, among: prefixes, probe: probe)
  }

  func contains(_ name: String) -> Bool { checkpoint.file(holding: prefix + name) != nil }

  private func tensor(whole name: String, _ shape: [Int]) throws -> Found {
    let (file, entry) = try WeightStore.entry(name, of: checkpoint, shape: shape)
    guard [.f32, .f16, .bf16, .f64].contains(entry.type) else {
      throw SafetensorsError(
        .unsupportedType,
        file: file.path,
        tensor: name,
        reason: "has dtype \(entry.type.rawValue); expected F32, F16, BF16 or F64"
      )
    }
    let count = Tensor.count(of: shape) ?? 0
    return Found(count: count, byteCount: count * entry.type.byteCount, type: entry.type.rawValue)
  }

  private func tensor(_ name: String, _ shape: [Int]) throws -> Found { try tensor(whole: prefix + name, shape) }

  private func norm(_ path: String, _ spec: TransformerSpec, width: Int) throws -> [Found] {
    let gain = try tensor("\(path).weight", [width])
    return spec.normKind == .layer ? [gain, try tensor("\(path).bias", [width])] : [gain]
  }

  func embeddings(_ spec: TransformerSpec, _ names: TensorNames) throws -> [Found] {
    let hidden = spec.hiddenSize
    return [try tensor(names.wordEmbeddings, [spec.vocabularySize, hidden])]
      + (try names.positionEmbeddings.map { [try tensor($0, [spec.positionOffset + spec.maximumPositions, hidden])] }
        ?? [])
      + (try names.tokenTypeEmbeddings.map { [try tensor($0, [spec.tokenTypeCount, hidden])] } ?? [])
  }

  func layer(_ index: Int, _ spec: TransformerSpec, _ names: TensorNames) throws -> [Found] {
    var found: [Found] = []
    for module in spec.modules {
      let (input, output) = module.sizes(spec)
      let path = names.module(index, module)
      found.append(try tensor("\(path).weight", spec.storesInputsFirst ? [input, output] : [output, input]))
      if !spec.modulesWithoutBias.contains(module) { found.append(try tensor("\(path).bias", [output])) }
    }
    let norms = [
      names.attentionNorm(index), names.feedForwardNorm(index), names.attentionOutputNorm?(index),
      names.feedForwardOutputNorm?(index),
    ]
    for path in norms { found += try path.map { try norm($0, spec, width: spec.hiddenSize) } ?? [] }
    if let heads = names.headNorms?(index) {
      found += try norm(heads.query, spec, width: spec.headSize) + norm(heads.key, spec, width: spec.headSize)
    }
    return found
  }

  /// The norms before and after the layers, and the pooler where it is there.
  func ends(_ spec: TransformerSpec, _ names: TensorNames) throws -> [Found] {
    let hidden = spec.hiddenSize
    var found = try [names.embeddingNorm, names.finalNorm].compactMap { $0 }.flatMap {
      try norm($0, spec, width: hidden)
    }
    if let pooler = names.pooler, contains("\(pooler).weight") {
      found += [try tensor("\(pooler).weight", [hidden, hidden]), try tensor("\(pooler).bias", [hidden])]
    }
    return found
  }

  /// Nil where it is tied or not there.
  func languageHead(_ spec: TransformerSpec, _ names: TensorNames) throws -> Found? {
    guard spec.isDecoder else { return nil }
    let name = [names.languageHead, names.otherLanguageHead].compactMap { $0 }.first {
      checkpoint.file(holding: $0) != nil
    }
    return try name.map { try tensor(whole: $0, [spec.vocabularySize, spec.hiddenSize]) }
  }
}
