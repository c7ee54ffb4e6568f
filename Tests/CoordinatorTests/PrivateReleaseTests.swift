import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRADP
import FedLoRAFederation
import Foundation
import Testing

/// Terms of which a test changes what it is about.
func makeTerms(
  relation: NeighbouringRelation = .addOrRemoveOne,
  sampling: ClientLevelPrivacy.Sampling = .poisson(rate: 1),
  population: Int = 10,
  clippingNorm: Double = 0.7,
  noiseMultiplier: Double = 1.3,
  divisor: Double = 4,
  epsilon: Double = 8,
  adaptive: ClientLevelPrivacy.AdaptiveClipping? = nil,
  weighting: Weighting = .uniform,
  seed: UInt64? = 5
) throws -> ClientLevelPrivacy {
  try ClientLevelPrivacy(
    relation: relation,
    sampling: sampling,
    population: population,
    clippingNorm: clippingNorm,
    noiseMultiplier: noiseMultiplier,
    divisor: divisor,
    epsilon: epsilon,
    delta: 1e-5,
    adaptiveClipping: adaptive,
    weighting: weighting,
    seed: seed
  )
}

@Suite("A private release")
struct PrivateReleaseTests {
  private func zeros(_ count: Int) -> TensorSet { TensorSet(["b": Tensor(zeros: [count])]) }

  private func release(_ terms: ClientLevelPrivacy, count: Int, clippingNorm: Double? = nil) throws -> PrivateRelease {
    try PrivateRelease(
      terms: terms,
      layout: TensorLayout(of: zeros(count)),
      clippingNorm: clippingNorm ?? terms.clippingNorm
    )
  }

