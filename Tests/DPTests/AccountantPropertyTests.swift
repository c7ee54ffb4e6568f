import FedLoRADP
import Foundation
import Testing

@Suite("Accountant properties")
struct AccountantPropertyTests {
  private func epsilon(_ rate: Double, _ sigma: Double, _ steps: Int, _ delta: Double) throws -> Double {
    try addOrRemove.epsilon(of: [poisson(rate, sigma, steps)], delta: delta).epsilon
  }

  @Test(
    "ε grows with steps, rate, less noise and smaller δ",
    arguments: [
      (0.01, 1.0, 1000, 1e-5), (0.2, 2, 50, 1e-6), (0.5, 0.5, 5, 1e-5), (1e-4, 0.6, 100_000, 1e-7), (0.9, 6, 300, 1e-9),
    ]
  )
  func monotone(rate: Double, sigma: Double, steps: Int, delta: Double) throws {
    let here = try epsilon(rate, sigma, steps, delta)
    #expect(here > 0)
    #expect(try epsilon(rate, sigma, steps + max(1, steps / 50), delta) > here)
    #expect(try epsilon(rate * 1.02, sigma, steps, delta) > here)
    #expect(try epsilon(rate, sigma / 1.02, steps, delta) > here)
    #expect(try epsilon(rate, sigma, steps, delta / 1.02) > here)
  }

  @Test("phases commute, may be split, and steps without effect change nothing")
  func phases() throws {
    let first = try poisson(0.01, 1, 300)
    let second = try poisson(0.05, 2, 70)
    let third = try poisson(1, 9, 4)
    let whole = try addOrRemove.epsilon(of: [first, second, third], delta: 1e-6)
    #expect(try addOrRemove.epsilon(of: [third, first, second], delta: 1e-6) == whole)
    let split = [try poisson(0.01, 1, 100), second, try poisson(0.01, 1, 0), third, try poisson(0.01, 1, 200)]
    #expect(try addOrRemove.epsilon(of: split, delta: 1e-6) == whole)
    #expect(try addOrRemove.epsilon(of: [first, second], delta: 1e-6).epsilon < whole.epsilon)
  }

  @Test("the limits: no steps, no noise, endless noise, no sampling")
  func limits() throws {
    #expect(try addOrRemove.epsilon(of: [], delta: 1e-5) == addOrRemove.epsilon(of: [poisson(0.1, 0, 0)], delta: 1e-5))
    #expect(try epsilon(0.1, 1, 0, 1e-5) == 0)
    #expect(try epsilon(0.1, 0, 3, 1e-5) == .infinity)
    #expect(try addOrRemove.rdpEpsilon(of: [poisson(0.1, 0, 3)], delta: 1e-5) == .infinity)
    #expect(try epsilon(0.1, 1e8, 1000, 1e-5) == 0)
    #expect(try epsilon(1e-9, 1, 1000, 1e-5) == 0)
    #expect(try epsilon(1 - 1e-9, 2, 40, 1e-5) <= epsilon(1, 2, 40, 1e-5))
    #expect(abs(try epsilon(1 - 1e-9, 2, 40, 1e-5) / epsilon(1, 2, 40, 1e-5) - 1) <= 1e-5)
  }

  @Test("extremes give a finite number that no looser bound undercuts, also where the method changes")
  func extremes() throws {
    for rate in [1e-7, 1e-3, 0.5, 0.999, 1] {
      for sigma in [0.2, 1, 50] {
        for steps in [1, 3, 1000, 10_000_000] {
          for delta in [1e-3, 1e-15] {
            let phases = [try poisson(rate, sigma, steps)]
            let found = try addOrRemove.epsilon(of: phases, delta: delta).epsilon
            let whole = try GaussianDP(noiseMultiplier: sigma, releases: steps).epsilon(delta: delta)
            let rdp = try addOrRemove.rdpEpsilon(of: phases, delta: delta)
            #expect(found.isFinite && found >= 0, "\(phases) \(delta)")
            #expect(found <= min(whole, rdp) * (1 + 1e-9) + 1e-12, "\(phases) \(delta)")
          }
        }
      }
    }
  }

  @Test("parameters outside their ranges are refused")
  func refusals() throws {
    for rate in [0, -0.1, 1.1, Double.nan] { #expect(throws: PrivacyParameterError.self) { try poisson(rate, 1, 1) } }
    for sigma in [-1, Double.nan, .infinity] {
      #expect(throws: PrivacyParameterError.self) { try poisson(0.1, sigma, 1) }
    }
    #expect(throws: PrivacyParameterError.self) { try poisson(0.1, 1, -1) }
    var phase = try poisson(0.1, 1, 1)
    for delta in [0, 1, -1, Double.nan] {
      #expect(throws: PrivacyParameterError.self) { try addOrRemove.epsilon(of: [phase], delta: delta) }
    }
    phase.noiseMultiplier = .nan
    #expect(throws: PrivacyParameterError.self) { try addOrRemove.epsilon(of: [phase], delta: 1e-5) }
    let fixed = try PrivatePhase(sampling: .fixedSize(rate: 0.1), noiseMultiplier: 1, steps: 1)
    for relation in [NeighbouringRelation.addOrRemoveOne, .zeroOut] {
      #expect(throws: PrivacyAccountingError.fixedSizeNeedsReplaceOne(relation)) {
        try PrivacyAccountant(relation: relation).epsilon(of: [fixed], delta: 1e-5)
      }
    }
  }

  @Test("fixed-size and Poisson phases mix under replacement, through Rényi divergences")
  func mixedSampling() throws {
    let accountant = PrivacyAccountant(relation: .replaceOne)
    let fixed = try PrivatePhase(sampling: .fixedSize(rate: 0.01), noiseMultiplier: 4, steps: 100)
    let other = try poisson(0.01, 4, 100)
    let both = try accountant.epsilon(of: [fixed, other], delta: 1e-6)
    #expect(both.method == .rdp)
    #expect(both.epsilon > (try accountant.epsilon(of: [fixed], delta: 1e-6).epsilon))
  }

  @Test("a filter admits steps up to its budget, refuses the next one, and its sum never passes it")
  func filter() throws {
    var seen = 0
    var filter = try RDPFilter(epsilon: 3, delta: 1e-5, relation: .addOrRemoveOne, expected: poisson(0.01, 1, 1))
    while try filter.admits(poisson(0.01, 1, 100)) {
      try filter.spend(poisson(0.01, 1, 100))
      seen += 100
    }
    let before = filter
    #expect(throws: PrivacyAccountingError.self) { try filter.spend(poisson(0.01, 1, 100)) }
    #expect(filter == before)
    // For a schedule known beforehand the same bound, over all orders, is as good or better.
    #expect(try addOrRemove.rdpEpsilon(of: [poisson(0.01, 1, seen)], delta: 1e-5) <= 3)
    #expect(try addOrRemove.rdpEpsilon(of: [poisson(0.01, 1, seen + 200)], delta: 1e-5) > 3)
    #expect(try !filter.admits(poisson(0.01, 0, 1)))
    #expect(throws: PrivacyParameterError.self) {
      try RDPFilter(epsilon: 1e-3, delta: 1e-12, relation: .addOrRemoveOne, expected: poisson(0.01, 1, 1))
    }
  }
}
