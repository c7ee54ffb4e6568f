import COpenBLAS

/// M = U · diag(s) · Vᵀ with k = min(m, n) singular values (LAPACK `dgesdd`).
///
/// U's columns and Vᵀ's rows are orthonormal also where M has lower rank. Signs are LAPACK's.
public struct ThinSVD: Sendable {
  /// m × k, orthonormal columns.
  public let u: Matrix
  /// k values, descending, none negative.
  public let singularValues: [Double]
  /// k × n, orthonormal rows.
  public let vTransposed: Matrix

  /// Decomposes `matrix`.
  /// - Throws: `LinearAlgebraError` when an element is not finite, or LAPACK gives up.
  public init(_ matrix: Matrix) throws {
    BLAS.configure()
    let (m, n) = (matrix.rows, matrix.columns)
    let k = min(m, n)
    try matrix.requireFinite("thin SVD")
    var content = matrix.values
    var values = [Double](repeating: 0, count: k)
    var left = [Double](repeating: 0, count: k * n)
    var right = [Double](repeating: 0, count: m * k)
    if k > 0 {
      // In column-major order the same memory is Mᵀ (n × m) = V · diag(s) · Uᵀ: LAPACK's left factor V (n × k) read
      // row-major is Vᵀ, and its right factor Uᵀ (k × m) read row-major is U.
      let info = LAPACKE_dgesdd(
        LAPACK_COL_MAJOR,
        CChar(UInt8(ascii: "S")),
        Int32(n),
        Int32(m),
        &content,
        Int32(n),
        &values,
        &left,
        Int32(n),
        &right,
        Int32(k)
      )
      guard info == 0 else {
        throw LinearAlgebraError.lapack(operation: "thin SVD", routine: "dgesdd", info: Int(info))
      }
    }
    u = Matrix(rows: m, columns: k, unchecked: right)
    singularValues = values
    vTransposed = Matrix(rows: k, columns: n, unchecked: left)
  }
}
