import FedLoRADP
import Foundation
import Testing

@Suite("Noise grid")
struct NoiseGridTests {
  @Test(
    "The noise is a power of two of units and C is 2²² to 2²³ of them",
    arguments: [1e-9, 0.3, 0.5, 0.7, 1, 1.9, 8, 8192]
  )
  func scale(sigma: Double) throws {
    let grid = try NoiseGrid(clippingNorm: 0.37, noiseMultiplier: sigma, dimension: 10)
    let exponent = try #require(grid.noiseExponent)
    #expect(abs(scalbn(grid.step, exponent) / (sigma * 0.37) - 1) < 1e-15)
    let norm = 0.37 / grid.step
    #expect(norm > 0x1p22 * (1 - 1e-15))
    #expect(norm < 0x1p23)
    #expect(grid.clippingLimit < 0.37)
    #expect(grid.clippingLimit > 0.37 * (1 - 2e-6))
  }

  @Test("Noise beyond 8192 C has a coarser grid rather than none")
  func largeNoise() throws {
    let grid = try NoiseGrid(clippingNorm: 2, noiseMultiplier: 1e6, dimension: 1000)
    #expect(grid.noiseExponent == 35)
    #expect(abs(scalbn(grid.step, 35) / 2e6 - 1) < 1e-15)
    #expect(grid.clippingLimit > 1.99)
  }

  @Test("Without noise nothing is added and values have no offset")
  func noNoise() throws {
    let grid = try NoiseGrid(clippingNorm: 3, noiseMultiplier: 0, dimension: 3)
    var sums: [Int64] = [1, -2, 1 << 22]
    grid.release(&sums, randomness: .seeded(1), step: 0)
    #expect(sums == [1, -2, 1 << 22])
    #expect(grid.noiseExponent == nil)
    #expect(grid.values(sums)[2] == 3)
  }

