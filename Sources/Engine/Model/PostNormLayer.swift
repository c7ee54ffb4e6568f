/// One layer with norms after the residual sums, forward and backward.
///
/// Forward: u = norm(x + Wₒ attention(x)), y = norm(u + W₂ f(W₁ u)).
extension SlicePass {
  func forwardPostNormLayer(_ index: Int, _ x: UnsafePointer<Float>, _ input: Input, _ buffers: PassBuffers) {
    let spec = model.base.spec
    let layer = model.base.layers[index]
    let own = buffers.layer(index)
    let rows = input.tokenCount
    func run(_ module: LayerModule, _ x: UnsafePointer<Float>, to y: UnsafeMutablePointer<Float>) {
      forwardModule(module, of: index, x, to: y, input, buffers)
    }
    run(.query, x, to: own.query)
    run(.key, x, to: own.key)
    run(.value, x, to: own.value)
    withOffsets(input) { attention(of: index).forward(own, offsets: $0, scores: buffers.scores) }
    run(.attentionOutput, own.context, to: own.attentionSum)
    addAndNorm(layer.attentionNorm, own.attentionSum, x, to: own.middle, own.attentionMean, own.attentionScale, rows)
    run(.feedForwardIn, own.middle, to: own.preActivation)
    spec.feedForward.activation.forward(own.preActivation, to: buffers.activation, rows * spec.feedForwardSize)
    run(.feedForwardOut, buffers.activation, to: own.feedForwardSum)
    addAndNorm(
      layer.feedForwardNorm,
      own.feedForwardSum,
      own.middle,
      to: own.output,
      own.feedForwardMean,
      own.feedForwardScale,
      rows
    )
  }

  /// `buffers.gradient` holds dy on entry and dx on return; below the lowest adapted layer nobody needs dx, so there
  /// the pass ends as soon as the layer's last adapter has its gradient.
  func backwardPostNormLayer(
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
    func has(_ modules: LayerModule...) -> Bool { modules.contains { model.slots[index][$0.rawValue] != nil } }
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

    // y = norm(u + f): the norm's gradient flows to both u and f.
    backwardNorm(
      layer.feedForwardNorm,
      buffers.gradient,
      input: own.feedForwardSum,
      own.feedForwardMean,
      own.feedForwardScale,
      rows
    )
    let needsMiddle = !isLowest || has(.query, .key, .value, .attentionOutput)
    let needsActivation = needsMiddle || has(.feedForwardIn)
    if has(.feedForwardOut) {
      spec.feedForward.activation.forward(own.preActivation, to: buffers.activation, rows * spec.feedForwardSize)
    }
    run(
      .feedForwardOut,
      buffers.gradient,
      input: buffers.activation,
      to: needsActivation ? buffers.gradActivation : nil,
      overwrite: true
    )
    guard needsActivation else { return }
    spec.feedForward.activation.backward(own.preActivation, buffers.gradActivation, rows * spec.feedForwardSize)
    run(
      .feedForwardIn,
      buffers.gradActivation,
      input: own.middle,
      to: needsMiddle ? buffers.gradient : nil,
      overwrite: false
    )
    guard needsMiddle else { return }

    // u = norm(x + o).
    backwardNorm(
      layer.attentionNorm,
      buffers.gradient,
      input: own.attentionSum,
      own.attentionMean,
      own.attentionScale,
      rows
    )
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
      attention(of: index).backward(
        own,
        gradContext: buffers.gradResidual,
        offsets: $0,
        gradQuery: buffers.gradQuery,
        gradKey: buffers.gradKey,
        gradValue: buffers.gradValue,
        scores: buffers.scores,
        gradScores: buffers.gradScores,
        slopes: buffers.scoreSlopes
      )
    }
    let dx = isLowest ? nil : buffers.gradient
    run(.query, buffers.gradQuery, input: x, to: dx, overwrite: false)
    run(.key, buffers.gradKey, input: x, to: dx, overwrite: false)
    run(.value, buffers.gradValue, input: x, to: dx, overwrite: false)
  }
}
