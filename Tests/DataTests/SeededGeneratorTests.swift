import FedLoRAEngine
import Testing

@Suite("Seeded draws are the same everywhere and follow their distributions")
struct SeededGeneratorTests {
  @Test("the stream is xoshiro256** filled by SplitMix64")
  func knownValues() {
    // Values of the reference C code for seed 0: SplitMix64 starts with e220a8397b1dcdaf.
    var generator = SeededGenerator(seed: 0)
    #expect(
      (0..<3).map { _ in generator.next() } == [0x99EC_5F36_CB75_F2B4, 0xBF6E_1F78_4956_452A, 0x1A5F_849D_4933_E6E0]
    )
  }

  @Test("derived seeds differ by kind, order and borders of their parts, and never change")
  func derivation() {
    let seeds: [UInt64] = [
      SeededGenerator.derive(1), SeededGenerator.derive(2), SeededGenerator.derive(1, "a"),
      SeededGenerator.derive(1, "b"),
      SeededGenerator.derive(1, "a", "b"), SeededGenerator.derive(1, "b", "a"), SeededGenerator.derive(1, "ab"),
      SeededGenerator.derive(1, ""), SeededGenerator.derive(1, 0), SeededGenerator.derive(1, 97),
      SeededGenerator.derive(1, "client", 3), SeededGenerator.derive(1, "client3"),
      SeededGenerator.derive(1, "12345678"),
      SeededGenerator.derive(1, "12345678", ""), SeededGenerator.derive(1, "\u{e9}"),
      SeededGenerator.derive(1, "e\u{301}"),
    ]
    #expect(Set(seeds).count == seeds.count)
    #expect(SeededGenerator.derive(42, "client-01", 7) == SeededGenerator.derive(42, "client-01", 7))
    #expect(SeededGenerator.derive(42, "client-01", 7) == 0x5150_CC24_E1BC_92D0)
  }

  @Test("bounded draws are uniform", arguments: [2, 3, 7, 100])
  func bounded(bound: Int) {
    var generator = SeededGenerator(seed: 5, .number(UInt64(bound)))
    var counts = [Int](repeating: 0, count: bound)
    for _ in 0..<bound * 2000 { counts[generator.draw(below: bound)] += 1 }
    for count in counts { #expect(abs(count - 2000) < 225) }
  }

  @Test("uniforms stay below one, normals have mean 0 and variance 1")
  func moments() {
    var generator = SeededGenerator(seed: 8)
    let floats = (0..<50_000).map { _ in generator.uniformFloat() }
    #expect(floats.allSatisfy { $0 >= 0 && $0 < 1 })
    #expect(abs(floats.reduce(0, +) / 50_000 - 0.5) < 0.01)
    let normals = (0..<50_000).map { _ in generator.normal() }
    #expect(abs(normals.reduce(0, +) / 50_000) < 0.02)
    #expect(abs(normals.map { $0 * $0 }.reduce(0, +) / 50_000 - 1) < 0.03)
  }

  @Test("gammas have mean and variance of their shape", arguments: [0.2, 1.0, 4.5])
  func gammas(shape: Double) {
    var generator = SeededGenerator(seed: 9)
    let draws = (0..<60_000).map { _ in generator.gamma(shape: shape) }
    let mean = draws.reduce(0, +) / 60_000
    let variance = draws.map { ($0 - mean) * ($0 - mean) }.reduce(0, +) / 60_000
    #expect(abs(mean - shape) < 0.04 * shape + 0.01)
    #expect(abs(variance - shape) < 0.08 * shape + 0.02)
  }

  @Test("Dirichlet proportions add up to one even where alpha is tiny", arguments: [1e-4, 0.01, 1, 100])
  func dirichlet(alpha: Double) {
    var generator = SeededGenerator(seed: 10)
    for _ in 0..<200 {
      let shares = generator.dirichlet(alpha: alpha, count: 7)
      #expect(abs(shares.reduce(0, +) - 1) < 1e-9 && shares.allSatisfy { $0 >= 0 && $0.isFinite })
    }
  }

  @Test("permutations hold every number once and reach every order")
  func permutations() {
    var generator = SeededGenerator(seed: 11)
    var seen: Set<[Int]> = []
    for _ in 0..<400 {
      let order = generator.permutation(4)
      #expect(order.sorted() == [0, 1, 2, 3])
      seen.insert(order)
    }
    #expect(seen.count == 24)
    #expect(generator.permutation(0).isEmpty)
  }
}

@Suite("Batches go through shuffled epochs without dropping or repeating")
struct BatchSamplerTests {
  @Test("every epoch holds every example once", arguments: [(10, 3), (7, 7), (5, 8), (1, 4), (32, 1)])
  func epochs(count: Int, batchSize: Int) {
    for seed in UInt64(0)..<10 {
      var sampler = BatchSampler(count: count, batchSize: batchSize, seed: seed)
      let stream = (0..<count * 3).flatMap { _ in sampler.next() }
      for epoch in 0..<3 * batchSize {
        #expect(stream[epoch * count..<(epoch + 1) * count].sorted() == Array(0..<count), "seed \(seed)")
      }
      if count > 6 { #expect(stream[..<count] != stream[count..<2 * count], "seed \(seed)") }
    }
  }

  @Test("a sampler that starts at a step goes on as one that came there")
  func resuming() {
    var whole = BatchSampler(count: 23, batchSize: 5, seed: 3)
    for step in 0..<30 {
      var resumed = BatchSampler(count: 23, batchSize: 5, seed: 3, step: step)
      #expect(resumed.next() == whole.next())
      #expect(resumed == whole)
    }
  }
}
