/// Single-precision matrix products on buffers, checked: the safe face of `BLAS.sgemm`.
public enum Gemm {
  /// A row-major matrix in somebody's buffer: `rows` × `columns`, with `stride` elements from row to row.
  public struct Layout: Sendable, Equatable {
    /// Rows as stored.
    public let rows: Int
    /// Columns as stored.
    public let columns: Int
    /// Elements from the start of one row to the start of the next.
    public let stride: Int

    /// Describes a matrix; without `stride` its rows follow each other without a gap.
    public init(rows: Int, columns: Int, stride: Int? = nil) {
      self.rows = rows
      self.columns = columns
      self.stride = stride ?? columns
    }
  }

  /// C ← alpha · op(A) · op(B) + beta · C.
  /// - Parameters:
  ///   - a: A's elements, stored as `layoutA` says.
  ///   - layoutA: m × k, or k × m with `transA`.
  ///   - transA: whether op(A) is Aᵀ.
  ///   - b: B's elements, stored as `layoutB` says.
  ///   - layoutB: k × n, or n × k with `transB`.
  ///   - transB: whether op(B) is Bᵀ.
  ///   - c: the result's elements; overlaps neither A nor B.
  ///   - layoutC: m × n.
  ///   - alpha: factor of the product.
  ///   - beta: factor of C; with 0 the old content of C is not read.
  /// - Throws: `LinearAlgebraError` where shapes, strides or buffer lengths do not go together.
  public static func multiply(
    _ a: UnsafeBufferPointer<Float>,
    _ layoutA: Layout,
    transA: Bool = false,
    _ b: UnsafeBufferPointer<Float>,
    _ layoutB: Layout,
    transB: Bool = false,
    into c: UnsafeMutableBufferPointer<Float>,
    _ layoutC: Layout,
    alpha: Float = 1,
    beta: Float = 0
  ) throws {
    let operation = "gemm"
    try check(layoutA, holds: a.count, name: "A", operation)
    try check(layoutB, holds: b.count, name: "B", operation)
    try check(layoutC, holds: c.count, name: "C", operation)
    let (m, k) = transA ? (layoutA.columns, layoutA.rows) : (layoutA.rows, layoutA.columns)
    let (kB, n) = transB ? (layoutB.columns, layoutB.rows) : (layoutB.rows, layoutB.columns)
    guard k == kB, layoutC.rows == m, layoutC.columns == n else {
      throw LinearAlgebraError.shapeMismatch(
        operation: operation,
        found: "op(A) \(m)×\(k), op(B) \(kB)×\(n), C \(layoutC.rows)×\(layoutC.columns)",
        expected: "op(A) m×k, op(B) k×n, C m×n"
      )
    }
    guard m > 0, n > 0, let target = c.baseAddress else { return }
    guard k > 0, let left = a.baseAddress, let right = b.baseAddress else {
      // An empty sum: the product is zero, and what remains is beta · C.
      for row in 0..<m {
        for column in 0..<n {
          let index = row * layoutC.stride + column
          c[index] = beta == 0 ? 0 : beta * c[index]
        }
      }
      return
    }
    BLAS.sgemm(
      transA: transA,
      transB: transB,
      m: m,
      n: n,
      k: k,
      alpha: alpha,
      a: left,
      lda: layoutA.stride,
      b: right,
      ldb: layoutB.stride,
      beta: beta,
      c: target,
      ldc: layoutC.stride
    )
  }

  private static func check(_ layout: Layout, holds count: Int, name: String, _ operation: String) throws {
    for extent in [layout.rows, layout.columns, layout.stride] {
      guard Int32(exactly: extent) != nil, extent >= 0 else {
        throw LinearAlgebraError.extentOutOfRange(operation: operation, extent: extent)
      }
    }
    guard layout.stride >= layout.columns else {
      throw LinearAlgebraError.strideTooSmall(
        operation: operation,
        buffer: name,
        found: layout.stride,
        expected: layout.columns
      )
    }
    let needed = layout.rows == 0 || layout.columns == 0 ? 0 : (layout.rows - 1) * layout.stride + layout.columns
    guard count >= needed else {
      throw LinearAlgebraError.bufferTooShort(operation: operation, buffer: name, found: count, expected: needed)
    }
  }
}
