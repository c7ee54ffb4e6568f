import FedLoRADP
import Foundation
import Testing

/// The least ε of equal steps, by contour integrals and 40-digit arithmetic elsewhere.
private struct KnownEpsilon: Sendable {
  let rate: Double
  let sigma: Double
  let steps: Int
  let delta: Double
  let epsilon: Double
  var method = CertifiedEpsilon.Method.contour
}

private let known = [
  KnownEpsilon(rate: 0.01, sigma: 1, steps: 10000, delta: 1e-5, epsilon: 6.18771238997),
  KnownEpsilon(rate: 0.01, sigma: 4, steps: 1_000_000, delta: 1e-8, epsilon: 16.9583073921),
  KnownEpsilon(rate: 0.001, sigma: 3, steps: 300_000, delta: 1e-12, epsilon: 1.24290781166),
  KnownEpsilon(rate: 1e-5, sigma: 1, steps: 1_000_000, delta: 1e-9, epsilon: 0.0650927058312),
  KnownEpsilon(rate: 1e-5, sigma: 0.3, steps: 1_000_000, delta: 1e-6, epsilon: 15.5219790836),
  KnownEpsilon(rate: 0.3, sigma: 20, steps: 100_000, delta: 1e-9, epsilon: 39.0872003716),
  KnownEpsilon(rate: 1.0 / 88, sigma: 0.612947, steps: 500, delta: 1e-5, epsilon: 5.99998906978),
  KnownEpsilon(rate: 0.5, sigma: 0.3, steps: 10, delta: 1e-5, epsilon: 75.5069734712, method: .tiltedPLD),
  KnownEpsilon(rate: 1, sigma: 2, steps: 100, delta: 1e-12, epsilon: 47.0492321727, method: .closedForm),
]

@Suite("Accountant against known values")
struct AccountantReferenceTests {
  @Test("the reported ε is the least one to 1e-6 of it, and never below it", arguments: known)
  private func knownValues(known: KnownEpsilon) throws {
    let found = try addOrRemove.epsilon(of: [poisson(known.rate, known.sigma, known.steps)], delta: known.delta)
    #expect(found.epsilon >= known.epsilon * (1 - 1e-10))
    #expect(found.epsilon <= known.epsilon * (1 + 1e-6))
    #expect(found.method == known.method)
    let zeroed = try PrivacyAccountant(relation: .zeroOut).epsilon(
      of: [poisson(known.rate, known.sigma, known.steps)],
      delta: known.delta
    )
    #expect(zeroed == found)
  }

  @Test(
    "agrees with the table of exact values",
    .enabled(if: !ReferenceTables.rows("dp_exact_public.csv").isEmpty),
    arguments: ReferenceTables.rows("dp_exact_public.csv")
  )
  func exactTable(row: ReferenceTables.Row) throws {
    let found = try addOrRemove.epsilon(
      of: [poisson(row.number("q"), row.number("sigma"), row.count("steps"))],
      delta: row.number("delta")
    ).epsilon
    let exact = row.number("eps_exact")
    #expect(found >= exact - 1e-9 && found <= exact * (1 + 1e-6))
  }

  @Test(
    "lies between the other accountants' bounds, and the Rényi bound agrees with theirs to 1e-9",
    .enabled(if: !ReferenceTables.rows("dp_vectors_public.csv").isEmpty),
    arguments: ReferenceTables.rows("dp_vectors_public.csv")
  )
  func boundsTable(row: ReferenceTables.Row) throws {
    let phases = [try poisson(row.number("q"), row.number("sigma"), row.count("steps"))]
    let found = try addOrRemove.epsilon(of: phases, delta: row.number("delta")).epsilon
    #expect(found >= row.number("eps_pld_lower") && found <= row.number("eps_pld_upper") * (1 + 1e-6))
    let rdp = try addOrRemove.rdpEpsilon(of: phases, delta: row.number("delta"))
    #expect(abs(rdp / row.number("eps_rdp") - 1) <= 1e-9)
  }

