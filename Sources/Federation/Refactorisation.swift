import FedLoRACheckpoint
import FedLoRALinearAlgebra

/// FedSVD's step on one module (Lee et al. 2025, section 3): factors B′·A′ = B·A with A′'s rows orthonormal.
///
/// With the SVD B·A = U·Σ·Vᵀ the new factors are A′ = Vᵀ and B′ = U·Σ. The dense product is never formed; everything
/// is in double precision.
///
/// - In general: B = Q_B·R_B, Aᵀ = Q_A·R_A, and R_B·R_Aᵀ = u·Σ·vᵀ is r × r. Then A′ = vᵀ·Q_Aᵀ and B′ = Q_B·u·Σ.
///   O((dOut + dIn)·r²).
/// - Where A's rows are orthonormal already (every round but the first): B = Q_B·R_B and R_B = u·Σ·Wᵀ. Then A′ = Wᵀ·A
///   and B′ = B·W: a rotation inside A's row space. W comes from R_B and not from the eigenvectors of BᵀB, since
///   squaring would lose the singular values below 1e-8 of the largest.
///
/// v and W are r × r orthogonal also where B has lower rank or is zero, so A′'s rows always span the row space of A;
/// LAPACK's SVD of the dense product would fill the missing rows with arbitrary vectors. For B = 0 A′ is A
/// orthonormalised. Order and signs are fixed: singular values descend, and the entry of largest magnitude in each row
/// of A′ (the first of equals) is positive.
public struct Refactorisation: Sendable {
  /// r × dIn, orthonormal rows.
  public let a: Tensor
  /// dOut × r; its columns have the norms `singularValues`.
  public let b: Tensor
  /// The r singular values of B·A, descending.
  public let singularValues: [Double]
  /// W with A′ = Wᵀ·A and B′ = B·W where A's rows were orthonormal already, signs included; else nil.
  public let rotation: Matrix?

  /// How far from the identity A·Aᵀ may be for A to count as orthonormal.
  static let orthonormalTolerance = 1e-6

  /// Re-factorises one module.
  /// - Parameters:
  ///   - module: its name, for error messages.
  ///   - a: r × dIn.
  ///   - b: dOut × r.
  /// - Throws: `RefactorisationError`; `LinearAlgebraError` when LAPACK gives up.
  public init(module: String, a: Tensor, b: Tensor) throws {
    guard a.shape.count == 2, b.shape.count == 2, a.shape[0] == b.shape[1] else {
      throw RefactorisationError.shapes(module: module, a: a.shape, b: b.shape)
    }
    let (rank, dIn, dOut) = (a.shape[0], a.shape[1], b.shape[0])
    guard rank >= 1, rank <= dIn, rank <= dOut else {
      throw RefactorisationError.rank(module: module, rank: rank, dOut: dOut, dIn: dIn)
    }
    for (factor, tensor) in [("A", a), ("B", b)] {
      if let index = tensor.values.firstIndex(where: { !$0.isFinite }) {
        throw RefactorisationError.notFinite(module: module, factor: factor, index: index)
      }
    }
    let oldA = try Matrix(rows: rank, columns: dIn, floats: a.values)
    let oldB = try Matrix(rows: dOut, columns: rank, floats: b.values)

    var newA: Matrix
    var newB: Matrix
    var turn: Matrix?
    if try Refactorisation.hasOrthonormalRows(oldA) {
      let svd = try ThinSVD(ThinQR.r(of: oldB))
      let signed = Refactorisation.withSignsFixed(
        rowsOf: try Matrix.product(svd.vTransposed, oldA),
        turning: svd.vTransposed
      )
      newA = signed.rows
      newB = try Matrix.product(oldB, signed.turned, transB: true)
      turn = signed.turned.transposed
      singularValues = svd.singularValues
    } else {
      let qrB = try ThinQR(oldB)
      let qrA = try ThinQR(transposeOf: oldA)
      let svd = try ThinSVD(Matrix.product(qrB.r, qrA.r, transB: true))
      var scaled = svd.u.transposed
      for row in 0..<rank {
        for column in 0..<rank { scaled[row, column] *= svd.singularValues[row] }
      }
      let signed = Refactorisation.withSignsFixed(
        rowsOf: try Matrix.product(svd.vTransposed, qrA.q, transB: true),
        turning: scaled
      )
      newA = signed.rows
      newB = try Matrix.product(qrB.q, signed.turned, transB: true)
      singularValues = svd.singularValues
    }
    self.a = try Tensor(shape: a.shape, values: newA.floats)
    self.b = try Tensor(shape: b.shape, values: newB.floats)
    rotation = turn
  }

  static func hasOrthonormalRows(_ a: Matrix) throws -> Bool {
    let gram = try Matrix.product(a, a, transB: true)
    for row in 0..<gram.rows {
      for column in 0..<gram.columns {
        // Written so that a product that overflowed counts as not orthonormal.
        guard abs(gram[row, column] - (row == column ? 1 : 0)) <= orthonormalTolerance else { return false }
      }
    }
    return true
  }

  /// `rows` with each row's entry of largest magnitude made positive, and the same rows of `turned` negated with it.
  static func withSignsFixed(rowsOf rows: Matrix, turning turned: Matrix) -> (rows: Matrix, turned: Matrix) {
    var (rows, turned) = (rows, turned)
    for row in 0..<rows.rows {
      let range = row * rows.columns..<(row + 1) * rows.columns
      var leading = range.lowerBound
      for index in range where abs(Float(rows.values[index])) > abs(Float(rows.values[leading])) { leading = index }
      guard rows.values[leading] < 0 else { continue }
      for index in range { rows.values[index].negate() }
      for index in row * turned.columns..<(row + 1) * turned.columns { turned.values[index].negate() }
    }
    return (rows, turned)
  }
}

/// Why a module cannot be re-factorised.
public enum RefactorisationError: Error, Equatable, CustomStringConvertible {
  /// The factors' shapes do not go together.
  case shapes(module: String, a: [Int], b: [Int])
  /// The rank is 0 or above an extent of the weight.
  case rank(module: String, rank: Int, dOut: Int, dIn: Int)
  /// A factor holds NaN or infinity.
  case notFinite(module: String, factor: String, index: Int)

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .shapes(let module, let a, let b):
      "module '\(module)': A is \(a) and B is \(b), expected A [r, dIn] and B [dOut, r]"
    case .rank(let module, let rank, let dOut, let dIn):
      "module '\(module)': rank \(rank) is outside 1...\(min(dOut, dIn)) for a \(dOut)×\(dIn) weight; lower the rank"
    case .notFinite(let module, let factor, let index):
      "module '\(module)': element \(index) of \(factor) is not finite"
    }
  }
}
