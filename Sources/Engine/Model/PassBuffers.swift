/// Activations of one layer for T tokens.
struct LayerBuffers {
  /// T × all heads of queries each.
  let query, context: UnsafeMutablePointer<Float>
  /// T × all heads of keys and values each.
  let key, value: UnsafeMutablePointer<Float>
  /// T × hidden each. `normed` is attention's input where norms stand before it; `feedForwardSum` is the last norm's input where
  /// norms stand after or around, and `attentionBlock` what attention gives where they stand around; else without elements.
  let normed, attentionBlock, attentionSum, middle, feedForwardSum, output: UnsafeMutablePointer<Float>
  /// As `query` and `key`, before their heads are normed, and T × heads each: the scales of those norms; without elements where
  /// heads are not normed.
  let rawQuery, rawKey, queryScale, keyScale: UnsafeMutablePointer<Float>
  /// T each, of the norms on what the blocks give; without elements where there are none.
  let attentionBlockMean, attentionBlockScale, feedForwardBlockMean, feedForwardBlockScale: UnsafeMutablePointer<Float>
  /// T × feed-forward: before the activation, and the gate before its own; without elements where there is none.
  let preActivation, gate: UnsafeMutablePointer<Float>
  /// heads × T: log-sum-exp of every attention row.
  let logSumExp: UnsafeMutablePointer<Float>
  /// T each.
  let attentionMean, attentionScale, feedForwardMean, feedForwardScale: UnsafeMutablePointer<Float>
  /// By `LayerModule.rawValue`, T × rank where there is an adapter: the adapter's A-side output.
  let down: [UnsafeMutablePointer<Float>?]
}

/// All buffers of a pass, carved from one arena for a capacity and reused for every pass that fits.
struct PassBuffers {
  /// What the buffers were carved for.
  struct Capacity: Equatable {
    let tokens: Int
    let sequences: Int
    let longest: Int
    /// Most tokens of a sequence together with those before it that a cache holds; else as `longest`.
    let context: Int
    let isTraining: Bool

