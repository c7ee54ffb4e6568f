import COpenBLAS

/// S = V · diag(λ) · Vᵀ of a symmetric matrix (LAPACK `dsyevd`).
public struct SymmetricEigen: Sendable {
  /// Eigenvalues, ascending.
  public let eigenvalues: [Double]
  /// Row i is the unit eigenvector of `eigenvalues[i]`, that is Vᵀ.
  public let rowVectors: Matrix

  /// Decomposes `matrix`, of which only the part on and above the diagonal is read.
  /// - Throws: `LinearAlgebraError` when the matrix is not square, an element is not finite, or LAPACK gives up.
  public init(_ matrix: Matrix) throws {
    BLAS.configure()
    let order = matrix.rows
    guard matrix.columns == order else {
      throw LinearAlgebraError.shapeMismatch(
        operation: "symmetric eigen-decomposition",
        found: "\(matrix.rows)×\(matrix.columns)",
        expected: "a square"
      )
    }
    try matrix.requireFinite("symmetric eigen-decomposition")
    var vectors = matrix.values
    var found = [Double](repeating: 0, count: order)
    if order > 0 {
      // The upper part in row-major order is the lower part in column-major order; eigenvectors come as columns in
      // column-major order, that is as rows here.
      let info = LAPACKE_dsyevd(
        LAPACK_COL_MAJOR,
        CChar(UInt8(ascii: "V")),
        CChar(UInt8(ascii: "L")),
        Int32(order),
        &vectors,
        Int32(order),
        &found
      )
      guard info == 0 else {
        throw LinearAlgebraError.lapack(operation: "symmetric eigen-decomposition", routine: "dsyevd", info: Int(info))
      }
    }
    eigenvalues = found
    rowVectors = Matrix(rows: order, columns: order, unchecked: vectors)
  }
}
