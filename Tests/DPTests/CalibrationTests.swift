import FedLoRADP
import Foundation
import Testing

@Suite("Calibration")
struct CalibrationTests {
  private func expectTight(
    _ sigma: Double,
    epsilon: Double,
    delta: Double,
    sampling: ExampleSampling,
    steps: Int,
    relation: NeighbouringRelation = .addOrRemoveOne,
    spent: [PrivatePhase] = []
  ) throws {
    let accountant = PrivacyAccountant(relation: relation)
    func cost(_ sigma: Double) throws -> Double {
      let phase = try PrivatePhase(sampling: sampling, noiseMultiplier: sigma, steps: steps)
      return try accountant.epsilon(of: spent + [phase], delta: delta).epsilon
    }
    #expect(try cost(sigma) <= epsilon)
    #expect(try cost(sigma * (1 - 1e-6)) > epsilon)
  }

  @Test(
    "the noise is the least that fits, to 1e-6, and the steps follow back from it",
    arguments: [
      (0.01, 10000, 1e-5, 3.0, 1.56496553546), (1.0 / 88, 500, 1e-5, 6.0, 0.612946636652),
      (0.1, 1000, 1e-6, 0.5, 25.5447544066), (0.5, 500, 1e-5, 3.0, 15.5937726711), (1.0, 100, 1e-6, 8.0, 6.52935384358),
    ]
  )
  func known(rate: Double, steps: Int, delta: Double, epsilon: Double, sigma: Double) throws {
    let sampling = ExampleSampling.poisson(rate: rate)
    let found = try Calibration.noiseMultiplier(
      epsilon: epsilon,
      delta: delta,
      sampling: sampling,
      steps: steps,
      relation: .addOrRemoveOne
    )
    #expect(found >= sigma * (1 - 1e-10) && found <= sigma * (1 + 1e-6))
    try expectTight(found, epsilon: epsilon, delta: delta, sampling: sampling, steps: steps)
    let most = try Calibration.steps(
      epsilon: epsilon,
      delta: delta,
      sampling: sampling,
      noiseMultiplier: found,
      relation: .addOrRemoveOne
    )
    #expect(most >= steps && Double(most) <= Double(steps) * (1 + 1e-5))
  }

  @Test(
    "agrees with the table of calibrations",
    .enabled(if: !ReferenceTables.rows("dp_calibration_public.csv").isEmpty),
    arguments: ReferenceTables.rows("dp_calibration_public.csv")
  )
  func table(row: ReferenceTables.Row) throws {
    let sampling = ExampleSampling.poisson(rate: row.number("q"))
    let epsilon = row.number("target_eps")
    let found = try Calibration.noiseMultiplier(
      epsilon: epsilon,
      delta: row.number("delta"),
      sampling: sampling,
      steps: row.count("steps"),
      relation: .addOrRemoveOne
    )
    let exact = row.number("sigma_exact")
    #expect(found >= exact * (1 - 1e-10) && found <= exact * (1 + 1.5e-6))
    try expectTight(
      found,
      epsilon: epsilon,
      delta: row.number("delta"),
      sampling: sampling,
      steps: row.count("steps")
    )
  }

  @Test("after earlier steps the rest of the budget is used up, and an empty rest is an error")
  func spent() throws {
    let spent = [try poisson(0.01, 1, 500), try poisson(1, 20, 2)]
    let sampling = ExampleSampling.poisson(rate: 0.02)
    let found = try Calibration.noiseMultiplier(
      epsilon: 3,
      delta: 1e-5,
      sampling: sampling,
      steps: 700,
      relation: .addOrRemoveOne,
      spent: spent
    )
    try expectTight(found, epsilon: 3, delta: 1e-5, sampling: sampling, steps: 700, spent: spent)
    let alone = try Calibration.noiseMultiplier(
      epsilon: 3,
      delta: 1e-5,
      sampling: sampling,
      steps: 700,
      relation: .addOrRemoveOne
    )
    #expect(found > alone)
    let most = try Calibration.steps(
      epsilon: 3,
      delta: 1e-5,
      sampling: sampling,
      noiseMultiplier: found,
      relation: .addOrRemoveOne,
      spent: spent
    )
    #expect(most == 700)
    #expect(throws: PrivacyAccountingError.self) {
      try Calibration.noiseMultiplier(
        epsilon: 0.5,
        delta: 1e-5,
        sampling: sampling,
        steps: 1,
        relation: .addOrRemoveOne,
        spent: spent
      )
    }
  }

  @Test("replacement and fixed-size samples calibrate on their own ε")
  func otherRelations() throws {
    for sampling in [ExampleSampling.fixedSize(rate: 0.02), .poisson(rate: 0.02)] {
      let found = try Calibration.noiseMultiplier(
        epsilon: 4,
        delta: 1e-6,
        sampling: sampling,
        steps: 100,
        relation: .replaceOne
      )
      try expectTight(found, epsilon: 4, delta: 1e-6, sampling: sampling, steps: 100, relation: .replaceOne)
    }
  }

  @Test("a budget too small for one step allows none")
  func noStep() throws {
    let most = try Calibration.steps(
      epsilon: 0.1,
      delta: 1e-6,
      sampling: .poisson(rate: 0.5),
      noiseMultiplier: 0.5,
      relation: .addOrRemoveOne
    )
    #expect(most == 0)
    #expect(throws: PrivacyParameterError.self) {
      try Calibration.noiseMultiplier(
        epsilon: 0,
        delta: 1e-6,
        sampling: .poisson(rate: 0.5),
        steps: 1,
        relation: .addOrRemoveOne
      )
    }
  }
}
