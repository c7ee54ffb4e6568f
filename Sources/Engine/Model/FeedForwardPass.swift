import CKernels

/// The feed-forward block between its norms, forward and backward: W₂ f(W₁ x), or W₂ (f(W_gate x) ∘ W₁ x).
extension SlicePass {
  /// y = block(x) for the tokens of the slice.
  func forwardFeedForward(
    _ index: Int,
    _ x: UnsafePointer<Float>,
    to y: UnsafeMutablePointer<Float>,
    _ input: Input,
    _ buffers: PassBuffers
  ) {
    let spec = model.base.spec
    let own = buffers.layer(index)
    let (rows, width) = (input.tokenCount, spec.feedForwardSize)
    if spec.fusesGate {
      forwardModule(.feedForwardGateIn, of: index, x, to: buffers.fused, input, buffers)
      fl_copy_rows(own.gate, width, buffers.fused, 2 * width, rows, width)
      fl_copy_rows(own.preActivation, width, buffers.fused + width, 2 * width, rows, width)
    } else {
      if spec.feedForward.isGated { forwardModule(.feedForwardGate, of: index, x, to: own.gate, input, buffers) }
      forwardModule(.feedForwardIn, of: index, x, to: own.preActivation, input, buffers)
    }
    activate(own, buffers, rows)
    forwardModule(.feedForwardOut, of: index, buffers.activation, to: y, input, buffers)
  }

  private func activate(_ own: LayerBuffers, _ buffers: PassBuffers, _ rows: Int) {
    let spec = model.base.spec
    let (f, count) = (spec.feedForward.activation, rows * spec.feedForwardSize)
    if spec.feedForward.isGated {
      f.forward(gate: own.gate, own.preActivation, to: buffers.activation, count)
    } else {
      f.forward(own.preActivation, to: buffers.activation, count)
    }
  }

  /// From the gradient of the block's output to its adapters, and to its input where `dx` is given, which is overwritten.
  func backwardFeedForward(
    _ dy: UnsafePointer<Float>,
    from x: UnsafePointer<Float>,
    to dx: UnsafeMutablePointer<Float>?,
    _ way: LayerBackward
  ) {
    let spec = model.base.spec
    let (own, buffers, rows, width) = (way.own, way.buffers, way.rows, spec.feedForwardSize)
    let needsActivation = dx != nil || LayerBackward.intoFeedForward.contains(where: way.has)
    if way.has(.feedForwardOut) { activate(own, buffers, rows) }
    let gradActivation = needsActivation ? buffers.gradActivation : nil
    backwardModule(.feedForwardOut, dy, from: buffers.activation, to: gradActivation, overwrite: true, way)
    guard let gradActivation else { return }
    guard spec.feedForward.isGated else {
      spec.feedForward.activation.backward(own.preActivation, gradActivation, rows * width)
      backwardModule(.feedForwardIn, gradActivation, from: x, to: dx, overwrite: true, way)
      return
    }
    spec.feedForward.activation.backward(
      gate: own.gate,
      own.preActivation,
      gradActivation,
      gateGradient: buffers.gradGate,
      rows * width
    )
    if spec.fusesGate {
      fl_copy_rows(buffers.fused, 2 * width, buffers.gradGate, width, rows, width)
      fl_copy_rows(buffers.fused + width, 2 * width, gradActivation, width, rows, width)
      backwardModule(.feedForwardGateIn, buffers.fused, from: x, to: dx, overwrite: true, way)
    } else {
      backwardModule(.feedForwardGate, buffers.gradGate, from: x, to: dx, overwrite: true, way)
      backwardModule(.feedForwardIn, gradActivation, from: x, to: dx, overwrite: false, way)
    }
  }
}