  @Test("taking a client away moves the integer sum by no more than the noise is made for", arguments: 0..<40)
  func sensitivity(seed: Int) throws {
    var generator = SeededGenerator(seed: UInt64(seed))
    let count = Int.random(in: 1...3000, using: &generator)
    let cap = [1, 1, 3, 50][seed % 4]
    let norm = Foundation.exp(Double.random(in: -8...8, using: &generator))
    let grid = try NoiseGrid(
      clippingNorm: norm,
      noiseMultiplier: Double.random(in: 0.3...20, using: &generator),
      dimension: count
    )
    func makeSum() throws -> PrivateSum {
      try PrivateSum(
        layout: TensorLayout(of: zeros(count)),
        clippingLimit: grid.clippingLimit,
        step: grid.step,
        largestWeight: cap
      )
    }
    let sent = TensorSet(["b": try generator.tensor([count])])
    var base = try makeSum()
    for _ in 0..<3 {
      _ = try base.fold(TensorSet(["b": try generator.tensor([count])]), sent: sent, weight: cap)
    }
    // The bound that the noise is made for, in units of the grid.
    let bound = Double(cap) * norm / grid.step
    var largest = 0.0
    for kind in 0..<6 {
      var update = sent
      for index in 0..<count {
        // From far inside the ball to far outside it; some are all but halves of the grid, which rounding hurts most.
        let scale = [1e-3, 1, 30, 1e30, 0, 0.5 * grid.step * (1 + 1e-6)][kind]
        let sign: Float = Bool.random(using: &generator) ? 1 : -1
        let value = kind == 5 ? Float(scale) * sign : Float(scale * norm) * Float.random(in: -1...1, using: &generator)
        update["b"]?.values[index] += value
      }
      if kind == 4 { update["b"]?.values[0] += Float(2 * norm) }
      var other = base
      guard try other.fold(update, sent: sent, weight: cap) != nil else { continue }
      let moved = zip(other.sums, base.sums).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }.squareRoot()
      #expect(moved <= bound, "seed \(seed), kind \(kind)")
      largest = max(largest, moved / bound)
    }
    // The bound is met, not just kept.
    #expect(largest > 0.99, "seed \(seed): \(largest)")
  }

  @Test("an empty cohort is released with noise of exactly z·S over the divisor, also under capped weights")
  func moments() throws {
    let count = 40_000
    for (index, weighting) in [Weighting.uniform, .capped(25)].enumerated() {
      let terms = try makeTerms(weighting: weighting, seed: UInt64(index))
      let outcome = try release(terms, count: count).release(round: 1)
      let deviation = 1.3 * 0.7 / 4
      let scaled = outcome.differences.map { $0 / deviation }
      let n = Double(count)
      let mean = scaled.reduce(0, +) / n
      let variance = scaled.reduce(0) { $0 + $1 * $1 } / n
      let fourth = scaled.reduce(0) { $0 + $1 * $1 * $1 * $1 } / n
      // Five standard errors each: a false alarm has probability 6e-7.
      #expect(abs(mean) < 5 / n.squareRoot())
      #expect(abs(variance - 1) < 5 * (2 / n).squareRoot())
      #expect(abs(fourth - 3) < 5 * (96 / n).squareRoot())
      #expect(outcome.nextClippingNorm == 0.7)
      // Other rounds have other noise, the same round the same: these terms are seeded.
      #expect(try release(terms, count: count).release(round: 1) == outcome)
      #expect(try release(terms, count: count).release(round: 2).differences[0] != outcome.differences[0])
    }
  }

  @Test("noise of the system's generator never comes twice")
  func secretNoise() throws {
    let terms = try makeTerms(seed: nil)
    let first = try release(terms, count: 64).release(round: 1).differences
    let second = try release(terms, count: 64).release(round: 1).differences
    #expect(Set(first).isDisjoint(with: second))
  }

  @Test("the sum is divided by the public divisor and the largest weight, whoever reported")
  func divisor() throws {
    let terms = try makeTerms(clippingNorm: 1, noiseMultiplier: 0, epsilon: .infinity, weighting: .capped(10))
    var sum = try release(terms, count: 2)
    // Three of an expected four: of weight 10 (examples above the cap), 2, and unusable.
    try sum.fold(TensorSet(["b": try Tensor(shape: [2], values: [0.5, 0])]), sent: zeros(2), examples: 4000)
    try sum.fold(TensorSet(["b": try Tensor(shape: [2], values: [0, 0.25])]), sent: zeros(2), examples: 2)
    try sum.fold(TensorSet(["b": try Tensor(shape: [2], values: [.nan, 7])]), sent: zeros(2), examples: 2)
    #expect(sum.discardedCount == 1)
    let differences = sum.release(round: 1).differences
    #expect(abs(differences[0] - 0.5 * 10 / 40) < 1e-6 && abs(differences[1] - 0.25 * 2 / 40) < 1e-6)
  }

  @Test("update and bit together are one release of multiplier z")
  func split() throws {
    for (z, noise) in [(0.5, 0.3), (1, 10), (1.3, 0.6500001), (4, 2.5)] {
      let terms = try makeTerms(
        noiseMultiplier: z,
        epsilon: 1000,
        adaptive: .init(quantile: 0.5, learningRate: 0.2, noise: noise)
      )
      let update = terms.updateNoiseMultiplier
      let total = 1 / (update * update) + 1 / (4 * noise * noise)
      #expect(total <= 1 / (z * z) * (1 + 1e-15) && abs(total * z * z - 1) < 1e-9)
    }
    #expect(throws: PrivacyTermError.bitsTakeAll(noiseMultiplier: 2, quantileNoise: 1)) {
      try makeTerms(noiseMultiplier: 2, adaptive: .init(quantile: 0.5, learningRate: 0.2, noise: 1))
    }
  }

  @Test("the clipping norm finds the quantile of the norms from far above and below", arguments: [1e-3, 1e3])
  func quantile(start: Double) throws {
    var generator = SeededGenerator(seed: 17)
    let norms = (0..<60).map { _ in Foundation.exp(Double.random(in: -1.5...1.5, using: &generator)) }
    for target in [0.3, 0.5, 0.8] {
      let terms = try makeTerms(
        clippingNorm: start,
        noiseMultiplier: 0.5,
        divisor: 60,
        epsilon: 1e6,
        adaptive: .init(quantile: target, learningRate: 0.2, noise: 3)
      )
      var norm = start
      var shares: [Double] = []
      for round in 1...400 {
        var sum = try release(terms, count: 3, clippingNorm: norm)
        for (index, one) in norms.enumerated() {
          var update = zeros(3)
          update["b"]?.values[index % 3] = Float(one)
          try sum.fold(update, sent: zeros(3), examples: 1)
        }
        norm = sum.release(round: round).nextClippingNorm
        if round > 300 { shares.append(Double(norms.filter { $0 <= norm }.count) / 60) }
      }
      let mean = shares.reduce(0, +) / Double(shares.count)
      // A round's noise on the share is 3/60; over 100 rounds its mean is good to a few hundredths.
      #expect(abs(mean - target) < 0.04, "from \(start): \(mean) for \(target)")
    }
  }

  @Test("an unusable update gives no bit, and the norm stays within the grid's range")
  func bits() throws {
    let adaptive = ClientLevelPrivacy.AdaptiveClipping(quantile: 0.5, learningRate: 1, noise: 1e-3)
    let terms = try makeTerms(
      clippingNorm: 1,
      noiseMultiplier: 1e-3,
      divisor: 2,
      epsilon: .infinity,
      adaptive: adaptive
    )
    func next(_ values: [Float], norm: Double = 1) throws -> Double {
      var sum = try release(terms, count: 1, clippingNorm: norm)
      for value in values {
        try sum.fold(TensorSet(["b": try Tensor(shape: [1], values: [value])]), sent: zeros(1), examples: 1)
      }
      return sum.release(round: 1).nextClippingNorm
    }
    #expect(abs(try next([]) - 1) < 0.01)
    #expect(abs(try next([.nan, .infinity]) - 1) < 0.01)
    #expect(abs(try next([0.5, 0.5]) - Foundation.exp(-0.5)) < 0.01)
    #expect(abs(try next([2, 2]) - Foundation.exp(0.5)) < 0.01)
    #expect(abs(try next([0.5, 2]) - 1) < 0.01)
    let noisy = try makeTerms(
      clippingNorm: 1,
      divisor: 1e-9,
      adaptive: .init(quantile: 0.5, learningRate: 1, noise: 50)
    )
    let wild = try release(noisy, count: 1).release(round: 1).nextClippingNorm
    #expect(wild == 1e6 || wild == 1e-6)
  }
}

