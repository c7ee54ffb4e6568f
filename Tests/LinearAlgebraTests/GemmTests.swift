import FedLoRALinearAlgebra
import Testing

/// m, n, k; with empty, single, tall and wide shapes, and sizes that are no multiple of a vector.
let productShapes = [
  [0, 3, 2], [3, 0, 2], [3, 2, 0], [1, 1, 1], [1, 7, 5], [7, 1, 5], [5, 7, 1], [8, 8, 8], [33, 17, 65], [130, 8, 77],
  [8, 130, 77], [3, 3, 300],
]

@Suite("Matrix products")
struct GemmTests {
  @Test("the double product equals the triple loop for every transposition", arguments: productShapes)
  func doubleProduct(shape: [Int]) throws {
    let (m, n, k) = (shape[0], shape[1], shape[2])
    var generator = SeededGenerator(seed: 1)
    let a = try randomMatrix(m, k, &generator)
    let b = try randomMatrix(k, n, &generator)
    let expected = naiveProduct(a, b)
    for transA in [false, true] {
      for transB in [false, true] {
        let product = try Matrix.product(
          transA ? a.transposed : a,
          transB ? b.transposed : b,
          transA: transA,
          transB: transB
        )
        #expect(largestDifference(product, expected) <= 1e-13)
      }
    }
  }

  @Test("the single product equals the double triple loop, with strides, alpha and beta", arguments: productShapes)
  func singleProduct(shape: [Int]) throws {
    let (m, n, k) = (shape[0], shape[1], shape[2])
    var generator = SeededGenerator(seed: 2)
    for transA in [false, true] {
      for transB in [false, true] {
        for gap in [0, 3] {
          for beta: Float in [0, 0.5] {
            let layoutA = layout(transA ? k : m, transA ? m : k, gap)
            let layoutB = layout(transB ? n : k, transB ? k : n, gap)
            let layoutC = layout(m, n, gap)
            let a = floats(layoutA, &generator)
            let b = floats(layoutB, &generator)
            let before =
              beta == 0 ? [Float](repeating: .nan, count: layoutC.rows * layoutC.stride) : floats(layoutC, &generator)
            var c = before
            try a.withUnsafeBufferPointer { a in
              try b.withUnsafeBufferPointer { b in
                try c.withUnsafeMutableBufferPointer { c in
                  try Gemm.multiply(
                    a,
                    layoutA,
                    transA: transA,
                    b,
                    layoutB,
                    transB: transB,
                    into: c,
                    layoutC,
                    alpha: 1.5,
                    beta: beta
                  )
                }
              }
            }
            for row in 0..<m {
              for column in 0..<n {
                var sum = 0.0
                for inner in 0..<k {
                  let left = transA ? a[inner * layoutA.stride + row] : a[row * layoutA.stride + inner]
                  let right = transB ? b[column * layoutB.stride + inner] : b[inner * layoutB.stride + column]
                  sum += Double(left) * Double(right)
                }
                let index = row * layoutC.stride + column
                let expected = 1.5 * sum + (beta == 0 ? 0 : Double(beta) * Double(before[index]))
                #expect(abs(Double(c[index]) - expected) <= 1e-6 * Double(k + 1), "at \(row), \(column)")
              }
              for column in n..<max(n, layoutC.stride) where row < m - 1 {
                let index = row * layoutC.stride + column
                #expect(c[index].bitPattern == before[index].bitPattern, "the gap between rows was written")
              }
            }
          }
        }
      }
    }
  }

  @Test(
    "rows through a linear module equal the general product, one row too",
    arguments: [1, 2, 5],
    [0, 1] as [Float]
  )
  func transposedProduct(m: Int, beta: Float) {
    let (n, k) = (37, 65)
    var generator = SeededGenerator(seed: 3)
    let a = (0..<m * k).map { _ in Float(generator.signedUnit()) }
    let b = (0..<n * k).map { _ in Float(generator.signedUnit()) }
    let before = (0..<m * n).map { _ in beta == 0 ? Float.nan : Float(generator.signedUnit()) }
    var found = before
    found.withUnsafeMutableBufferPointer { c in
      guard let c = c.baseAddress else { return }
      BLAS.sgemmTransposed(m: m, n: n, k: k, a: a, b: b, beta: beta, c: c)
    }
    for row in 0..<m {
      for column in 0..<n {
        let sum = (0..<k).reduce(0.0) { $0 + Double(a[row * k + $1]) * Double(b[column * k + $1]) }
        let expected = sum + (beta == 0 ? 0 : Double(before[row * n + column]))
        #expect(abs(Double(found[row * n + column]) - expected) < 1e-4)
      }
    }
  }

  @Test("shapes, strides and buffers that do not fit are refused by name")
  func refusals() throws {
    #expect(
      throws: LinearAlgebraError.shapeMismatch(
        operation: "gemm",
        found: "op(A) 2×3, op(B) 4×2, C 2×2",
        expected: "op(A) m×k, op(B) k×n, C m×n"
      )
    ) { try multiply(.init(rows: 2, columns: 3), .init(rows: 4, columns: 2), .init(rows: 2, columns: 2)) }
    #expect(throws: LinearAlgebraError.strideTooSmall(operation: "gemm", buffer: "B", found: 1, expected: 2)) {
      try multiply(.init(rows: 2, columns: 3), .init(rows: 3, columns: 2, stride: 1), .init(rows: 2, columns: 2))
    }
    #expect(throws: LinearAlgebraError.bufferTooShort(operation: "gemm", buffer: "C", found: 16, expected: 20)) {
      try multiply(.init(rows: 4, columns: 1), .init(rows: 1, columns: 5), .init(rows: 4, columns: 5))
    }
    #expect(throws: LinearAlgebraError.extentOutOfRange(operation: "gemm", extent: 1 << 40)) {
      try multiply(.init(rows: 1 << 40, columns: 1), .init(rows: 1, columns: 1), .init(rows: 1, columns: 1))
    }
    #expect(throws: LinearAlgebraError.self) { try Matrix(rows: 2, columns: 2, values: [1, 2, 3]) }
    #expect(throws: LinearAlgebraError.extentOutOfRange(operation: "matrix", extent: -1)) {
      try Matrix(rows: -1, columns: 2, values: [])
    }
    #expect(throws: LinearAlgebraError.self) { try Matrix.product(Matrix(zeros: 2, 3), Matrix(zeros: 2, 3)) }
  }

  @Test("the library runs one thread a call and names its kernel")
  func configuration() {
    #expect(BLAS.threadCount == 1)
    #expect(!BLAS.kernelName.isEmpty && BLAS.kernelName != "unknown")
    #expect(BLAS.configuration.contains("OpenBLAS"))
    #expect(BLAS.version.first?.isNumber == true)
  }

  private func layout(_ rows: Int, _ columns: Int, _ gap: Int) -> Gemm.Layout {
    Gemm.Layout(rows: rows, columns: columns, stride: max(columns, 1) + gap)
  }

  private func floats(_ layout: Gemm.Layout, _ generator: inout SeededGenerator) -> [Float] {
    (0..<layout.rows * layout.stride).map { _ in Float(generator.signedUnit()) }
  }

  private func multiply(_ a: Gemm.Layout, _ b: Gemm.Layout, _ c: Gemm.Layout) throws {
    let source = [Float](repeating: 1, count: 16)
    var target = source
    try source.withUnsafeBufferPointer { source in
      try target.withUnsafeMutableBufferPointer { try Gemm.multiply(source, a, source, b, into: $0, c) }
    }
  }
}
