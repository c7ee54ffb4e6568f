import CKernels
import FedLoRALinearAlgebra

/// The forward and backward pass of one slice of a batch on one thread.
///
/// Forward, for T tokens of S whole sequences:
/// embeddings (T × hidden) → layers → final norm, where there is one → pooling (S × hidden) → logits (S × labels), or, in a
/// language model, logits of the tokens with a target.
/// Backward follows the same way back and stops below the lowest layer with an adapter.
///
/// `@unchecked Sendable`: each instance belongs to one worker thread of a `ModelRunner`.
final class SlicePass: @unchecked Sendable {
  let model: AdaptedModel
  private let arena = Arena()
  private(set) var buffers: PassBuffers?
  /// Weights with the adapter in them, in place of base and adapter.
  var merged: MergedAdapter?
  /// Of a language model: tokens of the slice whose logits are formed next, and the factor of each one's gradient. Kept, so that a
  /// step allocates nothing.
  var languagePlaces: [Int] = []
  var languageFactors: [Float] = []

  init(_ model: AdaptedModel) { self.model = model }

  /// Bytes of activations held for reuse.
  var byteCount: Int { arena.byteCount }

  /// What a pass works on.
  struct Input {
    let batch: PackedBatch
    /// Sequences of the batch that form this slice.
    let sequences: Range<Int>
    let parameters: UnsafePointer<Float>
    let dropout: AdaptedLinear.Dropout
    /// What came before in each sequence; empty where sequences begin here. Only forward passes take any.
    var caches: [KeyValueCache] = []

    var firstToken: Int { batch.offsets[sequences.lowerBound] }
    var tokenCount: Int { batch.offsets[sequences.upperBound] - firstToken }
    var longest: Int { sequences.lazy.map { batch.offsets[$0 + 1] - batch.offsets[$0] }.max() ?? 0 }
    /// Tokens that some sequence may have with those before it.
    var context: Int { caches.isEmpty ? longest : caches.lazy.map(\.capacity).max() ?? longest }

    /// Tokens before the first of a sequence.
    func past(_ sequence: Int) -> Int { caches.isEmpty ? 0 : caches[sequence - sequences.lowerBound].count }
  }

  /// Runs forward; a classifier's logits (S × labels) stay valid until the next pass. A language model has none yet.
  @discardableResult
  func forward(_ input: Input, isTraining: Bool) -> UnsafeMutablePointer<Float> {
    let buffers = prepare(input, isTraining: isTraining)
    embed(input, into: buffers)
    var x = UnsafePointer(buffers.embedded)
    for layer in 0..<model.base.spec.layerCount {
      switch model.base.spec.normPlacement {
      case .post: forwardPostNormLayer(layer, x, input, buffers)
      case .pre, .around: forwardPreNormLayer(layer, x, input, buffers)
      }
      x = UnsafePointer(buffers.layer(layer).output)
    }
    if model.head != nil {
      if model.base.finalNorm != nil {
        normLastLayer(input, buffers)
        x = UnsafePointer(buffers.finalNormed)
      }
      forwardHead(x, input, buffers)
    }
    return buffers.logits
  }

  /// Runs forward up to the loss, and, where `scale` asks for it, forms the loss's own gradient: `backward` may follow.
  func loss(_ input: Input, scale: LossScale) -> LossSummary {
    let logits = forward(input, isTraining: scale != .none)
    if let head = model.head {
      if head.isRegression { return SquaredError.apply(logits, input: input, factor: scale.factor(units: 1)) }
      return CrossEntropy.apply(logits, input: input, labelCount: head.labelCount, factor: scale.factor(units: 1))
    }
    guard let buffers else { return LossSummary() }
    return languageLoss(input, buffers, scale: scale)
  }

  /// Logits of every token (tokens × vocabulary) of a language model.
  func tokenLogits(_ input: Input, to target: UnsafeMutablePointer<Float>) {
    forward(input, isTraining: false)
    if let buffers { languageLogits(input, buffers, to: target) }
  }

  /// Output of the embeddings (−1) or of a layer in the last training pass, T × hidden.
  func hiddenState(after layer: Int) -> UnsafePointer<Float>? {
    buffers.map { UnsafePointer(layer < 0 ? $0.embedded : $0.layer(layer).output) }
  }

  /// The pooled vectors of the last pass, sequences × hidden.
  var pooledVectors: UnsafePointer<Float>? { buffers.map { UnsafePointer($0.pooled) } }

