import CKernels
import FedLoRALinearAlgebra

/// Multi-head self-attention over packed sequences: each sequence and head by itself, so padding does not exist.
///
/// Softmax(Q Kᵀ / √d) V per head of queries; several heads of queries may share one of keys and values. Backward recomputes the probabilities from the stored log-sum-exp instead of
/// keeping an L × L matrix per head: one more product of 2 L² d flops for L² floats less per head and layer.
struct Attention {
  let headCount: Int
  let keyValueHeadCount: Int
  let headSize: Int
  let direction: TransformerSpec.AttentionDirection

  var width: Int { headCount * headSize }
  var keyValueWidth: Int { keyValueHeadCount * headSize }
  /// Heads of queries to one of keys and values.
  var groupSize: Int { headCount / keyValueHeadCount }
  var scale: Float { 1 / Float(headSize).squareRoot() }

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
  /// dV = Pᵀ dO, dP = dO Vᵀ, dS = P ∘ (dP − Σ P ∘ dP) / √d, dQ = dS K, dK = dSᵀ Q.
  func backward(
    _ buffers: LayerBuffers,
    gradContext: UnsafePointer<Float>,
    offsets: UnsafeBufferPointer<Int>,
    gradQuery: UnsafeMutablePointer<Float>,
    gradKey: UnsafeMutablePointer<Float>,
    gradValue: UnsafeMutablePointer<Float>,
    scores: UnsafeMutablePointer<Float>,
    gradScores: UnsafeMutablePointer<Float>
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
