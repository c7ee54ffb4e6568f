import COpenBLAS

/// A small dense matrix of 64-bit floats in row-major order.
///
/// For work whose result feeds a decision or a later round (re-factorisations, spectra); weights and activations
/// stay in single precision and go through `Gemm`.
public struct Matrix: Sendable, Equatable {
  /// Number of rows.
  public let rows: Int
  /// Number of columns.
  public let columns: Int
  /// `rows` · `columns` values, row after row.
  public var values: [Double]

  /// Wraps `values`.
  /// - Throws: `LinearAlgebraError` when an extent is out of range or the count does not fit.
  public init(rows: Int, columns: Int, values: [Double]) throws {
    try Matrix.checkExtents(rows, columns, "matrix")
    guard values.count == rows * columns else {
      throw LinearAlgebraError.shapeMismatch(
        operation: "matrix",
        found: "\(values.count) values",
        expected: "\(rows)×\(columns) values"
      )
    }
    self.init(rows: rows, columns: columns, unchecked: values)
  }

  /// Converts single-precision values.
  /// - Throws: `LinearAlgebraError` when an extent is out of range or the count does not fit.
  public init(rows: Int, columns: Int, floats: [Float]) throws {
    try self.init(rows: rows, columns: columns, values: floats.map(Double.init))
  }

  /// A matrix of zeros.
  /// - Precondition: neither extent is negative.
  public init(zeros rows: Int, _ columns: Int) {
    self.init(rows: rows, columns: columns, unchecked: [Double](repeating: 0, count: rows * columns))
  }

  /// The identity.
  /// - Precondition: the order is not negative.
  public init(identity order: Int) {
    self.init(zeros: order, order)
    for index in 0..<order { self[index, index] = 1 }
  }

  init(rows: Int, columns: Int, unchecked values: [Double]) {
    self.rows = rows
    self.columns = columns
    self.values = values
  }

  /// The element at a row and a column.
  /// - Precondition: both are inside the matrix.
  public subscript(row: Int, column: Int) -> Double {
    get {
      precondition(
        row >= 0 && row < rows && column >= 0 && column < columns,
        "index outside a \(rows)×\(columns) matrix"
      )
      return values[row * columns + column]
    }
    set {
      precondition(
        row >= 0 && row < rows && column >= 0 && column < columns,
        "index outside a \(rows)×\(columns) matrix"
      )
      values[row * columns + column] = newValue
    }
  }

  /// The values rounded to single precision.
  public var floats: [Float] { values.map(Float.init) }

  /// Rows and columns exchanged.
  public var transposed: Matrix {
    let (rows, columns) = (self.rows, self.columns)
    let result = [Double](unsafeUninitializedCapacity: values.count) { target, count in
      values.withUnsafeBufferPointer { source in
        for row in 0..<rows {
          for column in 0..<columns { target[column * rows + row] = source[row * columns + column] }
        }
      }
      count = rows * columns
    }
    return Matrix(rows: columns, columns: rows, unchecked: result)
  }

  /// The root of the sum of squares.
  public var frobeniusNorm: Double {
    // Scaled by the largest magnitude, so that squares neither overflow nor vanish.
    let largest = values.reduce(0) { max($0, abs($1)) }
    guard largest > 0, largest.isFinite else { return largest }
    return largest * values.reduce(0) { $0 + ($1 / largest) * ($1 / largest) }.squareRoot()
  }

  /// The largest magnitude of an element; 0 for an empty matrix.
  public var largestMagnitude: Double { values.reduce(0) { max($0, abs($1)) } }

  /// op(a) · op(b) in double precision; 2·m·n·k flops.
  /// - Throws: `LinearAlgebraError.shapeMismatch` when the inner extents differ.
  public static func product(
    _ a: Matrix,
    _ b: Matrix,
    transA: Bool = false,
    transB: Bool = false
  ) throws -> Matrix {
    BLAS.configure()
    let (m, k) = transA ? (a.columns, a.rows) : (a.rows, a.columns)
    let (kB, n) = transB ? (b.columns, b.rows) : (b.rows, b.columns)
    guard k == kB else {
      throw LinearAlgebraError.shapeMismatch(
        operation: "matrix product",
        found: "\(m)×\(k) times \(kB)×\(n)",
        expected: "equal inner extents"
      )
    }
    var result = Matrix(zeros: m, n)
    guard m > 0, n > 0, k > 0 else { return result }
    cblas_dgemm(
      CblasRowMajor,
      transA ? CblasTrans : CblasNoTrans,
      transB ? CblasTrans : CblasNoTrans,
      Int32(m),
      Int32(n),
      Int32(k),
      1,
      a.values,
      Int32(a.columns),
      b.values,
      Int32(b.columns),
      0,
      &result.values,
      Int32(n)
    )
    return result
  }

  /// - Throws: `LinearAlgebraError.notFinite` naming the first element that is NaN or infinite.
  func requireFinite(_ operation: String) throws {
    // x − x is 0 for a finite x and NaN otherwise, so one sum tells for all elements without a branch each.
    let probe = values.reduce(0) { $0 + ($1 - $1) }
    guard probe != 0 else { return }
    guard let index = values.firstIndex(where: { !$0.isFinite }) else { return }
    throw LinearAlgebraError.notFinite(operation: operation, row: index / columns, column: index % columns)
  }

  static func checkExtents(_ rows: Int, _ columns: Int, _ operation: String) throws {
    for extent in [rows, columns] where extent < 0 || extent > Int(Int32.max) {
      throw LinearAlgebraError.extentOutOfRange(operation: operation, extent: extent)
    }
  }
}