  /// Leaves the gradients of all `trained` parameters in `gradients`. Must follow `loss` of the same input with a scale.
  func backward(_ input: Input, trained: TrainedKinds, gradients: GradientTarget) {
    guard let buffers else { preconditionFailure("a backward pass needs a forward pass before it") }
    let spec = model.base.spec
    let trainsAdapter = trained.contains(.loraA) || trained.contains(.loraB)
    if model.head == nil {
      guard trainsAdapter else { return }
    } else {
      let needsPooled = trainsAdapter && (model.lowestAdaptedLayer < spec.layerCount || model.poolerSlot != nil)
      guard backwardHead(input, buffers, trained: trained, gradients: gradients, needsPooled: needsPooled) else {
        return
      }
      backwardFinalNorm(input, buffers)
    }
    for layer in stride(from: spec.layerCount - 1, through: model.lowestAdaptedLayer, by: -1) {
      switch spec.normPlacement {
      case .post: backwardPostNormLayer(layer, input, buffers, trained: trained, gradients: gradients)
      case .pre, .around: backwardPreNormLayer(layer, input, buffers, trained: trained, gradients: gradients)
      }
    }
  }

  private func prepare(_ input: Input, isTraining: Bool) -> PassBuffers {
    let needed = PassBuffers.Capacity(
      tokens: input.tokenCount,
      sequences: input.sequences.count,
      longest: input.longest,
      context: input.context,
      isTraining: isTraining
    )
    if let buffers, buffers.capacity.covers(needed) { return buffers }
    // Growing to the largest of each seen so far keeps alternating shapes from carving anew every time.
    let old = buffers?.capacity
    let grown = PassBuffers.Capacity(
      tokens: max(needed.tokens, old?.tokens ?? 0),
      sequences: max(needed.sequences, old?.sequences ?? 0),
      longest: max(needed.longest, old?.longest ?? 0),
      context: max(needed.context, old?.context ?? 0),
      isTraining: isTraining
    )
    let carved = PassBuffers(model, capacity: grown, arena: arena)
    buffers = carved
    return carved
  }

  private func embed(_ input: Input, into buffers: PassBuffers) {
    let base = model.base
    let hidden = base.spec.hiddenSize
    let first = input.firstToken
    let summed = base.embeddingNorm == nil ? buffers.embedded : buffers.gradient
    for sequence in input.sequences {
      let past = input.past(sequence)
      for (position, token) in (input.batch.offsets[sequence]..<input.batch.offsets[sequence + 1]).enumerated() {
        let row = summed + (token - first) * hidden
        base.wordEmbeddings.copyRows(from: Int(input.batch.tokens[token]), to: row)
        if base.spec.embeddingScale != 1 { fl_scale(base.spec.embeddingScale, row, hidden) }
        if let positions = base.positionEmbeddings {
          fl_add(row, positions + (base.spec.positionOffset + past + position) * hidden, hidden)
        }
        if let types = base.tokenTypeEmbeddings {
          fl_add(row, types + Int(input.batch.tokenTypes[token]) * hidden, hidden)
        }
      }
    }
    guard let norm = base.embeddingNorm else { return }
    let rows = input.tokenCount
    forwardNorm(norm, summed, to: buffers.embedded, buffers.statistics, buffers.statistics + rows, rows)
  }

  func adapted(_ layer: Int, _ module: LayerModule, _ buffers: PassBuffers) -> AdaptedLinear {
    if let linear = merged?.linear(layer, module) { return adapted(linear, slot: nil, buffers) }
    guard let linear = model.base.layers[layer].modules[module.rawValue] else {
      preconditionFailure("layers of \(model.base.spec.family) have no module \(module)")
    }
    return adapted(linear, slot: model.slots[layer][module.rawValue], buffers)
  }

  func adapted(_ linear: FrozenModel.Linear, slot: AdaptedModel.Slot?, _ buffers: PassBuffers) -> AdaptedLinear {
    AdaptedLinear(
      linear: linear,
      slot: slot,
      rank: model.adapter.rank,
      scale: model.adapter.scale,
      vera: model.projections.map { AdaptedLinear.VeRA(projections: $0, scratch: buffers.folded) }
    )
  }

  /// `body` with the offsets of the slice's sequences.
  func withOffsets<T>(_ input: Input, _ body: (UnsafeBufferPointer<Int>) -> T) -> T {
    input.batch.offsets.withUnsafeBufferPointer { all in
      body(UnsafeBufferPointer(rebasing: all[input.sequences.lowerBound...input.sequences.upperBound]))
    }
  }

  /// Attention as layer `layer` has it.
  func attention(of layer: Int) -> Attention {
    let spec = model.base.spec
    return Attention(
      headCount: spec.headCount,
      keyValueHeadCount: spec.keyValueHeadCount,
      headSize: spec.headSize,
      direction: spec.attention(of: layer),
      factor: spec.attentionScale,
      cap: spec.attentionCap
    )
  }
}