  @Test(
    "agrees with the table of mixed phases",
    .enabled(if: !ReferenceTables.rows("dp_hetero_public.csv").isEmpty),
    arguments: ReferenceTables.rows("dp_hetero_public.csv")
  )
  func mixedTable(row: ReferenceTables.Row) throws {
    let phases = try #require(row.fields["phases"]).split(separator: "|").map { text in
      let parts = text.split(separator: ":").compactMap { Double($0) }
      return try poisson(parts[0], parts[1], Int(parts[2]))
    }
    let found = try addOrRemove.epsilon(of: phases, delta: row.number("delta")).epsilon
    let exact = row.number("eps_exact")
    #expect(found >= exact - 1e-9 && found <= exact * (1 + 1e-6))
    let rdp = try addOrRemove.rdpEpsilon(of: phases, delta: row.number("delta"))
    #expect(abs(rdp / row.number("eps_rdp") - 1) <= 1e-9)
  }

  @Test("mixed phases have the known value")
  func mixedKnown() throws {
    let phases = [try poisson(0.01, 1, 500), try poisson(0.01, 1.5, 1500)]
    let found = try addOrRemove.epsilon(of: phases, delta: 1e-5)
    #expect(abs(found.epsilon / 1.74627121155 - 1) <= 1e-6 && found.epsilon > 1.74627121155)
    #expect(abs(try addOrRemove.rdpEpsilon(of: phases, delta: 1e-5) / 2.009975548 - 1) <= 1e-9)
  }

  @Test("full phases beside sampled ones, in a known value with three unlike steps")
  func fewUnlikeSteps() throws {
    let phases = [try poisson(0.05, 1.1, 1), try poisson(0.01, 0.9, 1), try poisson(0.2, 3, 1)]
    let found = try addOrRemove.epsilon(of: phases, delta: 1e-5).epsilon
    #expect(found >= 0.819067952239 - 1e-8 && found <= 0.819067952239 * (1 + 1e-6))
  }

  /// δ(ε) of removing the example in two steps, by integrating the one-step value over the first step's outcome.
  private func twoStepDelta(_ q: Double, _ sigma: Double, _ epsilon: Double) -> Double {
    func upper(_ x: Double) -> Double { 0.5 * erfc(x / 2.0.squareRoot()) }
    func oneStep(_ epsilon: Double) -> Double {
      let ratio = (exp(epsilon) - 1 + q) / q
      guard ratio > 0 else { return -expm1(epsilon) }
      let x = sigma * sigma * log(ratio) + 0.5
      return q * upper((x - 1) / sigma) - (exp(epsilon) - 1 + q) * upper(x / sigma)
    }
    let points = 40_000
    let (low, high) = (-9 * sigma, 1 + 9 * sigma)
    let width = (high - low) / Double(points)
    var sum = 0.0
    for index in 0...points {
      let x = low + Double(index) * width
      let ratio = 1 - q + q * exp((2 * x - 1) / (2 * sigma * sigma))
      let density = exp(-x * x / (2 * sigma * sigma)) / (sigma * (2 * Double.pi).squareRoot()) * ratio
      sum += density * oneStep(epsilon - log(ratio))
    }
    return sum * width
  }

  @Test(
    "two steps give the δ of a direct integral",
    arguments: [(0.3, 0.8, 1e-5), (0.5, 0.4, 1e-6), (0.05, 1.5, 1e-4), (0.9, 2, 1e-5)]
  )
  func twoSteps(rate: Double, sigma: Double, delta: Double) throws {
    let found = try addOrRemove.epsilon(of: [poisson(rate, sigma, 2)], delta: delta)
    let reached = twoStepDelta(rate, sigma, found.epsilon)
    #expect(reached <= delta && reached >= delta * (1 - 1e-5), "\(found) reaches \(reached)")
  }

  @Test(
    "a single step is the amplified Gaussian, and the general methods would agree",
    arguments: [(0.1, 1.0, 1e-5), (0.5, 0.5, 1e-6), (0.01, 2, 1e-6)]
  )
  func singleStep(rate: Double, sigma: Double, delta: Double) throws {
    let found = try addOrRemove.epsilon(of: [poisson(rate, sigma, 1)], delta: delta)
    let whole = try GaussianDP(noiseMultiplier: sigma).epsilon(delta: delta / rate)
    #expect(abs(found.epsilon / log1p(rate * expm1(whole)) - 1) <= 1e-12)
    // A second step with next to no information takes the general way.
    let general = try addOrRemove.epsilon(of: [poisson(rate, sigma, 1), poisson(1, 1e7, 1)], delta: delta)
    #expect(general.method != .closedForm)
    #expect(abs(general.epsilon / found.epsilon - 1) <= 1e-5)
  }

  @Test(
    "fixed-size samples agree with the published bound evaluated elsewhere",
    arguments: [
      (0.01, 2.0, 1000, 1e-5, 3.576111482350549), (0.05, 4, 200, 1e-6, 4.024666669967081),
      (0.001, 1.5, 5000, 1e-7, 2.4630572773809623),
    ]
  )
  func fixedSize(rate: Double, sigma: Double, steps: Int, delta: Double, epsilon: Double) throws {
    let phase = try PrivatePhase(sampling: .fixedSize(rate: rate), noiseMultiplier: sigma, steps: steps)
    let found = try PrivacyAccountant(relation: .replaceOne).epsilon(of: [phase], delta: delta)
    #expect(abs(found.epsilon / epsilon - 1) <= 1e-8)
    #expect(found.method == .rdp)
  }

  @Test("replacing one example costs at least the known pair's ε and at most twice that of removing it and a bit")
  func replacing() throws {
    // Values of the pair with the example at +C and at −C, by dp-accounting 0.6.0.
    for (rate, sigma, steps, pair) in [(0.1, 2.0, 50, 2.95512330712328), (0.01, 1, 1000, 2.843445811703821)] {
      let phases = [try poisson(rate, sigma, steps)]
      let found = try PrivacyAccountant(relation: .replaceOne).epsilon(of: phases, delta: 1e-5).epsilon
      let removed = try addOrRemove.epsilon(of: phases, delta: 1e-5).epsilon
      #expect(found >= pair)
      #expect(found <= 2.5 * removed)
    }
  }

  @Test("replacing one of all examples is a Gaussian of twice the sensitivity, however they are drawn")
  func replacingAll() throws {
    let expected = try GaussianDP(noiseMultiplier: 3, releases: 50).epsilon(delta: 1e-6)
    for sampling in [ExampleSampling.poisson(rate: 1), .fixedSize(rate: 1)] {
      let phase = try PrivatePhase(sampling: sampling, noiseMultiplier: 6, steps: 50)
      let found = try PrivacyAccountant(relation: .replaceOne).epsilon(of: [phase], delta: 1e-6)
      #expect(abs(found.epsilon / expected - 1) <= 1e-10 && found.method == .closedForm)
    }
  }
}
