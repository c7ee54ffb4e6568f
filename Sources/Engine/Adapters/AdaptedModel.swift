import FedLoRACheckpoint
import FedLoRALinearAlgebra

/// How a sequence becomes one vector for the head.
public enum Pooling: String, Sendable, CaseIterable, Codable {
  /// tanh(W x₀ + b) of the first token, with the checkpoint's pooler, as in BERT's own classifier.
  case pooler
  /// The mean over the sequence's tokens.
  case mean
  /// f(W x₀ + b) of the first token with a layer of the family's own that is trained with the head, as in the
  /// classifiers of RoBERTa, XLM-R (tanh), ELECTRA (GELU) and DistilBERT (ReLU).
  case dense
  /// The sequence's last token, as decoders classify: what the others have seen of the sequence ends there.
  case last
}

/// The classification head: logits = pooled · Wᵀ + b with W of labels × hidden. That of a decoder has no b, and is called `score`.
public struct ClassificationHead: Sendable, Equatable {
  /// Number of classes, at least 2; 1 for a regression.
  public let labelCount: Int
  /// How a sequence becomes one vector.
  public let pooling: Pooling
  /// Whether its one output is a number, trained on the squared error, and no class.
  public let isRegression: Bool

  /// Takes the number of classes and the pooling.
  public init(labelCount: Int, pooling: Pooling) {
    self.labelCount = labelCount
    self.pooling = pooling
    isRegression = false
  }

  private init(regression pooling: Pooling) { (labelCount, self.pooling, isRegression) = (1, pooling, true) }

  /// The head of a regression: one output.
  public static func regression(pooling: Pooling) -> ClassificationHead { ClassificationHead(regression: pooling) }
}

/// A frozen model with a place for LoRA on some of its modules, and a classification head or none: without one it is a language
/// model, whose own frozen head predicts the next token.
///
/// It holds no parameter values: those are flat vectors in `layout`, one per client.
public struct AdaptedModel: Sendable {
  /// Where one module's A and B, or VeRA's d and b, lie in the flat vector.
  struct Slot: Sendable {
    /// Position among all adapted modules: the key of its dropout stream.
    let index: Int
    let aOffset: Int
    let bOffset: Int
  }

  /// The frozen base.
  public let base: FrozenModel
  /// The adapter.
  public let adapter: LoRAConfiguration
  /// The classification head; nil in a language model.
  public let head: ClassificationHead?
  /// Names, shapes and places of all parameters.
  public let layout: ParameterLayout

  /// By layer and `LayerModule.rawValue`; nil where the module has no adapter.
  let slots: [[Slot?]]
  let poolerSlot: Slot?
  /// The frozen matrices under VeRA; nil under LoRA.
  let projections: VeRAProjections?
  let classifierWeightOffset: Int
  /// The layer before the logits under `Pooling.dense`, and the place of its weight, behind which its bias lies.
  let denseHead: DenseHead?
  let denseOffset: Int?
  /// Nil where the head has none.
  let classifierBiasOffset: Int?
  /// The lowest layer with an adapter; `layerCount` where none has.
  let lowestAdaptedLayer: Int

  /// A frozen model as it is, without adapter and head: nothing in it can be trained.
  /// - Throws: never for a model that was read.
  public init(unadapted base: FrozenModel) throws {
    self.base = base
    // Rank and scale of no module.
    adapter = try LoRAConfiguration(rank: 1, alpha: 1, targets: .suffixes([]))
    head = nil
    layout = ParameterLayout([])
    slots = base.layers.map { _ in LayerModule.allCases.map { _ in nil } }
    poolerSlot = nil
    projections = nil
    (classifierWeightOffset, classifierBiasOffset) = (0, nil)
    (denseHead, denseOffset) = (nil, nil)
    lowestAdaptedLayer = base.spec.layerCount
  }