    func covers(_ other: Capacity) -> Bool {
      tokens >= other.tokens && sequences >= other.sequences && longest >= other.longest && context >= other.context
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
  /// T × feed-forward each; the gate's gradient without elements where there is none.
  let activation, gradActivation, gradGate: UnsafeMutablePointer<Float>
  /// T × hidden; T × hidden or all heads of queries, whichever is wider.
  let gradient, gradResidual: UnsafeMutablePointer<Float>
  /// T × hidden: the gradient of a block of its own, where norms stand around the blocks or both read the same; else without
  /// elements.
  let gradBlock: UnsafeMutablePointer<Float>
  /// T × the widest fused module: what it gives, or its gradient; without elements where none is.
  let fused: UnsafeMutablePointer<Float>
  /// As `LayerBuffers.query`, `key` and `value`.
  let gradQuery, gradKey, gradValue: UnsafeMutablePointer<Float>
  /// context × half a head's rotary width each: cosine and sine of every angle.
  let cosine, sine: UnsafeMutablePointer<Float>
  /// Of a language model: the last layer's output after the final norm (T × hidden), and some of its rows with their logits.
  let finalNormed, languageRows, languageLogits: UnsafeMutablePointer<Float>
  /// A row of slopes of the logits' soft bound; without elements where there is none.
  let logitSlopes: UnsafeMutablePointer<Float>
  /// T × rank; T × the widest module input, or what a product with a frozen matrix in few bits needs.
  let gradDown, dropped: UnsafeMutablePointer<Float>
  /// What products with a language model's head in few bits need.
  let languageScratch: UnsafeMutablePointer<Float>
  /// A block of queries, or the heads that share keys, × context.
  let scores: UnsafeMutablePointer<Float>
  /// A block of queries × longest each; the slopes of the scores' soft bound without elements where there is none.
  let gradScores, scoreSlopes: UnsafeMutablePointer<Float>
  /// sequences × hidden each.
  let gathered, pooled, gradPooled: UnsafeMutablePointer<Float>
  /// sequences × hidden where a dense layer of the head is trained; else nothing.
  let dense: UnsafeMutablePointer<Float>
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
    let (q, kv) = (spec.queryWidth, spec.keyValueWidth)
    let r = model.adapter.rank
    let before = spec.normPlacement == .post ? 0 : h
    let after = spec.normPlacement == .pre ? 0 : h
    let around = spec.normPlacement == .around ? h : 0
    let aroundRow = around == 0 ? 0 : 1
    let (normedHeads, normedKeys) = spec.normsHeads ? (spec.headCount, spec.keyValueHeadCount) : (0, 0)
    let ownBlock = around > 0 || spec.residual == .parallel ? h : 0
    let fusedSize =
      [LayerModule.queryKeyValue, .feedForwardGateIn].filter(spec.has).map { $0.sizes(spec).output }.max() ?? 0
    let gradScoreSize = Attention.blockSize(longest: capacity.longest)
    let slopes = spec.attentionCap == nil ? 0 : gradScoreSize
    let logitSlopeSize = model.head == nil && spec.logitCap != nil ? spec.vocabularySize : 0
    let gateSize = spec.feedForward.isGated ? f : 0
    let angles = capacity.context * spec.rotaryWidth / 2
    let scoreRows = max(min(capacity.longest, Attention.blockRows), spec.headCount / spec.keyValueHeadCount)
    let scoreSize = scoreRows * capacity.context
    let labels = model.head?.labelCount ?? 0
    let denseSize = model.denseHead == nil ? 0 : s * h
    let chunk = model.head == nil ? PassBuffers.languageRows(spec.vocabularySize) : 0
    let finalSize = model.head == nil || model.base.finalNorm != nil ? t * h : 0
    let foldedSize = 2 * (model.projections?.largestOutput ?? 0) * r
    let firstSaved = capacity.isTraining ? min(model.lowestAdaptedLayer, spec.layerCount) : spec.layerCount
    let scratchCount = min(2, firstSaved)
    let layerSize = t * PassBuffers.layerFloats(model)
    let droppedSize = max(t * max(h, f, q), model.base.scratchCount(rows: max(t, s)))
    let languageScratchSize = model.base.languageHead.map { head in
      max(head.scratchCount(rows: t, transposed: true), head.scratchCount(rows: chunk, transposed: false))
    }
    let languageScratchCount = model.head == nil ? languageScratchSize ?? 0 : 0
    let total =
      (spec.layerCount - firstSaved + scratchCount) * layerSize
      + t * (2 * h + max(h, q) + q + 2 * kv + 2 * f + gateSize + ownBlock + fusedSize + 2) + max(t, s) * r
      + scoreSize + gradScoreSize + slopes + 2 * angles + s * (3 * h + r + labels)
      + logitSlopeSize + denseSize
      + finalSize + chunk * (h + spec.vocabularySize) + foldedSize + droppedSize + languageScratchCount
    arena.reset(toHold: total, buffers: (spec.layerCount - firstSaved + scratchCount) * 36 + 50)
    func makeLayer(_ slots: [AdaptedModel.Slot?]) -> LayerBuffers {
      LayerBuffers(
        query: arena.take(t * q),
        context: arena.take(t * q),
        key: arena.take(t * kv),
        value: arena.take(t * kv),
        normed: arena.take(t * before),
        attentionBlock: arena.take(t * around),
        attentionSum: arena.take(t * h),
        middle: arena.take(t * h),
        feedForwardSum: arena.take(t * after),
        output: arena.take(t * h),
        rawQuery: arena.take(t * normedHeads * spec.headSize),
        rawKey: arena.take(t * normedKeys * spec.headSize),
        queryScale: arena.take(t * normedHeads),
        keyScale: arena.take(t * normedKeys),
        attentionBlockMean: arena.take(t * aroundRow),
        attentionBlockScale: arena.take(t * aroundRow),
        feedForwardBlockMean: arena.take(t * aroundRow),
        feedForwardBlockScale: arena.take(t * aroundRow),
        preActivation: arena.take(t * f),
        gate: arena.take(t * gateSize),
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
    gradGate = arena.take(t * gateSize)
    gradient = arena.take(t * h)
    gradResidual = arena.take(t * max(h, q))
    gradBlock = arena.take(t * ownBlock)
    fused = arena.take(t * fusedSize)
    gradQuery = arena.take(t * q)
    gradKey = arena.take(t * kv)
    gradValue = arena.take(t * kv)
    cosine = arena.take(angles)
    sine = arena.take(angles)
    finalNormed = arena.take(finalSize)
    languageRows = arena.take(chunk * h)
    languageLogits = arena.take(chunk * spec.vocabularySize)
    logitSlopes = arena.take(logitSlopeSize)
    gradDown = arena.take(max(t, s) * r)
    dropped = arena.take(droppedSize)
    languageScratch = arena.take(languageScratchCount)
    scores = arena.take(scoreSize)
    gradScores = arena.take(gradScoreSize)
    scoreSlopes = arena.take(slopes)
    gathered = arena.take(s * h)
    pooled = arena.take(s * h)
    gradPooled = arena.take(s * h)
    dense = arena.take(denseSize)
    poolerDown = arena.take(s * r)
    logits = arena.take(s * labels)
    folded = arena.take(foldedSize)
    statistics = arena.take(2 * t)
    if case .rotary(let rotary) = spec.positions { rotary.tabulate(capacity.context, cosine: cosine, sine: sine) }
  }

  /// Floats that a layer keeps of each token.
  private static func layerFloats(_ model: AdaptedModel) -> Int {
    let spec = model.base.spec
    let (h, f, q, kv) = (spec.hiddenSize, spec.feedForwardSize, spec.queryWidth, spec.keyValueWidth)
    let before = spec.normPlacement == .post ? 0 : h
    let after = spec.normPlacement == .pre ? 0 : h
    let (around, aroundRows) = spec.normPlacement == .around ? (h, 4) : (0, 0)
    let gate = spec.feedForward.isGated ? f : 0
    let normed = spec.normsHeads ? (spec.headCount + spec.keyValueHeadCount) * (spec.headSize + 1) : 0
    let statistics = spec.headCount + 4 + aroundRows
    let down = spec.modules.count * model.adapter.rank
    return 2 * q + 2 * kv + 3 * h + before + around + after + f + gate + normed + statistics + down
  }

  /// Bytes that a training pass keeps of each token for its way back.
  static func bytesPerToken(_ model: AdaptedModel) -> Int {
    max(0, model.base.spec.layerCount - model.lowestAdaptedLayer) * layerFloats(model) * MemoryLayout<Float>.size
  }

  /// Rows of logits over the vocabulary that are formed at a time: about 64 MB, because each product reads and packs the whole
  /// head, but no more rows than pay for that.
  static func languageRows(_ vocabularySize: Int) -> Int { min(512, max(32, (16 << 20) / vocabularySize)) }
}
