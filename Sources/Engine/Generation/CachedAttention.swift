import CKernels
import FedLoRALinearAlgebra

/// Attention of a layer in a forward pass, over the tokens of the slice alone or over caches too.
extension SlicePass {
  /// Writes the context of layer `index`; keys and values of the slice's tokens go into the caches where there are any.
  func attend(_ index: Int, _ own: LayerBuffers, _ input: Input, _ buffers: PassBuffers) {
    let attention = attention(of: index)
    withOffsets(input) { offsets in
      guard !input.caches.isEmpty else { return attention.forward(own, offsets: offsets, scores: buffers.scores) }
      for (sequence, cache) in input.caches.enumerated() {
        let start = offsets[sequence] - offsets[0]
        let length = offsets[sequence + 1] - offsets[sequence]
        let shared = start * attention.keyValueWidth
        cache.write(index, keys: own.key + shared, values: own.value + shared, rows: length)
        attention.forward(
          query: own.query + start * attention.width,
          keys: cache.keys(index),
          values: cache.values(index),
          rows: length,
          past: cache.count,
          context: own.context + start * attention.width,
          scores: buffers.scores,
          logSumExp: own.logSumExp
        )
      }
    }
  }
}

extension Attention {
  /// Causal attention of `rows` new tokens of one sequence to themselves and to `past` tokens before them, whose keys and
  /// values stand first in `keys` and `values`.
  ///
  /// Cost: 4 · rows · (past + rows) · width flops, or half of it where nothing is past. `scores` holds max(block of rows, heads that
  /// share keys) × (past + rows) floats.
  func forward(
    query: UnsafePointer<Float>,
    keys: UnsafePointer<Float>,
    values: UnsafePointer<Float>,
    rows all: Int,
    past: Int,
    context: UnsafeMutablePointer<Float>,
    scores: UnsafeMutablePointer<Float>,
    logSumExp: UnsafeMutablePointer<Float>
  ) {
    guard case .causal(let window) = direction else { preconditionFailure("only causal attention has a past") }
    let span = window ?? .max
    for start in Swift.stride(from: 0, to: all, by: Attention.blockRows) {
      let (rows, past) = (min(Attention.blockRows, all - start), past + start)
      // No row sees anything before what the first one sees.
      let first = max(0, past + 1 - min(span, past + 1))
      let columns = past + rows - first
      // The heads that share keys and values lie side by side: with one token they are the rows of one product.
      let (perProduct, height) = rows == 1 ? (groupSize, groupSize) : (1, rows)
      let stride = rows == 1 ? headSize : width
      for head in Swift.stride(from: 0, to: headCount, by: perProduct) {
        let shared = first * keyValueWidth + head / groupSize * headSize
        BLAS.sgemm(
          transA: false,
          transB: true,
          m: height,
          n: columns,
          k: headSize,
          a: query + start * width + head * headSize,
          lda: stride,
          b: keys + shared,
          ldb: keyValueWidth,
          c: scores,
          ldc: columns
        )
        bound(scores, height * columns)
        if rows == 1 {
          fl_softmax_rows(scores, logSumExp, height, columns, scale)
        } else {
          fl_softmax_causal(scores, logSumExp, rows, columns, past - first, scale, span)
        }
        BLAS.sgemm(
          transA: false,
          transB: false,
          m: height,
          n: headSize,
          k: columns,
          a: scores,
          lda: columns,
          b: values + shared,
          ldb: keyValueWidth,
          c: context + start * width + head * headSize,
          ldc: stride
        )
      }
    }
  }
}
