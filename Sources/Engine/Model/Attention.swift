import CKernels
import FedLoRALinearAlgebra

/// Multi-head self-attention over packed sequences: each sequence and head by itself, so padding does not exist.
///
/// Softmax(s Q Kᵀ) V per head of queries, s usually 1 / √d; several heads of queries may share one of keys and values. Where
/// scores have a soft bound c, c · tanh(s Q Kᵀ / c) stands for s Q Kᵀ.
///
/// Queries are taken in blocks of rows, with the keys that a block sees and no others: the scores of one block are all that exists
/// of the L × L matrix at a time, and causal attention costs half of it. Backward recomputes the probabilities from the stored
/// log-sum-exp instead of keeping them: one more product of 2 L² d flops for L² floats less per head and layer.
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

  /// Queries of a block: enough for efficient products, few enough that their scores stay in a core's cache.
  static let blockRows = 128

  /// Floats that the scores of a block take, at most, in sequences of `longest` tokens.
  static func blockSize(longest: Int) -> Int { min(longest, blockRows) * longest }

  /// Some rows of queries of one sequence, and the keys that any of them sees.
  private struct Block {
    let rows: Range<Int>
    let columns: Range<Int>

    /// Columns of the block before the one that its first row stands for.
    var past: Int { rows.lowerBound - columns.lowerBound }
    var size: Int { rows.count * columns.count }
  }

  private func forEachBlock(_ length: Int, _ body: (Block) -> Void) {
    for start in stride(from: 0, to: length, by: Attention.blockRows) {
      let rows = start..<min(length, start + Attention.blockRows)
      switch direction {
      case .bidirectional: body(Block(rows: rows, columns: 0..<length))
      case .causal(let window):
        let first = window.map { max(0, start + 1 - $0) } ?? 0
        body(Block(rows: rows, columns: first..<rows.upperBound))
      }
    }
  }

  /// Probabilities from the products of queries and keys of one head, in place.
  private func softmax(_ scores: UnsafeMutablePointer<Float>, _ lse: UnsafeMutablePointer<Float>, _ block: Block) {
    let (rows, columns) = (block.rows.count, block.columns.count)
    switch direction {
    case .bidirectional: fl_softmax_rows(scores, lse, rows, columns, scale)
    case .causal(let window): fl_softmax_causal(scores, lse, rows, columns, block.past, scale, window ?? .max)
    }
  }

  private func restore(_ scores: UnsafeMutablePointer<Float>, _ lse: UnsafePointer<Float>, _ block: Block) {
    let (rows, columns) = (block.rows.count, block.columns.count)
    switch direction {
    case .bidirectional: fl_softmax_restore(scores, lse, rows, columns, scale)
    case .causal(let window): fl_softmax_causal_restore(scores, lse, rows, columns, block.past, scale, window ?? .max)
    }
  }

  /// Products of a block's queries and keys, bounded.
  private func products(
    _ block: Block,
    _ query: UnsafePointer<Float>,
    _ key: UnsafePointer<Float>,
    _ scores: UnsafeMutablePointer<Float>
  ) {
    multiply(block, query, width, key, scores)
    bound(scores, block.size)
  }

  /// scores = X Yᵀ over one head: X a block's rows, `step` apart, and Y its columns among keys or values.
  private func multiply(
    _ block: Block,
    _ x: UnsafePointer<Float>,
    _ step: Int,
    _ y: UnsafePointer<Float>,
    _ scores: UnsafeMutablePointer<Float>
  ) {
    BLAS.sgemm(
      transA: false,
      transB: true,
      m: block.rows.count,
      n: block.columns.count,
      k: headSize,
      a: x + block.rows.lowerBound * step,
      lda: step,
      b: y + block.columns.lowerBound * keyValueWidth,
      ldb: keyValueWidth,
      c: scores,
      ldc: block.columns.count
    )
  }

  /// X = scores · Y over one head: X a block's rows, `step` apart, Y its columns among keys or values.
  private func spread(
    _ block: Block,
    _ scores: UnsafePointer<Float>,
    _ y: UnsafePointer<Float>,
    to x: UnsafeMutablePointer<Float>,
    _ step: Int
  ) {
    BLAS.sgemm(
      transA: false,
      transB: false,
      m: block.rows.count,
      n: headSize,
      k: block.columns.count,
      a: scores,
      lda: block.columns.count,
      b: y + block.columns.lowerBound * keyValueWidth,
      ldb: keyValueWidth,
      c: x + block.rows.lowerBound * step,
      ldc: step
    )
  }

  /// Y = beta · Y + scoresᵀ X over one head, as in `spread`.
  private func gather(
    _ block: Block,
    _ scores: UnsafePointer<Float>,
    _ x: UnsafePointer<Float>,
    _ step: Int,
    to y: UnsafeMutablePointer<Float>,
    beta: Float
  ) {
    BLAS.sgemm(
      transA: true,
      transB: false,
      m: block.columns.count,
      n: headSize,
      k: block.rows.count,
      a: scores,
      lda: block.columns.count,
      b: x + block.rows.lowerBound * step,
      ldb: step,
      beta: beta,
      c: y + block.columns.lowerBound * keyValueWidth,
      ldc: keyValueWidth
    )
  }

  /// Writes the context (T × all heads of queries) and the log-sum-exp (heads × T) of the sequences that `offsets` describe.
  /// - Parameter scores: `blockSize` floats.
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
        forEachBlock(length) { block in
          products(block, buffers.query + place, buffers.key + shared, scores)
          softmax(scores, lse + block.rows.lowerBound, block)
          spread(block, scores, buffers.value + shared, to: buffers.context + place, width)
        }
      }
    }
  }

  /// Turns the context's gradient into those of query, key and value (overwritten).
  ///
  /// dV = Pᵀ dO, dP = dO Vᵀ, dS = s P ∘ (dP − Σ P ∘ dP), dQ = dS K, dK = dSᵀ Q; under a soft bound dS takes its slope instead
  /// of s. `scores`, `gradScores` and, where there is a bound, `slopes` have room for `blockSize` floats.
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
      // Several blocks, and the heads that share keys and values, add their gradients.
      let isCut = length > Attention.blockRows
      if isCut {
        (gradKey + start * keyValueWidth).update(repeating: 0, count: length * keyValueWidth)
        (gradValue + start * keyValueWidth).update(repeating: 0, count: length * keyValueWidth)
      }
      for head in 0..<headCount {
        let place = start * width + head * headSize
        let shared = start * keyValueWidth + head / groupSize * headSize
        let sum: Float = isCut || head % groupSize != 0 ? 1 : 0
        let lse = buffers.logSumExp + head * tokens + start
        forEachBlock(length) { block in
          products(block, buffers.query + place, buffers.key + shared, scores)
          if let cap { fl_soft_cap_slope(scores, slopes, block.size, factor, cap) }
          restore(scores, lse + block.rows.lowerBound, block)
          gather(block, scores, gradContext + place, width, to: gradValue + shared, beta: sum)
          multiply(block, gradContext + place, width, buffers.value + shared, gradScores)
          fl_softmax_backward(scores, gradScores, block.rows.count, block.columns.count, scale)
          if cap != nil { fl_multiply(gradScores, slopes, block.size) }
          spread(block, gradScores, buffers.key + shared, to: gradQuery + place, width)
          gather(block, gradScores, buffers.query + place, width, to: gradKey + shared, beta: sum)
        }
      }
    }
  }
}
