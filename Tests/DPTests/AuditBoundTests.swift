import FedLoRADP
import Foundation
import Testing

@Suite("Audit bounds")
struct AuditBoundTests {
  @Test(
    "the one-run bound has the known values",
    arguments: [
      (1000, 100, 75, 1e-5, 0.384505131975, 0.6994668132), (1000, 100, 100, 1e-5, 0.000563308984096, 3.465376348),
      (5000, 500, 400, 1e-6, 0.000405674789099, 1.198307543), (200, 50, 26, 1e-5, 0.999581226983, 0),
    ]
  )
  func oneRun(canaries: Int, guesses: Int, correct: Int, delta: Double, pValue: Double, epsilon: Double) throws {
    let p = AuditBound.oneRunPValue(epsilon: 1, canaries: canaries, guesses: guesses, correct: correct, delta: delta)
    #expect(abs(p / pValue - 1) <= 1e-9)
    let bound = try AuditBound.oneRun(
      canaries: canaries,
      guesses: guesses,
      correct: correct,
      delta: delta,
      significance: 0.05
    )
    #expect(abs(bound - epsilon) <= 1e-8)
  }

  @Test("without δ, all guesses right, the one-run bound is in closed form")
  func allRight() throws {
    // (e^ε/(1 + e^ε))^r = 0.05
    let share = pow(0.05, 1.0 / 60)
    let bound = try AuditBound.oneRun(canaries: 60, guesses: 60, correct: 60, delta: 0, significance: 0.05)
    #expect(abs(bound - log(share / (1 - share))) <= 1e-9)
  }

  /// Standard normal numbers from a generator of our own, so that the test owns its randomness.
  private struct Normals {
    var state: UInt64

    mutating func next() -> Double {
      func uniform() -> Double {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return (Double((z ^ (z >> 31)) >> 11) + 0.5) * 0x1p-53
      }
      return (-2 * log(uniform())).squareRoot() * cos(2 * Double.pi * uniform())
    }
  }

  private func twoWorlds(shift: Double, runs: Int, seed: UInt64) throws -> AuditBound.TwoWorlds {
    var normals = Normals(state: seed)
    let without = (0..<runs).map { _ in normals.next() }
    let with = (0..<runs).map { _ in normals.next() + shift }
    return try AuditBound.twoWorlds(without: without, with: with, delta: 1e-5, significance: 0.05)
  }

  @Test("runs of a Gaussian with known μ give a bound close to its μ and not above", arguments: [1.0, 2, -2, 3])
  func gaussian(shift: Double) throws {
    let bound = try twoWorlds(shift: shift, runs: 20_000, seed: 11)
    #expect(bound.gaussianMu <= abs(shift) && bound.gaussianMu >= 0.9 * abs(shift))
    #expect(bound.isCanaryAbove == (shift > 0))
    let truth = try GaussianDP(mu: abs(shift)).epsilon(delta: 1e-5)
    #expect(bound.gaussianEpsilon <= truth && bound.gaussianEpsilon >= 0.88 * truth)
    #expect(bound.epsilon <= bound.gaussianEpsilon && bound.epsilon > 0)
  }

  @Test("runs that differ in nothing are rarely said to differ, and never by much")
  func null() throws {
    var wrong = 0
    for seed in 1...200 {
      let bound = try twoWorlds(shift: 0, runs: 400, seed: UInt64(seed) &* 7919)
      if bound.epsilon > 0 || bound.gaussianMu > 0 { wrong += 1 }
      #expect(bound.epsilon < 1, "seed \(seed)")
    }
    // 5 % of 200 is the promise; 20 would be 3.3 standard deviations above it.
    #expect(wrong <= 20)
  }

  @Test("with no noise the bound grows with the runs, as the rates allow")
  func noNoise() throws {
    let scores = [Double](repeating: 0, count: 200)
    let bound = try AuditBound.twoWorlds(without: scores, with: scores.map { $0 + 1 }, delta: 0, significance: 0.05)
    // Upper bounds of both rates from 0 of 100 at 2.5 %.
    let rate = 1 - pow(0.025, 0.01)
    #expect(abs(bound.epsilon - log((1 - rate) / rate)) <= 1e-9)
  }

  @Test("counts and probabilities outside their ranges are refused")
  func refusals() {
    #expect(throws: PrivacyParameterError.self) {
      try AuditBound.oneRun(canaries: 10, guesses: 11, correct: 1, delta: 0, significance: 0.05)
    }
    #expect(throws: PrivacyParameterError.self) {
      try AuditBound.oneRun(canaries: 10, guesses: 5, correct: 6, delta: 0, significance: 0.05)
    }
    #expect(throws: PrivacyParameterError.self) {
      try AuditBound.twoWorlds(without: [0], with: [1, 2], delta: 0, significance: 0.05)
    }
    #expect(throws: PrivacyParameterError.self) {
      try AuditBound.twoWorlds(without: [0, .nan], with: [1, 2], delta: 0, significance: 0.05)
    }
    #expect(throws: PrivacyParameterError.self) {
      try AuditBound.twoWorlds(without: [0, 1], with: [1, 2], delta: 0, significance: 0)
    }
  }
}
