/// Activations of one encoder layer for T tokens.
struct LayerBuffers {
  /// T × hidden each.
  let query, key, value, context, attentionSum, middle, feedForwardSum, output: UnsafeMutablePointer<Float>
  /// T × feed-forward: before the activation.
  let preActivation: UnsafeMutablePointer<Float>
  /// heads × T: log-sum-exp of every attention row.
  let logSumExp: UnsafeMutablePointer<Float>
  /// T each.
  let attentionMean, attentionScale, feedForwardMean, feedForwardScale: UnsafeMutablePointer<Float>
  /// By `LayerModule.rawValue`, T × rank: the adapter's A-side output.
  let down: [UnsafeMutablePointer<Float>?]
}

/// All buffers of a pass, carved from one arena for a capacity and reused for every pass that fits.
struct PassBuffers {
  /// What the buffers were carved for.
  struct Capacity: Equatable {
    let tokens: Int
    let sequences: Int
    let longest: Int
    let isTraining: Bool

    func covers(_ other: Capacity) -> Bool {
      tokens >= other.tokens && sequences >= other.sequences && longest >= other.longest
        && isTraining == other.isTraining
    }
  }

  let capacity: Capacity
  /// T × hidden: the output of the embeddings.
  let embedded: UnsafeMutablePointer<Float>
  /// One per layer that the backward pass visits; layers below share two in turn.
  private let saved: [LayerBuffers]
  private let firstSaved: Int
  private let scratchLayers: [LayerBuffers]
  /// T × feed-forward, T × feed-forward.
  let activation, gradActivation: UnsafeMutablePointer<Float>
  /// T × hidden each.
  let gradient, gradResidual, gradQuery, gradKey, gradValue: UnsafeMutablePointer<Float>
  /// T × rank; T × the widest module input.
  let gradDown, dropped: UnsafeMutablePointer<Float>
  /// longest × longest each.
  let scores, gradScores: UnsafeMutablePointer<Float>
  /// sequences × hidden each.
  let gathered, pooled, gradPooled: UnsafeMutablePointer<Float>
  /// sequences × rank; sequences × labels.
  let poolerDown, logits: UnsafeMutablePointer<Float>
  /// Under VeRA 2 · the largest output · rank: the folded B and its gradient; else nothing.
  let folded: UnsafeMutablePointer<Float>
  /// 2 T: means and scales of the embeddings' norm, which no backward pass needs.
  let statistics: UnsafeMutablePointer<Float>

  func layer(_ index: Int) -> LayerBuffers {
    index >= firstSaved ? saved[index - firstSaved] : scratchLayers[index % 2]
  }

  init(_ model: AdaptedModel, capacity: Capacity, arena: Arena) {
    let spec = model.base.spec
    let t = capacity.tokens
    let s = capacity.sequences
    let h = spec.hiddenSize
    let f = spec.feedForwardSize
    let r = model.adapter.rank
    let foldedSize = 2 * (model.projections?.largestOutput ?? 0) * r
    let firstSaved = capacity.isTraining ? min(model.lowestAdaptedLayer, spec.layerCount) : spec.layerCount
    let scratchCount = min(2, firstSaved)
    let layerSize = t * (8 * h + f + spec.headCount + 4 + LayerModule.allCases.count * r)
    let total =
      (spec.layerCount - firstSaved + scratchCount) * layerSize + t * (6 * h + 2 * f + r + max(h, f) + 2)
      + 2 * capacity.longest * capacity.longest + s * (3 * h + r + model.head.labelCount)
      + foldedSize
    arena.reset(toHold: total, buffers: (spec.layerCount - firstSaved + scratchCount) * 20 + 32)
    func makeLayer(_ slots: [AdaptedModel.Slot?]) -> LayerBuffers {
      LayerBuffers(
        query: arena.take(t * h),
        key: arena.take(t * h),
        value: arena.take(t * h),
        context: arena.take(t * h),
        attentionSum: arena.take(t * h),
        middle: arena.take(t * h),
        feedForwardSum: arena.take(t * h),
        output: arena.take(t * h),
        preActivation: arena.take(t * f),
        logSumExp: arena.take(t * spec.headCount),
        attentionMean: arena.take(t),
        attentionScale: arena.take(t),
        feedForwardMean: arena.take(t),
        feedForwardScale: arena.take(t),
        down: slots.map { $0 == nil ? nil : arena.take(t * r) }
      )
    }
    self.capacity = capacity
    self.firstSaved = firstSaved
    saved = (firstSaved..<spec.layerCount).map { makeLayer(model.slots[$0]) }
    // In evaluation a shared layer may carry any module's adapter.
    let anySlots = model.slots.reduce([AdaptedModel.Slot?](repeating: nil, count: LayerModule.allCases.count)) {
      zip($0, $1).map { $0 ?? $1 }
    }
    scratchLayers = (0..<scratchCount).map { _ in makeLayer(anySlots) }
    embedded = arena.take(t * h)
    activation = arena.take(t * f)
    gradActivation = arena.take(t * f)
    gradient = arena.take(t * h)
    gradResidual = arena.take(t * h)
    gradQuery = arena.take(t * h)
    gradKey = arena.take(t * h)
    gradValue = arena.take(t * h)
    gradDown = arena.take(max(t, s) * r)
    dropped = arena.take(t * max(h, f))
    scores = arena.take(capacity.longest * capacity.longest)
    gradScores = arena.take(capacity.longest * capacity.longest)
    gathered = arena.take(s * h)
    pooled = arena.take(s * h)
    gradPooled = arena.take(s * h)
    poolerDown = arena.take(s * r)
    logits = arena.take(s * model.head.labelCount)
    folded = arena.take(foldedSize)
    statistics = arena.take(2 * t)
  }
}
