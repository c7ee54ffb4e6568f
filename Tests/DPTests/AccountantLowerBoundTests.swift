import FedLoRADP
import Foundation
import Testing

/// A lower bound on ε that needs no accountant: whoever sees all steps may look at the sum of their noisy coordinates alone,
/// and guess by a threshold. That sum is N(k, Tσ²) with k ~ Bin(T, q) where the example is there, N(0, Tσ²) where it is not, so
/// ε ≥ ln((P(S > s) − δ)/Q(S > s)) for every s. At q = 1 the best threshold gives ε itself.
private struct ThresholdAttack {
  let rate: Double
  let sigma: Double
  let steps: Int

  /// ln of the upper tail of the standard normal, at most 1e-3 above it where it is not exact.
  private func logUpper(_ x: Double) -> Double {
    if x < 30 { return log(0.5 * erfc(x / 2.0.squareRoot())) }
    return -x * x / 2 - log(x * (2 * Double.pi).squareRoot())
  }

  /// P(S > s), left out what lies more than 14 standard deviations from the middle of the binomial.
  private func tail(_ s: Double, _ weights: [(mean: Double, weight: Double)]) -> Double {
    let width = sigma * Double(steps).squareRoot()
    return weights.reduce(0) { $0 + $1.weight * 0.5 * erfc((s - $1.mean) / width / 2.0.squareRoot()) }
  }

  /// Bin(T, q) in at most some five hundred places: neighbours are put together at the lowest of them, which lowers the tail.
  private var binomial: [(mean: Double, weight: Double)] {
    let n = Double(steps)
    if rate == 1 { return [(n, 1)] }
    let deviation = (n * rate * (1 - rate)).squareRoot()
    let low = max(0, (n * rate - 14 * deviation).rounded(.down))
    let high = min(n, (n * rate + 14 * deviation + 30).rounded(.up))
    let stride = max(1, Int((high - low) / 500))
    var result: [(mean: Double, weight: Double)] = []
    let (logRate, logRest) = (log(rate), log1p(-rate))
    var k = low
    var index = 0
    while k <= high {
      let logChoices: Double = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
      let weight = exp(logChoices + k * logRate + (n - k) * logRest)
      if index % stride == 0 { result.append((k, weight)) } else { result[result.count - 1].weight += weight }
      k += 1
      index += 1
    }
    // lgamma of 10⁷ leaves 1e-7 of a weight open; together they must not be more than 1.
    let total = result.reduce(0) { $0 + $1.weight }
    return result.map { ($0.mean, $0.weight * min(1, (1 - 1e-6) / total)) }
  }

  /// The bound for each δ.
  func epsilons(deltas: [Double]) -> [Double] {
    let weights = binomial
    let width = sigma * Double(steps).squareRoot()
    let top = (weights.last?.mean ?? 0) + 10 * width
    var best = deltas.map { _ in 0.0 }
    for step in 0...400 {
      let s = -2 * width + (top + 2 * width) * Double(step) / 400
      let seen = tail(s, weights)
      for (index, delta) in deltas.enumerated() where seen > delta * (1 + 1e-6) {
        best[index] = max(best[index], log(seen - delta) - logUpper(s / width))
      }
    }
    return best
  }
}

@Suite("Accountant against an attack")
struct AccountantLowerBoundTests {
  @Test(
    "no ε is below what a threshold on the sum of all steps finds out, at the extremes of every parameter",
    arguments: [1e-7, 1e-3, 0.5, 1],
    [0.2, 1, 50]
  )
  func extremes(rate: Double, sigma: Double) throws {
    for steps in [1, 50, 10_000_000] {
      let attack = ThresholdAttack(rate: rate, sigma: sigma, steps: steps)
      let deltas = [1e-5, 1e-15]
      for (delta, lower) in zip(deltas, attack.epsilons(deltas: deltas)) {
        let phases = [try poisson(rate, sigma, steps)]
        let found = try addOrRemove.epsilon(of: phases, delta: delta).epsilon
        #expect(found.isFinite && found >= lower * (1 - 1e-6), "\(steps) steps, δ \(delta): \(found), attack \(lower)")
        // And never above what is known without it.
        let whole = try GaussianDP(noiseMultiplier: sigma, releases: steps).epsilon(delta: delta)
        #expect(found <= whole * (1 + 1e-9))
        if rate == 1 { #expect(abs(found - whole) <= 1e-10 * whole && lower >= 0.98 * whole - 0.02) }
      }
    }
  }

  @Test("the attack is a strong one where it should be, so that it would notice an ε that is a few per cent short")
  func strength() throws {
    for (rate, sigma, steps) in [(0.5, 5.0, 10_000), (0.05, 5, 10_000_000), (1, 1, 1), (1e-3, 5, 10_000_000)] {
      let found = try addOrRemove.epsilon(of: [poisson(rate, sigma, steps)], delta: 1e-5).epsilon
      let lower = ThresholdAttack(rate: rate, sigma: sigma, steps: steps).epsilons(deltas: [1e-5])[0]
      #expect(lower >= 0.9 * found, "\(rate) \(sigma) \(steps): \(lower) of \(found)")
    }
  }

  @Test("steps that differ by next to nothing compose to as many equal ones, by every method")
  func composes() throws {
    for (rate, sigma, steps) in [(0.01, 1.0, 1000), (0.5, 0.3, 10), (0.2, 6, 300), (1e-4, 0.6, 100_000)] {
      let whole = try addOrRemove.epsilon(of: [poisson(rate, sigma, 2 * steps)], delta: 1e-6).epsilon
      let halves = [try poisson(rate, sigma, steps), try poisson(rate, sigma * (1 + 1e-13), steps)]
      let found = try addOrRemove.epsilon(of: halves, delta: 1e-6).epsilon
      #expect(abs(found / whole - 1) <= 2e-6)
      // Poisson and no sampling are one at q = 1.
      let full = try addOrRemove.epsilon(
        of: [poisson(1, sigma, steps), poisson(1, sigma * (1 + 1e-13), steps)],
        delta: 1e-6
      )
      let balleWang = try GaussianDP(noiseMultiplier: sigma, releases: 2 * steps).epsilon(delta: 1e-6)
      #expect(abs(full.epsilon / balleWang - 1) <= 1e-10)
    }
  }

  @Test("no parameters make it answer NaN, whatever the relation and the sampling")
  func neverNaN() throws {
    let numbers: [Double] = [.leastNonzeroMagnitude, 1e-7, 0.2, 50, 1e300]
    var answered = 0
    for relation in [NeighbouringRelation.addOrRemoveOne, .replaceOne] {
      let accountant = PrivacyAccountant(relation: relation)
      for rate in numbers where rate <= 1 {
        for sampling in [ExampleSampling.poisson(rate: rate), .fixedSize(rate: rate)] {
          if case .fixedSize = sampling, relation != .replaceOne { continue }
          for sigma in numbers + [0] {
            for (steps, delta) in [(1, 1e-15), (PrivatePhase.maximumSteps, 1e-5)] {
              let phase = try PrivatePhase(sampling: sampling, noiseMultiplier: sigma, steps: steps)
              let begin = ContinuousClock.now
              let found = try? accountant.epsilon(of: [phase], delta: delta).epsilon
              // A client asks before it trains, about whatever terms it is sent.
              #expect(ContinuousClock.now - begin < .seconds(10), "\(phase) \(delta)")
              if let found {
                answered += 1
                #expect(found >= 0, "\(relation) \(phase) \(delta)")
                if sigma == 0 { #expect(found == .infinity) }
              }
            }
          }
        }
      }
    }
    #expect(answered > 40)
  }
}
