import FedLoRACheckpoint
import FedLoRAFederation
import FedLoRALinearAlgebra
import Testing

/// A client with a least-squares problem ½‖X·(B·A)ᵀ − Y‖²/n that trains B by plain SGD on drawn rows.
private struct LeastSquaresClient {
  let inputs: Matrix
  let targets: Matrix

  init(rows: Int, dIn: Int, dOut: Int, _ generator: inout SeededGenerator) throws {
    inputs = try Matrix(rows: rows, columns: dIn, values: (0..<rows * dIn).map { _ in generator.signedUnit() })
    targets = try Matrix(rows: rows, columns: dOut, values: (0..<rows * dOut).map { _ in generator.signedUnit() })
  }

  /// B after `steps` steps; the rows of each step are drawn from `seed`.
  func train(a: Tensor, b: Tensor, steps: Int, learningRate: Double, seed: UInt64) throws -> Tensor {
    var generator = SeededGenerator(seed: seed)
    let a = try matrix(a)
    var b = try matrix(b)
    for _ in 0..<steps {
      let rows = (0..<4).map { _ in Int.random(in: 0..<inputs.rows, using: &generator) }
      let x = try pick(rows, of: inputs)
      let hidden = try Matrix.product(x, a, transB: true)  // n × r
      var residual = try Matrix.product(hidden, b, transB: true)  // n × dOut
      let y = try pick(rows, of: targets)
      for index in residual.values.indices { residual.values[index] -= y.values[index] }
      let gradient = try Matrix.product(residual, hidden, transA: true)  // dOut × r
      for index in b.values.indices { b.values[index] -= learningRate / 4 * gradient.values[index] }
    }
    return try Tensor(shape: [b.rows, b.columns], values: b.floats)
  }

  private func pick(_ rows: [Int], of matrix: Matrix) throws -> Matrix {
    try Matrix(
      rows: rows.count,
      columns: matrix.columns,
      values: rows.flatMap { row in (0..<matrix.columns).map { matrix[row, $0] } }
    )
  }
}

@Suite("FedSVD and its gauge")
struct GaugeTests {
  @Test(
    "under SGD FedSVD follows FFA-LoRA with an orthonormal A from the end of round 1 on",
    arguments: 1...30 as ClosedRange<UInt64>
  )
  func followsOrthonormalFFA(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let rank = Int.random(in: 1...6, using: &generator)
    let dIn = rank + Int.random(in: 4...24, using: &generator)
    let dOut = rank + Int.random(in: 4...24, using: &generator)
    let clients = try (0..<6).map { _ in try LeastSquaresClient(rows: 40, dIn: dIn, dOut: dOut, &generator) }
    let svd = try Strategy(name: .fedsvd, head: .frozen, refactoriseEvery: Int.random(in: 1...3, using: &generator))
    let ffa = try Strategy(name: .ffaLoRA, head: .frozen)

    func round(_ number: Int, _ strategy: Strategy, _ state: TensorSet, frozenA: Tensor?, cohort: [Int]) throws
      -> TensorSet
    {
      let a = try #require(state[nameOfA] ?? frozenA)
      let b = try #require(state[nameOfB])
      var sum = ExactSum(layout: strategy.uploadLayout(state: state))
      for client in cohort {
        let trained = try clients[client].train(
          a: a,
          b: b,
          steps: 5,
          learningRate: 0.3,
          seed: seed &* 1000 &+ UInt64(number * 10 + client)
        )
        try sum.fold(TensorSet([nameOfB: trained]), weight: 1 + client * 7)
      }
      return try strategy.nextState(round: number, previous: state, mean: sum.mean())
    }

    let startA = try randomTensor([rank, dIn], &generator, scale: 1 / Double(dIn).squareRoot())
    var svdState = TensorSet([nameOfA: startA, nameOfB: Tensor(zeros: [dOut, rank])])
    svdState = try round(1, svd, svdState, frozenA: nil, cohort: [0, 1, 2])
    // With a longer period A becomes orthonormal later; until then both train the same factors.
    var number = 1
    while try orthonormalityError(svdState[nameOfA]) > 1e-5 {
      number += 1
      svdState = try round(number, svd, svdState, frozenA: nil, cohort: [0, 1, 2])
    }
    #expect(number == svd.refactoriseEvery, "seed \(seed)")
    let orthonormalA = try #require(svdState[nameOfA])
    var ffaState = svdState.filter(ffa.isSentDown)
    for next in number + 1...number + 12 {
      let cohort = Array(0..<6).shuffled(using: &generator).prefix(3)
      svdState = try round(next, svd, svdState, frozenA: nil, cohort: Array(cohort))
      ffaState = try round(next, ffa, ffaState, frozenA: orthonormalA, cohort: Array(cohort))
      let difference = relativeDifference(
        try denseProduct(b: svdState[nameOfB], a: svdState[nameOfA]),
        try denseProduct(b: ffaState[nameOfB], a: orthonormalA)
      )
      #expect(difference <= 3e-6, "seed \(seed), round \(next)")
    }
  }
}
