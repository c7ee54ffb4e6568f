import COpenBLAS

/// M = Q · R with Q (m × n) of orthonormal columns and R (n × n) upper triangular, for m ≥ n.
///
/// Householder reflections (LAPACK `dgeqrf`, `dorgqr`); 4·m·n² flops. Where M has dependent columns Q is still
/// orthonormal and R has zeros (to rounding) on its diagonal. Signs of R's diagonal are LAPACK's.
public struct ThinQR: Sendable {
  /// m × n, orthonormal columns.
  public let q: Matrix
  /// n × n, upper triangular.
  public let r: Matrix

  /// Factors `matrix`.
  /// - Throws: `LinearAlgebraError` when there are more columns than rows, or an element is not finite.
  public init(_ matrix: Matrix) throws {
    var packed = try HouseholderQR(transposed: matrix.transposed)
    r = packed.r
    q = try packed.makeQ()
  }

  /// Factors the transpose of `matrix`, which needs no copy in another order.
  /// - Throws: `LinearAlgebraError` when `matrix` has more rows than columns, or an element is not finite.
  public init(transposeOf matrix: Matrix) throws {
    var packed = try HouseholderQR(transposed: matrix)
    r = packed.r
    q = try packed.makeQ()
  }

  /// Only R of `matrix`, for callers that do not need Q; half the work.
  /// - Throws: `LinearAlgebraError` when there are more columns than rows, or an element is not finite.
  public static func r(of matrix: Matrix) throws -> Matrix {
    try HouseholderQR(transposed: matrix.transposed).r
  }
}

/// R and the Householder vectors in LAPACK's packed, column-major form, which is Mᵀ in row-major order.
private struct HouseholderQR {
  let tall: Int
  let narrow: Int
  var packed: [Double]
  var scales: [Double]

  /// Takes Mᵀ (n × m, row-major) and factors M.
  init(transposed: Matrix) throws {
    BLAS.configure()
    tall = transposed.columns
    narrow = transposed.rows
    packed = transposed.values
    scales = [Double](repeating: 0, count: narrow)
    guard tall >= narrow else {
      throw LinearAlgebraError.shapeMismatch(
        operation: "thin QR",
        found: "\(tall)×\(narrow)",
        expected: "at least as many rows as columns"
      )
    }
    try transposed.requireFinite("thin QR")
    guard narrow > 0 else { return }
    var workspace = [Double](repeating: 0, count: 64 * narrow)
    let info = LAPACKE_dgeqrf_work(
      LAPACK_COL_MAJOR,
      Int32(tall),
      Int32(narrow),
      &packed,
      Int32(tall),
      &scales,
      &workspace,
      Int32(workspace.count)
    )
    guard info == 0 else {
      throw LinearAlgebraError.lapack(operation: "thin QR", routine: "dgeqrf", info: Int(info))
    }
  }

  var r: Matrix {
    var result = Matrix(zeros: narrow, narrow)
    for column in 0..<narrow {
      for row in 0...column { result.values[row * narrow + column] = packed[column * tall + row] }
    }
    return result
  }

  /// Turns the packed vectors into Q; to be called once.
  mutating func makeQ() throws -> Matrix {
    guard narrow > 0 else { return Matrix(zeros: tall, 0) }
    var workspace = [Double](repeating: 0, count: 64 * narrow)
    let info = LAPACKE_dorgqr_work(
      LAPACK_COL_MAJOR,
      Int32(tall),
      Int32(narrow),
      Int32(narrow),
      &packed,
      Int32(tall),
      scales,
      &workspace,
      Int32(workspace.count)
    )
    guard info == 0 else {
      throw LinearAlgebraError.lapack(operation: "thin QR", routine: "dorgqr", info: Int(info))
    }
    return Matrix(rows: narrow, columns: tall, unchecked: packed).transposed
  }
}
