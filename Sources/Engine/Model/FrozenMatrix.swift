import CKernels
import FedLoRALinearAlgebra

/// A frozen matrix of rows × columns, and products with it. It points into memory that its model keeps alive.
struct FrozenMatrix {
  private enum Storage {
    case wide(UnsafePointer<Float>)
    case narrow(fl_frozen)
  }

  private let storage: Storage
  let rows: Int
  let columns: Int

  /// A matrix of floats.
  init(_ values: UnsafePointer<Float>, rows: Int, columns: Int) {
    storage = .wide(values)
    (self.rows, self.columns) = (rows, columns)
  }

  /// A matrix in few bits.
  init(_ narrow: fl_frozen) {
    storage = .narrow(narrow)
    (rows, columns) = (Int(narrow.rows), Int(narrow.columns))
  }

  /// Rows of the other factor up to which reading the matrix is what takes the time.
  private static let fewRows = 4
  /// Floats of a strip of rows that is widened at once where the processor does not multiply bfloat16.
  private static let stripSize = 1 << 16

  private var stripRows: Int { max(1, min(rows, FrozenMatrix.stripSize / max(columns, 1))) }

  /// Floats of scratch memory that such a product with `count` rows needs.
  func scratchCount(rows count: Int, transposed: Bool) -> Int {
    guard case .narrow(var narrow) = storage else { return 0 }
    // Which of the two ways is taken is only known when the product is formed.
    return max(stripRows * columns, (fl_frozen_scratch(&narrow, transposed ? 1 : 0, count) + 3) / 4)
  }

  /// y = x · Wᵀ (x: m × columns, y: m × rows) with `transposed`, else y = x · W (x: m × rows, y: m × columns).
  /// - Parameters:
  ///   - accumulates: whether the product is added to `y`.
  ///   - scratch: `scratchCount(rows: m, transposed:)` floats, aligned to 64 bytes.
  func multiply(
    _ x: UnsafePointer<Float>,
    rows m: Int,
    transposed: Bool,
    into y: UnsafeMutablePointer<Float>,
    accumulates: Bool,
    scratch: UnsafeMutablePointer<Float>
  ) {
    switch storage {
    case .wide(let values):
      let (n, k) = transposed ? (rows, columns) : (columns, rows)
      if transposed, m == 1 {
        return BLAS.sgemmTransposed(m: 1, n: n, k: k, a: x, b: values, beta: accumulates ? 1 : 0, c: y)
      }
      BLAS.sgemm(
        transA: false,
        transB: transposed,
        m: m,
        n: n,
        k: k,
        a: x,
        lda: k,
        b: values,
        ldb: columns,
        beta: accumulates ? 1 : 0,
        c: y,
        ldc: n
      )
    case .narrow(var narrow):
      if transposed, m <= FrozenMatrix.fewRows {
        fl_frozen_dot(&narrow, x, m, y, accumulates ? 1 : 0)
      } else if fl_has_bf16() != 0 {
        fl_frozen_multiply(&narrow, transposed ? 1 : 0, x, m, y, accumulates ? 1 : 0, scratch)
      } else {
        multiplyByStrips(&narrow, x, rows: m, transposed: transposed, into: y, accumulates: accumulates, scratch)
      }
    }
  }

  private func multiplyByStrips(
    _ narrow: inout fl_frozen,
    _ x: UnsafePointer<Float>,
    rows m: Int,
    transposed: Bool,
    into y: UnsafeMutablePointer<Float>,
    accumulates: Bool,
    _ scratch: UnsafeMutablePointer<Float>
  ) {
    for first in stride(from: 0, to: rows, by: stripRows) {
      let count = min(stripRows, rows - first)
      fl_frozen_widen(&narrow, first, count, scratch)
      BLAS.sgemm(
        transA: false,
        transB: transposed,
        m: m,
        n: transposed ? count : columns,
        k: transposed ? columns : count,
        a: transposed ? x : x + first,
        lda: transposed ? columns : rows,
        b: scratch,
        ldb: columns,
        beta: accumulates || (!transposed && first > 0) ? 1 : 0,
        c: transposed ? y + first : y,
        ldc: transposed ? rows : columns
      )
    }
  }

  /// Copies `count` rows from row `first` on as floats.
  func copyRows(from first: Int, count: Int = 1, to target: UnsafeMutablePointer<Float>) {
    switch storage {
    case .wide(let values): target.update(from: values + first * columns, count: count * columns)
    case .narrow(var narrow): fl_frozen_widen(&narrow, first, count, target)
    }
  }
}
