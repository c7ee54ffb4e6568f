/// One linear module of a layer over the tokens of a slice, with its adapter.
extension SlicePass {
  /// y = module(x), and what its adapter needs for the way back.
  func forwardModule(
    _ module: LayerModule,
    of layer: Int,
    _ x: UnsafePointer<Float>,
    to y: UnsafeMutablePointer<Float>,
    _ input: Input,
    _ buffers: PassBuffers
  ) {
    adapted(layer, module, buffers).forward(
      x,
      rows: input.tokenCount,
      parameters: input.parameters,
      output: y,
      down: buffers.layer(layer).down[module.rawValue],
      dropout: input.dropout,
      scratch: buffers.dropped
    )
  }

  /// The gradients of its adapter, and of its input where `dx` is given.
  /// - Parameter overwrite: whether `dx` is set rather than added to.
  func backwardModule(
    _ module: LayerModule,
    of layer: Int,
    _ dy: UnsafePointer<Float>,
    from x: UnsafePointer<Float>,
    to dx: UnsafeMutablePointer<Float>?,
    overwrite: Bool,
    _ input: Input,
    _ buffers: PassBuffers,
    _ trained: TrainedKinds,
    _ gradients: GradientTarget
  ) {
    withOffsets(input) { offsets in
      adapted(layer, module, buffers).backward(
        dy,
        input: x,
        rows: input.tokenCount,
        parameters: input.parameters,
        gradients: gradients,
        groups: .tokens(offsets),
        trained: trained,
        down: buffers.layer(layer).down[module.rawValue].map { UnsafePointer($0) },
        gradInput: dx,
        overwrite: overwrite,
        dropout: input.dropout,
        gradDown: buffers.gradDown,
        scratch: buffers.dropped
      )
    }
  }
}
