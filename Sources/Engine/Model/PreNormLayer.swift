import CKernels

/// One layer with norms before attention and before the feed-forward block, forward and backward.
///
/// Forward: u = x + Wₒ attention(norm(x)), y = u + F(norm(u)). Where both blocks read the same, y = u + F(norm(x)). Where norms
/// stand around the blocks, norm(Wₒ attention(·)) and norm(F(·)) are what is added.
extension SlicePass {
  func forwardPreNormLayer(_ index: Int, _ x: UnsafePointer<Float>, _ input: Input, _ buffers: PassBuffers) {
    let spec = model.base.spec
    let layer = model.base.layers[index]
    let own = buffers.layer(index)
    let rows = input.tokenCount
    forwardNorm(layer.attentionNorm, x, to: own.normed, own.attentionMean, own.attentionScale, rows)
    projectHeads(index, own.normed, input, buffers)
    rotate(index, own.query, own.key, input, buffers, sign: 1)
    attend(index, own, input, buffers)
    if let norm = layer.attentionOutputNorm {
      forwardModule(.attentionOutput, of: index, own.context, to: own.attentionBlock, input, buffers)
      let (mean, scale) = (own.attentionBlockMean, own.attentionBlockScale)
      forwardNorm(norm, own.attentionBlock, to: own.attentionSum, mean, scale, rows)
    } else {
      forwardModule(.attentionOutput, of: index, own.context, to: own.attentionSum, input, buffers)
    }
    fl_add(own.attentionSum, x, rows * spec.hiddenSize)
    let read = spec.residual == .parallel ? x : UnsafePointer(own.attentionSum)
    forwardNorm(layer.feedForwardNorm, read, to: own.middle, own.feedForwardMean, own.feedForwardScale, rows)
    if let norm = layer.feedForwardOutputNorm {
      forwardFeedForward(index, own.middle, to: own.feedForwardSum, input, buffers)
      let (mean, scale) = (own.feedForwardBlockMean, own.feedForwardBlockScale)
      forwardNorm(norm, own.feedForwardSum, to: own.output, mean, scale, rows)
    } else {
      forwardFeedForward(index, own.middle, to: own.output, input, buffers)
    }
    fl_add(own.output, own.attentionSum, rows * spec.hiddenSize)
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
    let way = LayerBackward(
      index: index,
      input: input,
      buffers: buffers,
      trained: trained,
      gradients: gradients,
      slots: model.slots[index]
    )
    let layer = model.base.layers[index]
    let (own, count) = (way.own, way.rows * model.base.spec.hiddenSize)
    let x = UnsafePointer(index == 0 ? buffers.embedded : buffers.layer(index - 1).output)
    let isLowest = index == model.lowestAdaptedLayer
    let needsContext = !isLowest || LayerBackward.intoHeads.contains(where: way.has)
    let needsAttention = needsContext || way.has(.attentionOutput)
    guard model.base.spec.residual == .parallel else {
      // y = u + F(norm(u)): dy goes to u as it is, and to F; then the same for u = x + attention(norm(x)).
      let needsMiddle = needsAttention
      backwardBlock(way, from: own.attentionSum, to: needsMiddle ? buffers.gradResidual : nil)
      guard needsMiddle else { return }
      fl_add(buffers.gradient, buffers.gradResidual, count)
      backwardAttention(way, layer, x, needsContext: needsContext, isLowest: isLowest)
      if !isLowest { fl_add(buffers.gradient, buffers.gradResidual, count) }
      return
    }
    // y = x + attention(norm(x)) + F(norm'(x)): each block gets dy, so what one gives to x waits for the other.
    backwardBlock(way, from: x, to: isLowest ? nil : buffers.gradBlock)
    guard needsAttention else { return }
    backwardAttention(way, layer, x, needsContext: needsContext, isLowest: isLowest)
    guard !isLowest else { return }
    fl_add(buffers.gradient, buffers.gradResidual, count)
    fl_add(buffers.gradient, buffers.gradBlock, count)
  }

  /// Through the feed-forward block and its norms: `buffers.gradient` is dy and stays, `target` gets the gradient of what the
  /// first norm read.
  private func backwardBlock(
    _ way: LayerBackward,
    from read: UnsafePointer<Float>,
    to target: UnsafeMutablePointer<Float>?
  ) {
    let (own, buffers, rows) = (way.own, way.buffers, way.rows)
    let layer = model.base.layers[way.index]
    var dy = buffers.gradient
    if let norm = layer.feedForwardOutputNorm {
      dy = buffers.gradBlock
      dy.update(from: buffers.gradient, count: rows * norm.width)
      let (mean, scale) = (own.feedForwardBlockMean, own.feedForwardBlockScale)
      backwardNorm(norm, dy, input: own.feedForwardSum, mean, scale, rows)
    }
    backwardFeedForward(dy, from: own.middle, to: target, way)
    guard let target else { return }
    backwardNorm(layer.feedForwardNorm, target, input: read, own.feedForwardMean, own.feedForwardScale, rows)
  }

  /// Through attention and its norms: `buffers.gradient` is the gradient of what attention adds, and stays; the gradient of `x`
  /// through attention is left in `buffers.gradResidual`, but in the lowest layer, where nobody needs it.
  private func backwardAttention(
    _ way: LayerBackward,
    _ layer: FrozenModel.Layer,
    _ x: UnsafePointer<Float>,
    needsContext: Bool,
    isLowest: Bool
  ) {
    let (own, buffers, rows) = (way.own, way.buffers, way.rows)
    var dy = buffers.gradient
    if let norm = layer.attentionOutputNorm {
      dy = buffers.gradBlock
      dy.update(from: buffers.gradient, count: rows * norm.width)
      backwardNorm(norm, dy, input: own.attentionBlock, own.attentionBlockMean, own.attentionBlockScale, rows)
    }
    let gradContext = needsContext ? buffers.gradResidual : nil
    backwardModule(.attentionOutput, dy, from: own.context, to: gradContext, overwrite: true, way)
    guard let gradContext else { return }
    withOffsets(way.input) {
      attention(of: way.index).backward(
        own,
        gradContext: gradContext,
        offsets: $0,
        gradQuery: buffers.gradQuery,
        gradKey: buffers.gradKey,
        gradValue: buffers.gradValue,
        scores: buffers.scores,
        gradScores: buffers.gradScores,
        slopes: buffers.scoreSlopes
      )
    }
    backwardHeads(to: isLowest ? nil : buffers.gradResidual, way)
    guard !isLowest else { return }
    backwardNorm(layer.attentionNorm, buffers.gradResidual, input: x, own.attentionMean, own.attentionScale, rows)
  }
}
