import CKernels
import FedLoRALinearAlgebra

/// Multi-head self-attention over packed sequences: each sequence and head by itself, so padding does not exist.
///
/// Softmax(s Q Kᵀ) V per head of queries, s usually 1 / √d; several heads of queries may share one of keys and values. Where
/// scores have a soft bound c, c · tanh(s Q Kᵀ / c) stands for s Q Kᵀ. Backward recomputes the probabilities from the stored
/// log-sum-exp instead of keeping an L × L matrix per head: one more product of 2 L² d flops for L² floats less per head and
/// layer.
struct Attention {
  let headCount: Int
  let keyValueHeadCount: Int
  let headSize: Int
  let direction: TransformerSpec.AttentionDirection
  /// What the scores are scaled by.
  let factor: Float
  /// The soft bound c of the scores; nil for none.
  let cap: Float?

  var width: Int { headCount * headSize }
  var keyValueWidth: Int { keyValueHeadCount * headSize }
  /// Heads of queries to one of keys and values.
  var groupSize: Int { headCount / keyValueHeadCount }
  /// What is left to scale once the soft bound, which scales too, has been applied.
  var scale: Float { cap == nil ? factor : 1 }

  /// Bounds `count` products of queries and keys, in place; without a bound they stay as they are.
  func bound(_ scores: UnsafeMutablePointer<Float>, _ count: Int) {
    if let cap { fl_soft_cap(scores, count, factor, cap) }
  }

  /// Probabilities from the products of queries and keys of one head, in place.
  private func softmax(_ scores: UnsafeMutablePointer<Float>, _ lse: UnsafeMutablePointer<Float>, _ length: Int) {
    switch direction {
    case .bidirectional: fl_softmax_rows(scores, lse, length, length, scale)
    case .causal(let window): fl_softmax_causal(scores, lse, length, scale, window ?? .max)
    }
  }

  private func restore(_ scores: UnsafeMutablePointer<Float>, _ lse: UnsafePointer<Float>, _ length: Int) {
    switch direction {
    case .bidirectional: fl_softmax_restore(scores, lse, length, length, scale)
    case .causal(let window): fl_softmax_causal_restore(scores, lse, length, scale, window ?? .max)
    }
  }

  /// Writes the context (T × all heads of queries) and the log-sum-exp (heads × T) of the sequences that `offsets` describe.
  func forward(
    _ buffers: LayerBuffers,
    offsets: UnsafeBufferPointer<Int>,
    scores: UnsafeMutablePointer<Float>
  ) {
    let tokens = offsets[offsets.count - 1] - offsets[0]
    for sequence in 0..<(offsets.count - 1) {
      let start = offsets[sequence] - offsets[0]
      let length = offsets[sequence + 1] - offsets[sequence]
      for head in 0..<headCount {
        let place = start * width + head * headSize
        let shared = start * keyValueWidth + head / groupSize * headSize
        let lse = buffers.logSumExp + head * tokens + start
        BLAS.sgemm(
          transA: false,
          transB: true,
          m: length,
          n: length,
          k: headSize,
          a: buffers.query + place,
          lda: width,
          b: buffers.key + shared,
          ldb: keyValueWidth,
          c: scores,
          ldc: length
        )
        bound(scores, length * length)
        softmax(scores, lse, length)
        BLAS.sgemm(
          transA: false,
          transB: false,
          m: length,
          n: headSize,
          k: length,
          a: scores,
          lda: length,
          b: buffers.value + shared,
          ldb: keyValueWidth,
          c: buffers.context + place,
          ldc: width
        )
      }
    }
  }

  /// Turns the context's gradient into those of query, key and value (overwritten).
  ///
  /// dV = Pᵀ dO, dP = dO Vᵀ, dS = s P ∘ (dP − Σ P ∘ dP), dQ = dS K, dK = dSᵀ Q; under a soft bound dS takes its slope instead
  /// of s. `slopes` has room for longest × longest where there is one.
  func backward(
    _ buffers: LayerBuffers,
    gradContext: UnsafePointer<Float>,
    offsets: UnsafeBufferPointer<Int>,
    gradQuery: UnsafeMutablePointer<Float>,
    gradKey: UnsafeMutablePointer<Float>,
    gradValue: UnsafeMutablePointer<Float>,
    scores: UnsafeMutablePointer<Float>,
    gradScores: UnsafeMutablePointer<Float>,
    slopes: UnsafeMutablePointer<Float>
  ) {
    let tokens = offsets[offsets.count - 1] - offsets[0]
    for sequence in 0..<(offsets.count - 1) {
      let start = offsets[sequence] - offsets[0]
      let length = offsets[sequence + 1] - offsets[sequence]
      for head in 0..<headCount {
        let place = start * width + head * headSize
        let shared = start * keyValueWidth + head / groupSize * headSize
        // The heads that share keys and values add their gradients.
        let sum: Float = head % groupSize == 0 ? 0 : 1
        let lse = buffers.logSumExp + head * tokens + start
        BLAS.sgemm(
          transA: false,
          transB: true,
          m: length,
          n: length,
          k: headSize,
          a: buffers.query + place,
          lda: width,
          b: buffers.key + shared,
          ldb: keyValueWidth,
          c: scores,
          ldc: length
        )
        bound(scores, length * length)
        if let cap { fl_soft_cap_slope(scores, slopes, length * length, factor, cap) }
        restore(scores, lse, length)
        BLAS.sgemm(
          transA: true,
          transB: false,
          m: length,
          n: headSize,
          k: length,
          a: scores,
          lda: length,
          b: gradContext + place,
          ldb: width,
          beta: sum,
          c: gradValue + shared,
          ldc: keyValueWidth
        )
        BLAS.sgemm(
          transA: false,
          transB: true,
          m: length,
          n: length,
          k: headSize,
          a: gradContext + place,
          lda: width,
          b: buffers.value + shared,
          ldb: keyValueWidth,
          c: gradScores,
          ldc: length
        )
        fl_softmax_backward(scores, gradScores, length, length, scale)
        if cap != nil { fl_multiply(gradScores, slopes, length * length) }
        BLAS.sgemm(
          transA: false,
          transB: false,
          m: length,
          n: headSize,
          k: length,
          a: gradScores,
          lda: length,
          b: buffers.key + shared,
          ldb: keyValueWidth,
          c: gradQuery + place,
          ldc: width
        )
        BLAS.sgemm(
          transA: true,
          transB: false,
          m: length,
          n: headSize,
          k: length,
          a: gradScores,
          lda: length,
          b: buffers.query + place,
          ldb: width,
          beta: sum,
          c: gradKey + shared,
          ldc: keyValueWidth
        )
      }
    }
  }
}