@Suite("The account of private releases")
struct ReleaseAccountTests {
  @Test("without sub-sampling it is the closed form, and the budget holds to the last release")
  func closedForm() throws {
    for relation in NeighbouringRelation.allCases {
      let terms = try makeTerms(relation: relation, noiseMultiplier: 3, epsilon: 4)
      let account = ReleaseAccount(terms: terms, coordinates: 1000)
      #expect(try account.spent(releases: 0).epsilon == 0)
      var fitting = 0
      for releases in 1...40 {
        let wanted = try GaussianDP(noiseMultiplier: 3 / relation.sumSensitivity, releases: releases).epsilon(
          delta: 1e-5
        )
        let spent = try account.spent(releases: releases)
        #expect(abs(spent.epsilon - wanted) < 1e-9 && spent.releases == releases && spent.relation == relation)
        #expect((try account.refusal(after: releases - 1) == nil) == (wanted <= 4))
        if wanted <= 4 { fitting = releases }
      }
      #expect((1..<40).contains(fitting))
    }
  }

  @Test("sampling lowers the cost, a fixed size is accounted for under replace-one, and no noise costs infinity")
  func sampling() throws {
    func epsilon(_ relation: NeighbouringRelation, _ sampling: ClientLevelPrivacy.Sampling, noise: Double = 1) throws
      -> Double
    {
      try ReleaseAccount(
        terms: makeTerms(
          relation: relation,
          sampling: sampling,
          population: 100,
          noiseMultiplier: noise,
          epsilon: .infinity
        ),
        coordinates: 10
      )
      .spent(releases: 20).epsilon
    }
    let full = try epsilon(.addOrRemoveOne, .poisson(rate: 1))
    let tenth = try epsilon(.addOrRemoveOne, .poisson(rate: 0.1))
    #expect(tenth < 0.4 * full)
    #expect(try epsilon(.replaceOne, .fixedSize(cohort: 10, rate: 0.1)) > tenth)
    #expect(
      try epsilon(.replaceOne, .fixedSize(cohort: 100, rate: 1)) >= epsilon(.replaceOne, .poisson(rate: 1))
        * (1 - 1e-12)
    )
    #expect(try epsilon(.addOrRemoveOne, .poisson(rate: 0.1), noise: 0) == .infinity)
    #expect(throws: PrivacyTermError.fixedSizeNeedsReplaceOne(.zeroOut)) {
      try epsilon(.zeroOut, .fixedSize(cohort: 10, rate: 0.1))
    }
  }
}
