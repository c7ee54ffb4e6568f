import COpenBLAS

/// The BLAS library under this process: its configuration, and its single-precision product for hot loops.
///
/// OpenBLAS runs each call on the calling thread. Parallelism is the caller's: calls from several threads run side by
/// side and do not queue on a pool of the library's own.
public enum BLAS {
  /// Runs its initialiser once per process, whichever thread comes first.
  private static let singleThreaded: Void = openblas_set_num_threads(1)

  /// Makes OpenBLAS run on the calling thread alone. Every entry of this module calls it, so nobody else has to.
  @inline(__always)
  public static func configure() { _ = singleThreaded }

  /// The set of kernels that OpenBLAS chose for this processor, for example `Cooperlake`.
  public static var kernelName: String {
    configure()
    return openblas_get_corename().map { String(cString: $0) } ?? "unknown"
  }

  /// OpenBLAS's own account of its version and build, for example `OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH …`.
  public static var configuration: String {
    configure()
    return openblas_get_config().map { String(cString: $0) } ?? "unknown"
  }

  /// OpenBLAS's version, for example `0.3.21`.
  public static var version: String {
    let words = configuration.split(separator: " ")
    return words.first { $0.first?.isNumber == true }.map(String.init) ?? "unknown"
  }

  /// How many threads OpenBLAS uses for one call: 1.
  public static var threadCount: Int {
    configure()
    return Int(openblas_get_num_threads())
  }

  /// Unchecked C ← alpha · op(A) · op(B) + beta · C in single precision, row-major; 2·m·n·k flops.
  ///
  /// For hot loops whose shapes were checked once outside; `Gemm.multiply` is the checked face.
  /// - Parameters:
  ///   - transA: whether op(A) is Aᵀ; A is stored m × k, or k × m when transposed.
  ///   - transB: whether op(B) is Bᵀ; B is stored k × n, or n × k when transposed.
  ///   - m: rows of op(A) and C.
  ///   - n: columns of op(B) and C.
  ///   - k: columns of op(A) and rows of op(B).
  ///   - alpha: factor of the product.
  ///   - a: first element of A.
  ///   - lda: elements from one stored row of A to the next, at least the stored row's length and at least 1.
  ///   - b: first element of B.
  ///   - ldb: elements from one stored row of B to the next, at least the stored row's length and at least 1.
  ///   - beta: factor of C; with 0 the old content of C is not read.
  ///   - c: first element of C, m × n; overlaps neither A nor B.
  ///   - ldc: elements from one row of C to the next, at least n and at least 1.
  /// - Precondition: the buffers hold what the shapes say, and every extent and stride fits an `Int32`.
  public static func sgemm(
    transA: Bool,
    transB: Bool,
    m: Int,
    n: Int,
    k: Int,
    alpha: Float = 1,
    a: UnsafePointer<Float>,
    lda: Int,
    b: UnsafePointer<Float>,
    ldb: Int,
    beta: Float = 0,
    c: UnsafeMutablePointer<Float>,
    ldc: Int
  ) {
    configure()
    cblas_sgemm(
      CblasRowMajor,
      transA ? CblasTrans : CblasNoTrans,
      transB ? CblasTrans : CblasNoTrans,
      Int32(truncatingIfNeeded: m),
      Int32(truncatingIfNeeded: n),
      Int32(truncatingIfNeeded: k),
      alpha,
      a,
      Int32(truncatingIfNeeded: lda),
      b,
      Int32(truncatingIfNeeded: ldb),
      beta,
      c,
      Int32(truncatingIfNeeded: ldc)
    )
  }

  /// Unchecked C ← A Bᵀ + beta · C, with A of m × k, B of n × k and C of m × n, row after row without gaps: rows through a
  /// linear module.
  ///
  /// A single row goes by the product of a matrix and a vector, which reads B once and packs nothing: the step of generation, three
  /// times as quick as the general product.
  /// - Precondition: as `sgemm`.
  public static func sgemmTransposed(
    m: Int,
    n: Int,
    k: Int,
    a: UnsafePointer<Float>,
    b: UnsafePointer<Float>,
    beta: Float = 0,
    c: UnsafeMutablePointer<Float>
  ) {
    guard m == 1 else {
      return sgemm(transA: false, transB: true, m: m, n: n, k: k, a: a, lda: k, b: b, ldb: k, beta: beta, c: c, ldc: n)
    }
    configure()
    // Not every version leaves what C held unread.
    if beta == 0 { c.update(repeating: 0, count: n) }
    cblas_sgemv(
      CblasRowMajor,
      CblasNoTrans,
      Int32(truncatingIfNeeded: n),
      Int32(truncatingIfNeeded: k),
      1,
      b,
      Int32(truncatingIfNeeded: k),
      a,
      1,
      beta,
      c,
      1
    )
  }
}