  /// Finds the target modules and lays the parameters out.
  /// - Parameters:
  ///   - isBare: whether an encoder without a head is meant, as under a `MaskedLanguageHead`.
  ///   - stored: VeRA's frozen matrices where they are not to follow from the seed, as `frozenAdapterTensors` names them.
  /// - Throws: `ModelError` when no module matches, a stored matrix is missing or too small, the rank exceeds a module's width, or the pooler or the head of a language
  ///   model is missing.
  public init(
    base: FrozenModel,
    adapter: LoRAConfiguration,
    head: ClassificationHead?,
    isBare: Bool = false,
    stored: TensorSet? = nil
  ) throws {
    if let head, head.labelCount < 2, !head.isRegression {
      throw ModelError.badOption(name: "labels", found: "\(head.labelCount)", expected: "at least 2")
    }
    if head == nil, base.languageHead == nil, !isBare {
      throw ModelError.badOption(
        name: "task",
        found: "language model",
        expected: "classification, because the checkpoint has no head that predicts tokens"
      )
    }
    if head?.pooling == .pooler, base.pooler == nil {
      throw ModelError.badOption(
        name: "pooling",
        found: "pooler",
        expected: "mean, because the checkpoint has no pooler weights"
      )
    }
    let dense = head?.pooling == .dense ? DenseHead.of(base.spec.family) : nil
    if head?.pooling == .dense, dense == nil {
      throw ModelError.badOption(
        name: "pooling",
        found: "dense",
        expected:
          "mean, pooler or last, because the classifiers of '\(base.spec.family)' have no dense layer of their own"
      )
    }
    var tensors: [(name: String, shape: [Int], kind: ParameterKind)] = []
    var offset = 0
    var adapted = 0
    var largest = (input: 0, output: 0)
    func slot(_ path: String, _ input: Int, _ output: Int) throws -> Slot? {
      guard try adapter.targets.matches(path) else { return nil }
      largest = (max(largest.input, input), max(largest.output, output))
      let (a, b): (Int, Int)
      switch adapter.form {
      case .lora:
        // A rank beyond a width adds nothing to B A; VeRA's matrices are random and gain from it.
        guard adapter.rank <= min(input, output) else {
          throw ModelError.badOption(
            name: "rank",
            found: "\(adapter.rank)",
            expected: "at most \(min(input, output)) for module \(path)"
          )
        }
        (a, b) = (adapter.rank * input, output * adapter.rank)
        tensors.append(("\(path).lora_A.weight", [adapter.rank, input], .loraA))
        tensors.append(("\(path).lora_B.weight", [output, adapter.rank], .loraB))
      case .vera:
        (a, b) = (adapter.rank, output)
        tensors.append(("\(path).vera_lambda_d", [adapter.rank], .loraA))
        tensors.append(("\(path).vera_lambda_b", [output], .loraB))
      }
      defer {
        offset += a + b
        adapted += 1
      }
      return Slot(index: adapted, aOffset: offset, bOffset: offset + a)
    }
    let names = base.names
    slots = try (0..<base.spec.layerCount).map { layer in
      try LayerModule.allCases.map { module in
        guard base.spec.has(module) else { return nil }
        let (input, output) = module.sizes(base.spec)
        return try slot(names.modulePrefix + names.module(layer, module), input, output)
      }
    }
    let hidden = base.spec.hiddenSize
    poolerSlot =
      head?.pooling == .pooler ? try names.pooler.flatMap { try slot(names.modulePrefix + $0, hidden, hidden) } : nil
    guard adapted > 0 else {
      throw ModelError.noSuchModule(
        targets: adapter.targets.texts,
        available: base.adaptableModules.map(\.name)
      )
    }
    if case .vera = adapter.form, let stored {
      projections = try VeRAProjections(
        stored,
        rank: adapter.rank,
        largestInput: largest.input,
        largestOutput: largest.output
      )
    } else if case .vera(let seed) = adapter.form {
      projections = VeRAProjections(
        rank: adapter.rank,
        largestInput: largest.input,
        largestOutput: largest.output,
        seed: seed
      )
    } else {
      projections = nil
    }
    denseHead = dense
    denseOffset = dense == nil ? nil : offset
    if let dense {
      tensors.append(("\(dense.dense).weight", [hidden, hidden], .head))
      tensors.append(("\(dense.dense).bias", [hidden], .head))
      offset += hidden * hidden + hidden
    }
    classifierWeightOffset = offset
    let headHasBias = !base.spec.isDecoder
    classifierBiasOffset = headHasBias ? offset + (head?.labelCount ?? 0) * hidden : nil
    if let head {
      let name = dense?.output ?? (base.spec.isDecoder ? "score" : "classifier")
      tensors.append(("\(name).weight", [head.labelCount, hidden], .head))
      if headHasBias { tensors.append(("\(name).bias", [head.labelCount], .head)) }
    }
    layout = ParameterLayout(tensors)
    lowestAdaptedLayer =
      slots.firstIndex { layer in layer.contains { $0 != nil } } ?? base.spec.layerCount
    self.base = base
    self.adapter = adapter
    self.head = head
  }

  /// What an adapter folder needs beside the parameters: VeRA's frozen matrices; nothing under LoRA.
  public var frozenAdapterTensors: TensorSet { projections?.tensors ?? TensorSet() }

  /// `tensors` under this model's names: an adapter that was trained on the bare encoder lacks the prefix that the same
  /// modules have inside a classifier.
  public func canonical(_ tensors: TensorSet) -> TensorSet {
    let known = Set(layout.entries.map(\.name))
    var result = TensorSet()
    for entry in tensors.entries {
      let prefixed = base.names.modulePrefix + entry.name
      result[!known.contains(entry.name) && known.contains(prefixed) ? prefixed : entry.name] = entry.tensor
    }
    return result
  }
}
