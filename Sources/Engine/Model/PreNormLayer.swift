import CKernels

/// One layer with norms before attention and before the feed-forward block, forward and backward.
///
/// Forward: u = x + Wₒ attention(norm(x)), y = u + F(norm(u)); F is W₂ gelu(W₁ ·) or W₂ (silu(W_g ·) ∘ W₁ ·).
extension SlicePass {
  func forwardPreNormLayer(_ index: Int, _ x: UnsafePointer<Float>, _ input: Input, _ buffers: PassBuffers) {
    let spec = model.base.spec
    let layer = model.base.layers[index]
    let own = buffers.layer(index)
    let rows = input.tokenCount
    func run(_ module: LayerModule, _ x: UnsafePointer<Float>, to y: UnsafeMutablePointer<Float>) {
      forwardModule(module, of: index, x, to: y, input, buffers)
    }
    forwardNorm(layer.attentionNorm, x, to: own.normed, own.attentionMean, own.attentionScale, rows)
    run(.query, own.normed, to: own.query)
    run(.key, own.normed, to: own.key)
    run(.value, own.normed, to: own.value)
    rotate(own.query, own.key, input, buffers, sign: 1)
    attend(index, own, input, buffers)
    run(.attentionOutput, own.context, to: own.attentionSum)
    fl_add(own.attentionSum, x, rows * spec.hiddenSize)
    forwardNorm(
      layer.feedForwardNorm,
      own.attentionSum,
      to: own.middle,
      own.feedForwardMean,
      own.feedForwardScale,
      rows
    )
    if spec.feedForward == .gatedSilu { run(.feedForwardGate, own.middle, to: own.gate) }
    run(.feedForwardIn, own.middle, to: own.preActivation)
    activate(own, buffers, rows)
    run(.feedForwardOut, buffers.activation, to: own.output)
    fl_add(own.output, own.attentionSum, rows * spec.hiddenSize)
  }

  private func activate(_ own: LayerBuffers, _ buffers: PassBuffers, _ rows: Int) {
    let count = rows * model.base.spec.feedForwardSize
    switch model.base.spec.feedForward {
    case .gelu: fl_gelu_forward(own.preActivation, buffers.activation, count)
    case .gatedSilu: fl_silu_gate_forward(own.gate, own.preActivation, buffers.activation, count)
    }
  }

  /// Turns queries and keys by their places' angles, or their gradients back.
  private func rotate(
    _ query: UnsafeMutablePointer<Float>,
    _ key: UnsafeMutablePointer<Float>,
    _ input: Input,
    _ buffers: PassBuffers,
    sign: Float
  ) {
    let spec = model.base.spec
    guard spec.rotaryWidth > 0 else { return }
    withOffsets(input) { offsets in
      for sequence in 0..<(offsets.count - 1) {
        let start = offsets[sequence] - offsets[0]
        let length = offsets[sequence + 1] - offsets[sequence]
        let angles = input.past(input.sequences.lowerBound + sequence) * spec.rotaryWidth / 2
        for (x, heads) in [(query, spec.headCount), (key, spec.keyValueHeadCount)] {
          fl_rotate(
            x + start * heads * spec.headSize,
            buffers.cosine + angles,
            buffers.sine + angles,
            length,
            heads,
            spec.headSize,
            spec.rotaryWidth,
            sign
          )
        }
      }
    }
  }

  /// `buffers.gradient` holds dy on entry and dx on return; below the lowest adapted layer nobody needs dx, so there
  /// the pass ends as soon as the layer's last adapter has its gradient.
  func backwardPreNormLayer(
    _ index: Int,
    _ input: Input,
    _ buffers: PassBuffers,
    trained: TrainedKinds,
    gradients: GradientTarget
  ) {
    let spec = model.base.spec
    let layer = model.base.layers[index]
    let own = buffers.layer(index)
    let rows = input.tokenCount
    let x = UnsafePointer(index == 0 ? buffers.embedded : buffers.layer(index - 1).output)
    let isLowest = index == model.lowestAdaptedLayer
    func has(_ modules: LayerModule...) -> Bool {
      modules.contains { $0.rawValue < model.slots[index].count && model.slots[index][$0.rawValue] != nil }
    }
    func run(
      _ module: LayerModule,
      _ dy: UnsafePointer<Float>,
      input moduleInput: UnsafePointer<Float>,
      to dx: UnsafeMutablePointer<Float>?,
      overwrite: Bool
    ) {
      backwardModule(
        module,
        of: index,
        dy,
        from: moduleInput,
        to: dx,
        overwrite: overwrite,
        input,
        buffers,
        trained,
        gradients
      )
    }

    // y = u + F(norm(u)): dy goes to u as it is, and to F.
    let needsAttention = !isLowest || has(.query, .key, .value, .attentionOutput)
    let needsActivation = needsAttention || has(.feedForwardGate, .feedForwardIn)
    if has(.feedForwardOut) { activate(own, buffers, rows) }
    run(
      .feedForwardOut,
      buffers.gradient,
      input: buffers.activation,
      to: needsActivation ? buffers.gradActivation : nil,
      overwrite: true
    )
    guard needsActivation else { return }
    let count = rows * spec.feedForwardSize
    let gradMiddle = needsAttention ? buffers.gradResidual : nil
    switch spec.feedForward {
    case .gelu:
      fl_gelu_backward(own.preActivation, buffers.gradActivation, buffers.gradActivation, count)
    case .gatedSilu:
      fl_silu_gate_backward(
        own.gate,
        own.preActivation,
        buffers.gradActivation,
        buffers.gradGate,
        buffers.gradActivation,
        count
      )
      run(.feedForwardGate, buffers.gradGate, input: own.middle, to: gradMiddle, overwrite: true)
    }
    run(
      .feedForwardIn,
      buffers.gradActivation,
      input: own.middle,
      to: gradMiddle,
      overwrite: spec.feedForward == .gelu
    )
    guard needsAttention else { return }
    backwardNorm(
      layer.feedForwardNorm,
      buffers.gradResidual,
      input: own.attentionSum,
      own.feedForwardMean,
      own.feedForwardScale,
      rows
    )
    fl_add(buffers.gradient, buffers.gradResidual, rows * spec.hiddenSize)

    // u = x + Wₒ attention(norm(x)).
    let needsContext = !isLowest || has(.query, .key, .value)
    run(
      .attentionOutput,
      buffers.gradient,
      input: own.context,
      to: needsContext ? buffers.gradResidual : nil,
      overwrite: true
    )
    guard needsContext else { return }
    withOffsets(input) {
      attention.backward(
        own,
        gradContext: buffers.gradResidual,
        offsets: $0,
        gradQuery: buffers.gradQuery,
        gradKey: buffers.gradKey,
        gradValue: buffers.gradValue,
        scores: buffers.scores,
        gradScores: buffers.gradScores
      )
    }
    rotate(buffers.gradQuery, buffers.gradKey, input, buffers, sign: -1)
    let gradNormed = isLowest ? nil : buffers.gradResidual
    run(.query, buffers.gradQuery, input: own.normed, to: gradNormed, overwrite: true)
    run(.key, buffers.gradKey, input: own.normed, to: gradNormed, overwrite: false)
    run(.value, buffers.gradValue, input: own.normed, to: gradNormed, overwrite: false)
    guard !isLowest else { return }
    backwardNorm(layer.attentionNorm, buffers.gradResidual, input: x, own.attentionMean, own.attentionScale, rows)
    fl_add(buffers.gradient, buffers.gradResidual, rows * spec.hiddenSize)
  }
}
