import FedLoRADP
import Foundation
import Testing

@Suite("Sampling")
struct SamplingTests {
  private static let root = SecretRandomness.seeded(77, context: ["sampling"])

  @Test(
    "The threshold is the rate in 64 bits, never above it: ⌊q·2⁶⁴⌋ by Python's exact fractions",
    arguments: [
      (1e-7, 1_844_674_407_370), (1.0 / 88, 209_622_091_746_699_456), (0.1, 1_844_674_407_370_955_264), (0.5, 1 << 63),
      (1e-3, 18_446_744_073_709_552), (0x1p-64, 1), (0x1.8p-64, 1), (0x1p-65, 0), (1.0.nextDown, UInt64.max - 2047),
    ] as [(Double, UInt64)]
  )
  func threshold(rate: Double, expected: UInt64) throws {
    #expect(try PoissonSampler(rate: rate).threshold == expected)
  }

  @Test("Rate 1 takes every example and rates outside (0, 1] are refused")
  func extremes() throws {
    var stream = Self.root.stream("sampling", step: 0)
    #expect(try PoissonSampler(rate: 1).draw(count: 5, from: &stream) == [0, 1, 2, 3, 4])
    #expect(try PoissonSampler(rate: 0.5).draw(count: 0, from: &stream).isEmpty)
    for rate in [0, -0.1, 1.0.nextUp, .nan, .infinity] {
      #expect(throws: PrivacyParameterError.self) { try PoissonSampler(rate: rate) }
    }
  }

  @Test("At a rate of 10⁻⁷ 40 million examples give about four (fails by chance below 1e-5)")
  func rare() throws {
    let sampler = try PoissonSampler(rate: 1e-7)
    var stream = Self.root.stream("sampling", step: 1)
    let drawn = sampler.draw(count: 40_000_000, from: &stream)
    #expect(drawn.count <= 16)
    // With 39 more steps of four million the mean is 19.6.
    var total = drawn.count
    for step in 2..<41 {
      var stream = Self.root.stream("sampling", step: step)
      total += sampler.draw(count: 4_000_000, from: &stream).count
    }
    #expect(abs(Double(total) - 19.6) < 5 * 19.6.squareRoot())
  }

  /// 60 examples over 20,000 steps at q = 0.3. Each χ² exceeds its limit by chance with probability 3e-7.
  @Test("Examples are drawn equally often, and independently of one another and of the step before")
  func independence() throws {
    let sampler = try PoissonSampler(rate: 0.3)
    let examples = 60
    let steps = 20_000
    var single = [Int](repeating: 0, count: examples)
    var pairs = [Int](repeating: 0, count: examples * examples)
    var repeated = [Int](repeating: 0, count: examples)
    var sizes = [Int](repeating: 0, count: examples + 1)
    var previous = Set<Int>()
    for step in 0..<steps {
      var stream = Self.root.stream("sampling", step: 100 + step)
      let drawn = sampler.draw(count: examples, from: &stream)
      #expect(drawn == drawn.sorted())
      sizes[drawn.count] += 1
      for first in drawn {
        single[first] += 1
        if previous.contains(first) { repeated[first] += 1 }
        for second in drawn where second > first { pairs[first * examples + second] += 1 }
      }
      previous = Set(drawn)
    }
    func check(_ observed: [Int], probability: Double, trials: Int, _ what: String) {
      let mean = Double(trials) * probability
      let statistic = observed.reduce(0) { $0 + pow(Double($1) - mean, 2) / (mean * (1 - probability)) }
      #expect(statistic < ChiSquare.limit(degrees: observed.count), "\(what)")
      // Too even is as wrong as too uneven.
      #expect(statistic > Double(observed.count) - 5 * (2 * Double(observed.count)).squareRoot(), "\(what)")
    }
    check(single, probability: 0.3, trials: steps, "inclusion")
    check(repeated, probability: 0.09, trials: steps - 1, "two steps in a row")
    // Pairs that share an example are dependent, which widens the statistic; disjoint pairs are not.
    let disjoint = stride(from: 0, to: examples, by: 2).map { pairs[$0 * examples + $0 + 1] }
    check(disjoint, probability: 0.09, trials: steps, "pairs")
    // The batch size is binomial.
    var expected = [Double]()
    var observed = [Int]()
    for size in 8...28 {
      let log =
        lgamma(61.0) - lgamma(Double(size) + 1) - lgamma(Double(60 - size) + 1) + Double(size) * Foundation.log(0.3)
      expected.append(Double(steps) * exp(log + Double(60 - size) * Foundation.log(0.7)))
      observed.append(sizes[size])
    }
    #expect(ChiSquare.statistic(observed: observed, expected: expected) < ChiSquare.limit(degrees: 21))
  }

  @Test("Every subset of a fixed size is equally likely", arguments: [(2, 6), (3, 6), (4, 6), (1, 5), (5, 6)])
  func subsets(size: Int, count: Int) throws {
    let sampler = try FixedSizeSampler(size: size, count: count)
    var seen = [[Int]: Int]()
    var stream = Self.root.stream("subsets", step: size, part: count)
    let draws = 30_000
    for _ in 0..<draws {
      let drawn = sampler.draw(from: &stream)
      #expect(drawn.count == size && drawn == Set(drawn).sorted())
      seen[drawn, default: 0] += 1
    }
    let subsets = (0..<size).reduce(1) { $0 * (count - $1) / ($1 + 1) }
    #expect(seen.count == subsets)
    let expected = [Double](repeating: Double(draws) / Double(subsets), count: subsets)
    #expect(
      ChiSquare.statistic(observed: Array(seen.values), expected: expected) < ChiSquare.limit(degrees: subsets - 1)
    )
  }

  @Test("A fixed size of all takes all, its rate is never below m/n, and impossible sizes are refused")
  func fixedExtremes() throws {
    var stream = Self.root.stream("all", step: 0)
    #expect(try FixedSizeSampler(size: 4, count: 4).draw(from: &stream) == [0, 1, 2, 3])
    #expect(try FixedSizeSampler(size: 4, count: 4).rate == 1)
    #expect(try FixedSizeSampler(size: 1, count: 3).rate > 1.0 / 3)
    for (size, count) in [(0, 3), (4, 3), (-1, 3), (1, 0)] {
      #expect(throws: PrivacyParameterError.self) { try FixedSizeSampler(size: size, count: count) }
    }
    let large = try FixedSizeSampler(size: 1000, count: 1_000_000).draw(from: &stream)
    #expect(Set(large).count == 1000)
    #expect(large.allSatisfy { (0..<1_000_000).contains($0) })
  }
}
