import FedLoRALinearAlgebra
import Testing

private let shapes = [[0, 0], [4, 0], [1, 1], [2, 1], [5, 5], [40, 7], [300, 16], [1000, 8]]

@Suite("Decompositions")
struct DecompositionTests {
  @Test("thin QR gives back the matrix from an orthonormal and a triangular factor", arguments: shapes)
  func thinQR(shape: [Int]) throws {
    var generator = SeededGenerator(seed: 3)
    let matrix = try randomMatrix(shape[0], shape[1], &generator)
    for qr in [try ThinQR(matrix), try ThinQR(transposeOf: matrix.transposed)] {
      #expect(largestDifference(naiveProduct(qr.q, qr.r), matrix) <= 1e-13)
      #expect(largestDifference(naiveProduct(qr.q.transposed, qr.q), Matrix(identity: shape[1])) <= 1e-14)
      for row in 0..<shape[1] {
        for column in 0..<row { #expect(qr.r[row, column] == 0) }
      }
      #expect(try ThinQR.r(of: matrix) == qr.r)
    }
  }

  @Test("thin QR of dependent columns, and of zero, still has orthonormal columns")
  func rankDeficientQR() throws {
    var generator = SeededGenerator(seed: 4)
    let low = naiveProduct(try randomMatrix(50, 2, &generator), try randomMatrix(2, 6, &generator))
    for matrix in [low, Matrix(zeros: 50, 6)] {
      let qr = try ThinQR(matrix)
      #expect(largestDifference(naiveProduct(qr.q.transposed, qr.q), Matrix(identity: 6)) <= 1e-14)
      #expect(largestDifference(naiveProduct(qr.q, qr.r), matrix) <= 1e-13)
    }
  }

  @Test("symmetric eigenvectors are orthonormal rows, eigenvalues ascend", arguments: [0, 1, 2, 8, 33])
  func eigen(order: Int) throws {
    var generator = SeededGenerator(seed: 5)
    let half = try randomMatrix(order, order, &generator)
    let symmetric = try Matrix.product(half, half, transA: true)
    let eigen = try SymmetricEigen(symmetric)
    #expect(
      largestDifference(naiveProduct(eigen.rowVectors, eigen.rowVectors.transposed), Matrix(identity: order)) <= 1e-13
    )
    var diagonal = Matrix(zeros: order, order)
    for index in 0..<order { diagonal[index, index] = eigen.eigenvalues[index] }
    let rebuilt = naiveProduct(naiveProduct(eigen.rowVectors.transposed, diagonal), eigen.rowVectors)
    #expect(largestDifference(rebuilt, symmetric) <= 1e-12)
    #expect(zip(eigen.eigenvalues, eigen.eigenvalues.dropFirst()).allSatisfy { $0 <= $1 })
  }

  @Test(
    "thin SVD gives back the matrix, tall, wide, square and empty",
    arguments: [[0, 0], [3, 0], [0, 3], [1, 1], [9, 4], [4, 9], [8, 8], [100, 6]]
  )
  func thinSVD(shape: [Int]) throws {
    var generator = SeededGenerator(seed: 6)
    let matrix = try randomMatrix(shape[0], shape[1], &generator)
    let svd = try ThinSVD(matrix)
    let k = min(shape[0], shape[1])
    var scaled = svd.u
    for row in 0..<scaled.rows {
      for column in 0..<k { scaled[row, column] *= svd.singularValues[column] }
    }
    #expect(largestDifference(naiveProduct(scaled, svd.vTransposed), matrix) <= 1e-13)
    #expect(largestDifference(naiveProduct(svd.u.transposed, svd.u), Matrix(identity: k)) <= 1e-14)
    #expect(largestDifference(naiveProduct(svd.vTransposed, svd.vTransposed.transposed), Matrix(identity: k)) <= 1e-14)
    #expect(zip(svd.singularValues, svd.singularValues.dropFirst()).allSatisfy { $0 >= $1 })
  }

  @Test("singular values of a rank-deficient matrix end in zeros, its factors stay orthonormal")
  func rankDeficientSVD() throws {
    var generator = SeededGenerator(seed: 7)
    let low = naiveProduct(try randomMatrix(20, 3, &generator), try randomMatrix(3, 7, &generator))
    let svd = try ThinSVD(low)
    #expect(svd.singularValues[2] > 1e-3)
    #expect(svd.singularValues[3...].allSatisfy { $0 < 1e-14 })
    #expect(largestDifference(naiveProduct(svd.u.transposed, svd.u), Matrix(identity: 7)) <= 1e-14)
  }

  @Test("the Frobenius norm neither overflows nor vanishes")
  func norm() throws {
    #expect(try Matrix(rows: 1, columns: 2, values: [3e300, 4e300]).frobeniusNorm == 5e300)
    #expect(abs(try Matrix(rows: 1, columns: 2, values: [3e-300, 4e-300]).frobeniusNorm / 5e-300 - 1) < 1e-15)
    #expect(Matrix(zeros: 0, 4).frobeniusNorm == 0)
  }

  @Test("wide QR, oblong eigenproblems and non-finite elements are refused")
  func refusals() throws {
    #expect(
      throws: LinearAlgebraError.shapeMismatch(
        operation: "thin QR",
        found: "2×3",
        expected: "at least as many rows as columns"
      )
    ) { try ThinQR(Matrix(zeros: 2, 3)) }
    #expect(throws: LinearAlgebraError.self) { try SymmetricEigen(Matrix(zeros: 2, 3)) }
    var poisoned = Matrix(zeros: 3, 3)
    poisoned[1, 2] = .nan
    #expect(throws: LinearAlgebraError.notFinite(operation: "thin SVD", row: 1, column: 2)) { try ThinSVD(poisoned) }
    poisoned[1, 2] = -.infinity
    #expect(throws: LinearAlgebraError.self) { try ThinQR(poisoned) }
    #expect(throws: LinearAlgebraError.self) { try SymmetricEigen(poisoned) }
    let message = LinearAlgebraError.notFinite(operation: "thin SVD", row: 1, column: 2).description
    #expect(message == "thin SVD: the element at row 1, column 2 is not finite; only finite matrices are accepted")
  }
}
