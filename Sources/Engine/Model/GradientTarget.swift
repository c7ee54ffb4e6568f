import CKernels

/// Where a backward pass leaves its gradients: added to one vector, or written to a vector for each sequence.
///
/// Per-sequence vectors are written, never added to: a pass visits every trained tensor once. The square of each
/// vector's norm is summed while the tensor that was just written is still in cache.
struct GradientTarget {
  /// The sum, or the vector of the slice's first sequence; each in the model's layout.
  let base: UnsafeMutablePointer<Float>
  /// Elements from one sequence's vector to the next; 0 for one sum.
  let stride: Int
  /// One square sum for each sequence; used with per-sequence vectors only.
  let squares: UnsafeMutablePointer<Double>?

  /// Everything is added to `base`.
  static func sum(_ base: UnsafeMutablePointer<Float>) -> GradientTarget {
    GradientTarget(base: base, stride: 0, squares: nil)
  }

  /// Sequence i of the slice is written to `base + i · stride`.
  static func sequences(
    _ base: UnsafeMutablePointer<Float>,
    stride: Int,
    squares: UnsafeMutablePointer<Double>
  ) -> GradientTarget {
    GradientTarget(base: base, stride: stride, squares: squares)
  }

  /// How the rows of a product belong to sequences.
  enum Rows {
    /// Row t is a token; sequence i has the rows `offsets[i] - offsets[0] ..< offsets[i + 1] - offsets[0]`.
    case tokens(UnsafeBufferPointer<Int>)
    /// Row i is sequence i.
    case sequences(Int)
  }

  /// Calls `body(first row, row count, vector, beta)` once for one sum, else once for each sequence. `count` elements at
  /// `offset` of the vector are what `body` writes; with `beta` 0 it sets them, with 1 it adds to them.
  func forEachGroup(
    _ rows: Rows,
    offset: Int,
    count: Int,
    _ body: (Int, Int, UnsafeMutablePointer<Float>, Float) -> Void
  ) {
    switch rows {
    case .tokens(let offsets):
      guard let start = offsets.first, let end = offsets.last else { return }
      guard stride > 0 else { return body(0, end - start, base + offset, 1) }
      for sequence in 0..<(offsets.count - 1) {
        let target = base + sequence * stride + offset
        body(offsets[sequence] - start, offsets[sequence + 1] - offsets[sequence], target, 0)
        squares?[sequence] += fl_sum_squares(target, count)
      }
    case .sequences(let rowCount):
      guard stride > 0 else { return body(0, rowCount, base + offset, 1) }
      for sequence in 0..<rowCount {
        let target = base + sequence * stride + offset
        body(sequence, 1, target, 0)
        squares?[sequence] += fl_sum_squares(target, count)
      }
    }
  }
}
