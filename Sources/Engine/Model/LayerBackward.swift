/// What the backward pass of one layer works with.
struct LayerBackward {
  let index: Int
  let input: SlicePass.Input
  let buffers: PassBuffers
  let trained: TrainedKinds
  let gradients: GradientTarget
  /// By `LayerModule.rawValue`; nil where the module has no adapter.
  let slots: [AdaptedModel.Slot?]

  var own: LayerBuffers { buffers.layer(index) }
  var rows: Int { input.tokenCount }

  /// Modules that read what the norm before attention, or the feed-forward block, is given.
  static let intoHeads: [LayerModule] = [.query, .key, .value, .queryKeyValue]
  static let intoFeedForward: [LayerModule] = [.feedForwardGate, .feedForwardIn, .feedForwardGateIn]

  /// Whether the module has an adapter.
  func has(_ module: LayerModule) -> Bool { slots[module.rawValue] != nil }
}

extension SlicePass {
  /// The gradients of a module's adapter, and of its input where `dx` is given.
  func backwardModule(
    _ module: LayerModule,
    _ dy: UnsafePointer<Float>,
    from x: UnsafePointer<Float>,
    to dx: UnsafeMutablePointer<Float>?,
    overwrite: Bool,
    _ way: LayerBackward
  ) {
    backwardModule(
      module,
      of: way.index,
      dy,
      from: x,
      to: dx,
      overwrite: overwrite,
      way.input,
      way.buffers,
      way.trained,
      way.gradients
    )
  }
}
