import FedLoRADP
import Foundation
import Testing

private typealias Effort = RoundedGaussian.Effort

private func draws(_ count: Int, exponent: Int, seed: UInt64, effort: RoundedGaussian.Effort = .asNeeded) -> [Int64] {
  var values = [Int64](repeating: 0, count: count)
  var stream = SecretRandomness.seeded(seed).stream("test", step: 0)
  values.withUnsafeMutableBufferPointer { buffer in
    if let base = buffer.baseAddress {
      RoundedGaussian.add(to: base, count: count, exponent: exponent, stream: &stream, effort: effort)
    }
  }
  return values
}

@Suite("Rounded Gaussian")
struct RoundedGaussianTests {
  /// Tolerances of five standard deviations of each moment: each fails by chance with probability 6e-7.
  @Test("Moments of four million draws are the normal's", arguments: [(22, 1), (30, 2), (35, 3)])
  func moments(exponent: Int, seed: UInt64) {
    let count = 4_000_000
    let n = Double(count)
    var sums = (0.0, 0.0, 0.0, 0.0)
    for value in draws(count, exponent: exponent, seed: seed) {
      let z = scalbn(Double(value) + 0.5, -exponent)
      sums = (sums.0 + z, sums.1 + z * z, sums.2 + z * z * z, sums.3 + z * z * z * z)
    }
    #expect(abs(sums.0 / n) < 5 / n.squareRoot())
    #expect(abs(sums.1 / n - 1) < 5 * (2 / n).squareRoot())
    #expect(abs(sums.2 / n) < 5 * (15 / n).squareRoot())
    #expect(abs(sums.3 / n - 3) < 5 * (96 / n).squareRoot())
  }

  /// The Kolmogorov–Smirnov statistic √n·D exceeds 2.7 by chance with probability 2·exp(−2·2.7²) = 1e-6.
  @Test("Two million draws follow the normal distribution function", arguments: [22, 23, 35])
  func kolmogorovSmirnov(exponent: Int) {
    let values = draws(2_000_000, exponent: exponent, seed: UInt64(100 + exponent)).sorted()
    let n = Double(values.count)
    var distance = 0.0
    for (index, value) in values.enumerated() {
      let below = ChiSquare.normal(below: scalbn(Double(value), -exponent))
      distance = max(distance, below - Double(index) / n, Double(index + 1) / n - below)
    }
    #expect(distance * n.squareRoot() < 2.7)
  }

  /// χ² against Φ((k + 1)/2ᵐ) − Φ(k/2ᵐ); at m = 6 the bins are a quarter of a proposal's cell, so that both the table of cells
  /// and the acceptance inside a cell must be right.
  @Test(
    "The probability of every integer is the normal's, whichever way a draw is decided",
    arguments: [2, 4, 6],
    RoundedGaussian.Effort.allCases
  )
  func probabilities(exponent: Int, effort: RoundedGaussian.Effort) {
    let count = effort == .asNeeded ? 10_000_000 : 3_000_000
    let seed = UInt64(200 + exponent + 10 * effort.rawValue)
    let values = draws(count, exponent: exponent, seed: seed, effort: effort)
    let most = Int64(4 << exponent)
    let edges = Array(-most...most)
    let limits = [-Double.infinity] + edges.map { scalbn(Double($0), -exponent) } + [.infinity]
    let expected = zip(limits, limits.dropFirst()).map {
      // From the nearer tail, where the difference of two numbers near 1 would lose digits.
      Double(count)
        * ($0 > 0
          ? ChiSquare.normal(below: -$0) - ChiSquare.normal(below: -$1)
          : ChiSquare.normal(below: $1) - ChiSquare.normal(below: $0))
    }
    let statistic = ChiSquare.statistic(observed: ChiSquare.histogram(values, edges: edges), expected: expected)
    #expect(statistic < ChiSquare.limit(degrees: expected.count - 1))
  }

  @Test(
    "The digits below a cell are uniform: low bits of draws at the finest grid are fair (fails by chance below 1e-4)"
  )
  func lowBits() {
    let values = draws(1_000_000, exponent: 35, seed: 300)
    for bit in 0..<28 {
      let ones = values.count { $0 >> bit & 1 == 1 }
      #expect(abs(Double(ones) - 500_000) < 5 * 500, "bit \(bit)")
    }
  }

  @Test("A coarser grid is the finer grid's draw rounded down, to the sign alone")
  func nested() {
    let fine = draws(20_000, exponent: 35, seed: 7)
    for exponent in [34, 22, 10, 0, -3, -5, -29, -400] {
      let coarse = draws(20_000, exponent: exponent, seed: 7)
      #expect(coarse == fine.map { $0 >> min(Int64(35 - exponent), 63) }, "exponent \(exponent)")
    }
    #expect(Set(draws(1000, exponent: -100, seed: 8)) == [0, -1])
  }