  @Test(
    "Parameters that leave no grid are refused with the value and what was expected",
    arguments: [
      (0, 1, 10, "clipping norm"), (-1, 1, 10, "clipping norm"), (.nan, 1, 10, "clipping norm"),
      (.infinity, 1, 10, "clipping norm"), (1, -0.1, 10, "noise multiplier"), (1, .nan, 10, "noise multiplier"),
      (1, .infinity, 10, "noise multiplier"), (1, 1, 0, "coordinates"), (1, 1, -5, "coordinates"),
      (1, 1, 1 << 46, "coordinates"), (1, 1, Int.max, "coordinates"), (1e-305, 1, 10, "product"),
      (1e300, 1e300, 10, "product"), (1, 1e300, 10, "coordinates"),
    ] as [(Double, Double, Int, String)]
  )
  func refusals(clippingNorm: Double, sigma: Double, dimension: Int, named: String) {
    let error = #expect(throws: PrivacyParameterError.self) {
      try NoiseGrid(clippingNorm: clippingNorm, noiseMultiplier: sigma, dimension: dimension)
    }
    #expect(error.map { "\($0)".contains(named) } == true, "\(String(describing: error))")
  }

  @Test("Noise too small to hide anything still has its grid", arguments: [1e-300, 0x1p-1060, 0x1p-1074])
  func tinyNoise(sigma: Double) throws {
    let grid = try NoiseGrid(clippingNorm: 1e-250, noiseMultiplier: sigma, dimension: 3)
    #expect(grid.step > 1e-250 * 0x1p-23 * (1 - 1e-15))
    #expect(grid.step < 1e-250 * 0x1p-22 * (1 + 1e-15))
    var sums: [Int64] = [0, 0, 0]
    grid.release(&sums, randomness: .seeded(1), step: 0)
    #expect(sums.allSatisfy { $0 == 0 || $0 == -1 })
  }

  @Test("The largest dimension that fits still clips to something above 0")
  func largestDimension() throws {
    #expect(try NoiseGrid(clippingNorm: 1, noiseMultiplier: 1, dimension: 1 << 46 - 1 << 30).clippingLimit > 0)
  }

  // MARK: Clipping

  /// What a caller does, in single precision: scale to the limit, divide by the step, round.
  private static func rounded(_ vector: [Float], limit: Double, grid: NoiseGrid) -> [Int64] {
    let norm = vector.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
    let factor = Float(min(1, limit / norm) / grid.step)
    return vector.map { Int64(($0 * factor).rounded(.toNearestOrAwayFromZero)) }
  }

  /// Vectors whose coordinates lie half-way between grid points, where rounding adds most, and others.
  private static func adversaries(_ grid: NoiseGrid) -> [[Float]] {
    let d = grid.dimension
    let share = grid.clippingLimit / Double(d).squareRoot() / grid.step
    // The largest half-integers below and above the even share, and a hair more than a half.
    let half = max(0.5, (share - 0.5).rounded(.down) + 0.5)
    var generator = SplitMix(state: UInt64(d))
    var result: [[Float]] = [
      [Float](repeating: Float(half * grid.step), count: d),
      [Float](repeating: Float((half * grid.step).nextUp * (1 + 1e-7)), count: d),
      [Float](repeating: Float(share * grid.step), count: d),
      [Float(grid.clippingLimit)] + [Float](repeating: 0, count: d - 1),
      (0..<d).map { Float(half * grid.step) * ($0 % 2 == 0 ? 1 : -1) },
    ]
    // A spike, and as many coordinates at one half as the rest of the norm allows.
    let spike = grid.clippingLimit * 0.9
    let halves = min(d - 1, Int((pow(grid.clippingLimit, 2) - spike * spike) / pow(grid.step / 2, 2)))
    result.append(
      [Float(spike)] + [Float](repeating: Float(grid.step / 2), count: halves)
        + [Float](repeating: 0, count: d - 1 - halves)
    )
    for scale in [0.5, 1, 1e6] {
      result.append((0..<d).map { _ in Float(scale * grid.clippingLimit * (generator.uniform() - 0.5)) })
    }
    return result
  }

  @Test(
    "A vector clipped to the limit and rounded never exceeds C, however its coordinates lie",
    arguments: [1, 2, 3, 100, 65_536, 1_000_000],
    [(1.0, 1.0), (0.37, 0.61), (1e-3, 1.99), (1e4, 1e6), (2.5, 0)]
  )
  func clipping(dimension: Int, parameters: (Double, Double)) throws {
    let grid = try NoiseGrid(clippingNorm: parameters.0, noiseMultiplier: parameters.1, dimension: dimension)
    let most = grid.noiseExponent.map { scalbn(1, $0) / parameters.1 } ?? 0x1p22
    for (index, vector) in Self.adversaries(grid).enumerated() {
      let integers = Self.rounded(vector, limit: grid.clippingLimit, grid: grid)
      let square = integers.reduce(Int64(0)) { $0 + $1 * $1 }
      // Squares below 2⁴⁶·(1 + small) are exact as doubles.
      #expect(Double(square) <= (most * most).nextDown, "vector \(index)")
    }
  }

  @Test("Clipping to C itself would not do: half-way coordinates then exceed it")
  func clippingToNormIsNotEnough() throws {
    let grid = try NoiseGrid(clippingNorm: 1, noiseMultiplier: 1, dimension: 1_000_000)
    let vector = [Float](repeating: Float(4194.5 * grid.step), count: grid.dimension)
    let integers = Self.rounded(vector, limit: 1.001, grid: grid)
    #expect(integers.reduce(Int64(0)) { $0 + $1 * $1 } > 1 << 44)
    let clipped = Self.rounded(vector, limit: grid.clippingLimit, grid: grid)
    #expect(clipped.reduce(Int64(0)) { $0 + $1 * $1 } <= 1 << 44)
  }

  // MARK: Release

  @Test("Values lie on the grid, half a unit off, and their mean and deviation are the mechanism's")
  func lattice() throws {
    let count = 1_000_000
    let grid = try NoiseGrid(clippingNorm: 0.8, noiseMultiplier: 1.3, dimension: count)
    var sums = [Int64](repeating: 1000, count: count)
    grid.release(&sums, randomness: .seeded(5), step: 3)
    let values = grid.values(sums)
    #expect(zip(values, sums).allSatisfy { (($0 / grid.step - 0.5) - Double($1)).magnitude < 1e-6 })
    let mean = values.reduce(0, +) / Double(count) - 1000 * grid.step
    let deviation = 0.8 * 1.3
    #expect(abs(mean) < 5 * deviation / 1000)
    let variance = values.reduce(0) { $0 + ($1 - 1000 * grid.step) * ($1 - 1000 * grid.step) } / Double(count)
    #expect(abs(variance / (deviation * deviation) - 1) < 5 * (2.0 / Double(count)).squareRoot())
  }

  @Test(
    "The number of threads changes no byte, nor does the data change the noise",
    arguments: [1, 32_767, 32_768, 150_001]
  )
  func threads(dimension: Int) throws {
    let grid = try NoiseGrid(clippingNorm: 1, noiseMultiplier: 1, dimension: dimension)
    var reference = [Int64](repeating: 0, count: dimension)
    grid.release(&reference, randomness: .seeded(6), step: 1)
    for threads in [2, 3, 8, 100] {
      var sums = (0..<dimension).map { Int64($0) * 7 - 3 }
      grid.release(&sums, randomness: .seeded(6), step: 1, threads: threads)
      #expect(zip(sums.indices, sums).map { $1 - Int64($0) * 7 + 3 } == reference)
    }
  }

  /// The correlation of n independent normals exceeds 5/√n by chance with probability 6e-7.
  @Test("Noise of other clients, rounds, steps and blocks is uncorrelated, and shares no run of values")
  func independence() throws {
    let block = NoiseGrid.blockSize
    let grid = try NoiseGrid(clippingNorm: 1, noiseMultiplier: 1, dimension: 3 * block)
    var vectors = [[Double]]()
    var starts = Set<[Int64]>()
    for client in ["a", "b", "c"] {
      for round in ["1", "2"] {
        for step in 0..<2 {
          var sums = [Int64](repeating: 0, count: grid.dimension)
          grid.release(&sums, randomness: .seeded(1, context: [client, round]), step: step)
          for part in 0..<3 {
            let slice = sums[part * block..<(part + 1) * block]
            starts.insert(Array(slice.prefix(2)))
            vectors.append(slice.map { Double($0) / 0x1p22 })
          }
        }
      }
    }
    #expect(starts.count == vectors.count)
    let n = Double(block)
    for first in vectors.indices {
      for second in 0..<first {
        let dot = zip(vectors[first], vectors[second]).reduce(0) { $0 + $1.0 * $1.1 }
        #expect(abs(dot / n) < 5 / n.squareRoot(), "vectors \(first) and \(second)")
      }
      // Neighbours within one vector.
      let lagged = zip(vectors[first], vectors[first].dropFirst()).reduce(0) { $0 + $1.0 * $1.1 }
      #expect(abs(lagged / n) < 5 / n.squareRoot(), "vector \(first)")
    }
  }

  @Test("Two releases from the system's generator differ everywhere but by chance")
  func fresh() throws {
    let grid = try NoiseGrid(clippingNorm: 1, noiseMultiplier: 1, dimension: 1000)
    var first = [Int64](repeating: 0, count: 1000)
    var second = first
    grid.release(&first, randomness: .system(), step: 0)
    grid.release(&second, randomness: .system(), step: 0)
    #expect(zip(first, second).count { $0 == $1 } < 5)
  }

  @Test("What finite digits cost in δ is negligible for any training, and counts coordinates and steps")
  func deltaCost() {
    let cost = NoiseGrid.deltaCost(coordinates: 10_000_000, steps: 1_000_000, epsilon: 10)
    #expect(cost < 1e-15)
    #expect(abs(NoiseGrid.deltaCost(coordinates: 20_000_000, steps: 1_000_000, epsilon: 10) / cost - 2) < 1e-12)
    #expect(NoiseGrid.deltaCost(coordinates: 1, steps: 1, epsilon: 1000) == 1)
    #expect(NoiseGrid.deltaCost(coordinates: 0, steps: 1, epsilon: 1) == 0)
  }
}

/// Reproducible uniforms for adversarial vectors.
private struct SplitMix {
  var state: UInt64
  mutating func uniform() -> Double {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return Double((z ^ z >> 31) >> 11) * 0x1p-53
  }
}
