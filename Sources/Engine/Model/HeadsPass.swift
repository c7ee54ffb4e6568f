import CKernels

/// From a layer's normed input to the queries, keys and values of its heads, and back: one module or three, the norms of
/// single heads, rotary positions.
extension SlicePass {
  /// Queries, keys and values of every token, before they are turned.
  func projectHeads(_ index: Int, _ x: UnsafePointer<Float>, _ input: Input, _ buffers: PassBuffers) {
    let spec = model.base.spec
    let own = buffers.layer(index)
    let query = spec.normsHeads ? own.rawQuery : own.query
    let key = spec.normsHeads ? own.rawKey : own.key
    if spec.queryKeyValue == .separate {
      forwardModule(.query, of: index, x, to: query, input, buffers)
      forwardModule(.key, of: index, x, to: key, input, buffers)
      forwardModule(.value, of: index, x, to: own.value, input, buffers)
    } else {
      forwardModule(.queryKeyValue, of: index, x, to: buffers.fused, input, buffers)
      forEachPart(input.tokenCount, query, key, own.value) { part, step, place, width in
        fl_copy_rows(
          part,
          step,
          buffers.fused + place,
          spec.queryWidth + 2 * spec.keyValueWidth,
          input.tokenCount,
          width
        )
      }
    }
    normHeads(model.base.layers[index], own, input.tokenCount)
  }

  /// Norms each head's query and key by itself, where the family does.
  private func normHeads(_ layer: FrozenModel.Layer, _ own: LayerBuffers, _ rows: Int) {
    guard let queryNorm = layer.queryNorm, let keyNorm = layer.keyNorm else { return }
    let spec = model.base.spec
    // These norms have no mean: the scale's place is given for both.
    let (queries, keys) = (rows * spec.headCount, rows * spec.keyValueHeadCount)
    forwardNorm(queryNorm, own.rawQuery, to: own.query, own.queryScale, own.queryScale, queries)
    forwardNorm(keyNorm, own.rawKey, to: own.key, own.keyScale, own.keyScale, keys)
  }

  /// Where the parts of a fused module's output stand: calls `body(part, elements from one of its rows to the next, place in the
  /// fused row, width)` for each piece that is contiguous in both.
  private func forEachPart(
    _ rows: Int,
    _ query: UnsafeMutablePointer<Float>,
    _ key: UnsafeMutablePointer<Float>,
    _ value: UnsafeMutablePointer<Float>,
    _ body: (UnsafeMutablePointer<Float>, Int, Int, Int) -> Void
  ) {
    let spec = model.base.spec
    let (queries, keys, size) = (spec.queryWidth, spec.keyValueWidth, spec.headSize)
    switch spec.queryKeyValue {
    case .separate: break
    case .blocks:
      body(query, queries, 0, queries)
      body(key, keys, queries, keys)
      body(value, keys, queries + keys, keys)
    case .byHead:
      for head in 0..<spec.headCount {
        for (part, start) in [query, key, value].enumerated() {
          body(start + head * size, queries, (3 * head + part) * size, size)
        }
      }
    }
  }

  /// Turns queries and keys by their places' angles, or their gradients back.
  func rotate(
    _ index: Int,
    _ query: UnsafeMutablePointer<Float>,
    _ key: UnsafeMutablePointer<Float>,
    _ input: Input,
    _ buffers: PassBuffers,
    sign: Float
  ) {
    let spec = model.base.spec
    guard spec.rotates(index) else { return }
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

  /// From `buffers.gradQuery`, `gradKey` and `gradValue` (which are used up) to the adapters, and to the normed input where `dx`
  /// is given.
  func backwardHeads(to dx: UnsafeMutablePointer<Float>?, _ way: LayerBackward) {
    let spec = model.base.spec
    let (own, buffers, rows) = (way.own, way.buffers, way.rows)
    let layer = model.base.layers[way.index]
    rotate(way.index, buffers.gradQuery, buffers.gradKey, way.input, buffers, sign: -1)
    if let queryNorm = layer.queryNorm, let keyNorm = layer.keyNorm {
      let (queries, keys) = (rows * spec.headCount, rows * spec.keyValueHeadCount)
      backwardNorm(queryNorm, buffers.gradQuery, input: own.rawQuery, own.queryScale, own.queryScale, queries)
      backwardNorm(keyNorm, buffers.gradKey, input: own.rawKey, own.keyScale, own.keyScale, keys)
    }
    if spec.queryKeyValue == .separate {
      backwardModule(.query, buffers.gradQuery, from: own.normed, to: dx, overwrite: true, way)
      backwardModule(.key, buffers.gradKey, from: own.normed, to: dx, overwrite: false, way)
      backwardModule(.value, buffers.gradValue, from: own.normed, to: dx, overwrite: false, way)
    } else {
      let width = spec.queryWidth + 2 * spec.keyValueWidth
      forEachPart(rows, buffers.gradQuery, buffers.gradKey, buffers.gradValue) { part, step, place, count in
        fl_copy_rows(buffers.fused + place, width, part, step, rows, count)
      }
      backwardModule(.queryKeyValue, buffers.fused, from: own.normed, to: dx, overwrite: true, way)
    }
  }
}
