import FedLoRACheckpoint
import FedLoRAFederation
import FedLoRALinearAlgebra
import Testing

@Suite("Re-factorisation")
struct RefactorisationTests {
  /// One random module: rank, extents in either orientation, scale, orthonormal A or not, rank of B from 0 to r.
  private struct Sample {
    var a: Tensor
    var b: Tensor
    var isOrthonormal: Bool
    var rankOfB: Int

    init(seed: UInt64) throws {
      var generator = SeededGenerator(seed: seed)
      let rank = Int.random(in: 1...16, using: &generator)
      let dIn = rank + Int.random(in: 0...120, using: &generator)
      let dOut = rank + Int.random(in: 0...120, using: &generator)
      rankOfB = seed.isMultiple(of: 3) ? Int.random(in: 0...rank, using: &generator) : rank
      isOrthonormal = Bool.random(using: &generator)
      a = try randomTensor([rank, dIn], &generator, scale: 0.3)
      if isOrthonormal {
        a = try Tensor(shape: a.shape, values: ThinQR(transposeOf: matrix(a)).q.transposed.floats)
      }
      // Small singular values are there on purpose: columns of B shrink by up to 1e-6.
      let left = try randomTensor([dOut, rankOfB], &generator)
      let right = try randomTensor([rankOfB, rank], &generator)
      var product = try Matrix.product(matrix(left), matrix(right))
      if seed.isMultiple(of: 5) {
        for row in 0..<dOut { product[row, 0] *= 1e-6 }
      }
      b = try Tensor(shape: [dOut, rank], values: product.floats)
    }
  }

  @Test("keeps the product, orthonormalises A's rows, orders B's columns", arguments: 1...300 as ClosedRange<UInt64>)
  func properties(seed: UInt64) throws {
    let sample = try Sample(seed: seed)
    let found = try Refactorisation(module: "m", a: sample.a, b: sample.b)
    let before = try denseProduct(b: sample.b, a: sample.a)
    #expect(relativeDifference(try denseProduct(b: found.b, a: found.a), before) <= 1e-6, "seed \(seed)")
    #expect(try orthonormalityError(found.a) <= 1e-6, "seed \(seed)")
    #expect(found.a.shape == sample.a.shape && found.b.shape == sample.b.shape, "seed \(seed)")
    #expect((found.rotation != nil) == sample.isOrthonormal, "seed \(seed)")

    // The singular values are those of the dense product, and the norms of B's columns.
    let dense = try ThinSVD(before).singularValues
    let largest = max(dense[0], 1e-30)
    let b = try matrix(found.b)
    for (index, value) in found.singularValues.enumerated() {
      #expect(abs(value - dense[index]) <= 1e-6 * largest, "seed \(seed)")
      let norm = (0..<b.rows).reduce(0) { $0 + b[$1, index] * b[$1, index] }.squareRoot()
      #expect(abs(norm - value) <= 1e-6 * largest, "seed \(seed)")
    }
    #expect(zip(found.singularValues, found.singularValues.dropFirst()).allSatisfy { $0 >= $1 }, "seed \(seed)")

    // A's rows span the old row space also where B has lower rank: projecting the old rows on them loses nothing.
    let (oldA, newA) = (try matrix(sample.a), try matrix(found.a))
    let projected = try Matrix.product(Matrix.product(oldA, newA, transB: true), newA)
    #expect(relativeDifference(projected, oldA) <= 1e-6, "seed \(seed)")

    // Signs: in each row the first entry of largest magnitude is positive.
    for row in 0..<newA.rows {
      let entries = (0..<newA.columns).map { newA[row, $0] }
      let largest = entries.map(abs).max() ?? 0
      #expect(entries.first { abs($0) == largest } ?? 0 > 0, "seed \(seed)")
    }

    // The same input gives the same bits, and doing it again changes nothing but rounding.
    let again = try Refactorisation(module: "m", a: sample.a, b: sample.b)
    #expect(again.a == found.a && again.b == found.b, "seed \(seed)")
    let twice = try Refactorisation(module: "m", a: found.a, b: found.b)
    #expect(twice.rotation != nil, "seed \(seed)")
    #expect(relativeDifference(try denseProduct(b: twice.b, a: twice.a), before) <= 2e-6, "seed \(seed)")
  }