  @Test("What is added does not depend on what it is added to, not even where sums wrap around")
  func additive() {
    let noise = draws(5000, exponent: 30, seed: 17)
    for base in [Int64(12345), .max, .min, -1] {
      var sums = [Int64](repeating: base, count: 5000)
      var stream = SecretRandomness.seeded(17).stream("test", step: 0)
      sums.withUnsafeMutableBufferPointer {
        if let start = $0.baseAddress { RoundedGaussian.add(to: start, count: 5000, exponent: 30, stream: &stream) }
      }
      #expect(sums == noise.map { base &+ $0 })
    }
  }
}

@Suite("Decisions of the rounded Gaussian")
struct GaussianDecisionTests {
  struct Decision {
    let cell: Int
    let fraction: UInt128
    let level: UInt128
    let isKept: Bool
  }

  static func decisions() throws -> [Decision] {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
      "Fixtures/acceptance.csv"
    )
    return try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map { line in
      let fields = line.split(separator: ",")
      return Decision(
        cell: try #require(Int(fields[0])),
        fraction: try #require(UInt128(fields[1], radix: 16)),
        level: try #require(UInt128(fields[2], radix: 16)),
        isKept: fields[3] == "keep"
      )
    }
  }

  @Test("128 digits decide as 600-bit arithmetic does, from 141 units in the last place of exp(−t) on")
  func edges() throws {
    let decisions = try Self.decisions()
    #expect(decisions.count > 400)
    for decision in decisions {
      let found = AcceptanceTest.keeps(
        cell: UInt128(decision.cell),
        fraction: decision.fraction,
        level: decision.level
      )
      #expect(found == decision.isKept, "\(decision)")
    }
  }

  @Test("64 digits leave open what they cannot know, and are never wrong")
  func shorter() throws {
    var open = 0
    for decision in try Self.decisions() {
      let found = AcceptanceTest.keeps(
        cell: UInt64(decision.cell),
        fraction: UInt64(decision.fraction >> 64),
        level: UInt64(decision.level >> 64)
      )
      if let found { #expect(found == decision.isKept, "\(decision)") } else { open += 1 }
    }
    // Two distances of five, 2²⁰ and 140 units of 2⁻¹²⁸, are far below a unit of 2⁻⁶⁴; 2⁶⁶ is below the margin.
    #expect(open >= 250)
  }

  @Test("At the edge itself 128 digits admit that they do not know")
  func undecided() {
    // exp(−0) = 1: u just below 1 with f just above 0.
    #expect(AcceptanceTest.keeps(cell: UInt128(100), fraction: 0, level: .max) == nil)
    #expect(AcceptanceTest.keeps(cell: UInt64(100), fraction: 0, level: .max) == nil)
    #expect(AcceptanceTest.keeps(cell: UInt128(209), fraction: .max, level: 0) == true)
    #expect(AcceptanceTest.keeps(cell: UInt128(209), fraction: .max, level: .max) == false)
  }

  @Test("The table's cells have the weights of the density at their left edges")
  func table() {
    let weights = (0..<NormalCellTable.cells).map { exp(-pow(Double($0) / 16, 2) / 2) }
    let total = weights.reduce(0, +)
    var running = 0.0
    for (index, weight) in weights.dropLast().enumerated() {
      running += weight / total
      #expect(abs(scalbn(Double(RoundedGaussian.bound(index)), -128) - running) < 1e-14, "cell \(index)")
    }
    // Beyond the table lies less than 2⁻¹²⁸ of a normal.
    #expect(erfc(Double(NormalCellTable.cells) / 16 / 2.0.squareRoot()) < 0x1p-128)
    // Deep in the tail the weights still have their ratio, to the 38 digits that 128 bits hold of all.
    let far = Double(RoundedGaussian.bound(161) - RoundedGaussian.bound(160)) / 0x1p128
    #expect(abs(far / (weights[161] / total) - 1) < 1e-12)
  }

  @Test("A uniform finds its cell at both ends of every cell")
  func cells() {
    #expect(RoundedGaussian.cell(at: 0) == 0)
    #expect(RoundedGaussian.cell(at: .max) == NormalCellTable.cells - 1)
    for index in 0..<(NormalCellTable.cells - 1) {
      #expect(RoundedGaussian.cell(at: RoundedGaussian.bound(index) - 1) == index)
      #expect(RoundedGaussian.cell(at: RoundedGaussian.bound(index)) == index + 1)
    }
  }
}