  @Test("signs do not depend on the gauge: negating factors gives the same result")
  func signs() throws {
    for seed in 1...50 as ClosedRange<UInt64> {
      var generator = SeededGenerator(seed: seed)
      let a = try randomTensor([4, 30], &generator)
      let b = try randomTensor([20, 4], &generator)
      var (flippedA, flippedB) = (a, b)
      for index in flippedA.values.indices { flippedA.values[index].negate() }
      for index in flippedB.values.indices { flippedB.values[index].negate() }
      let plain = try Refactorisation(module: "m", a: a, b: b)
      let flipped = try Refactorisation(module: "m", a: flippedA, b: flippedB)
      #expect(relativeDifference(try matrix(flipped.a), try matrix(plain.a)) <= 1e-6, "seed \(seed)")
      #expect(relativeDifference(try matrix(flipped.b), try matrix(plain.b)) <= 1e-6, "seed \(seed)")
    }
  }

  @Test("the rotation that it reports is the one that it did", arguments: 1...40 as ClosedRange<UInt64>)
  func rotation(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let raw = try randomTensor([6, 40], &generator)
    let a = try Tensor(shape: [6, 40], values: ThinQR(transposeOf: matrix(raw)).q.transposed.floats)
    let b = try randomTensor([25, 6], &generator)
    let found = try Refactorisation(module: "m", a: a, b: b)
    let turn = try #require(found.rotation)
    #expect(
      relativeDifference(try Matrix.product(turn, matrix(a), transA: true), try matrix(found.a)) <= 1e-7,
      "seed \(seed)"
    )
    #expect(relativeDifference(try Matrix.product(matrix(b), turn), try matrix(found.b)) <= 1e-7, "seed \(seed)")
  }

  @Test("B = 0 keeps A's row space, and an orthonormal A stays orthonormal over 1000 rounds of rounding")
  func zeroAndDrift() throws {
    var generator = SeededGenerator(seed: 9)
    let a = try randomTensor([8, 64], &generator)
    let zero = try Refactorisation(module: "m", a: a, b: Tensor(zeros: [48, 8]))
    #expect(zero.b.values.allSatisfy { $0 == 0 })
    #expect(try orthonormalityError(zero.a) <= 1e-6)
    var current = zero.a
    let start = try matrix(zero.a)
    for _ in 0..<1000 {
      current = try Refactorisation(module: "m", a: current, b: try randomTensor([48, 8], &generator)).a
    }
    #expect(try orthonormalityError(current) <= 1e-5)
    let projected = try Matrix.product(Matrix.product(matrix(current), start, transB: true), start)
    #expect(relativeDifference(projected, try matrix(current)) <= 1e-5)
  }

  @Test("impossible shapes and values are refused with the module's name")
  func refusals() throws {
    #expect(throws: RefactorisationError.rank(module: "m", rank: 5, dOut: 4, dIn: 9)) {
      try Refactorisation(module: "m", a: Tensor(zeros: [5, 9]), b: Tensor(zeros: [4, 5]))
    }
    #expect(throws: RefactorisationError.rank(module: "m", rank: 5, dOut: 9, dIn: 4)) {
      try Refactorisation(module: "m", a: Tensor(zeros: [5, 4]), b: Tensor(zeros: [9, 5]))
    }
    #expect(throws: RefactorisationError.rank(module: "m", rank: 0, dOut: 9, dIn: 4)) {
      try Refactorisation(module: "m", a: Tensor(zeros: [0, 4]), b: Tensor(zeros: [9, 0]))
    }
    #expect(throws: RefactorisationError.shapes(module: "m", a: [2, 4], b: [9, 3])) {
      try Refactorisation(module: "m", a: Tensor(zeros: [2, 4]), b: Tensor(zeros: [9, 3]))
    }
    #expect(throws: RefactorisationError.shapes(module: "m", a: [4], b: [9, 4])) {
      try Refactorisation(module: "m", a: Tensor(zeros: [4]), b: Tensor(zeros: [9, 4]))
    }
    var poisoned = Tensor(zeros: [9, 2])
    poisoned.values[3] = .nan
    #expect(throws: RefactorisationError.notFinite(module: "m", factor: "B", index: 3)) {
      try Refactorisation(module: "m", a: Tensor(zeros: [2, 4]), b: poisoned)
    }
  }
}
