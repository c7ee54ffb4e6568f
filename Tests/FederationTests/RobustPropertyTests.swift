import FedLoRACheckpoint
import FedLoRAFederation
import Foundation
import Synchronization
import Testing

/// What holds of a rule whatever the updates are.
@Suite("Robust rules")
struct RobustPropertyTests {
  static let kinds: [RobustRule.Kind] = [
    .normBound(.stated(0.7)), .normBound(.medianTimes(1)), .median, .trimmedMean(fraction: 0),
    .trimmedMean(fraction: 0.3),
    .krum, .multiKrum(keep: 0), .multiKrum(keep: 2), .geometricMedian(smoothing: 1e-6, iterations: 200),
  ]

  private func set(_ values: [Float]) throws -> TensorSet {
    let cut = values.count / 3
    return TensorSet([
      "m.lora_A.weight": try Tensor(shape: [cut], values: Array(values.prefix(cut))),
      "m.lora_B.weight": try Tensor(shape: [values.count - cut, 1], values: Array(values.dropFirst(cut))),
    ])
  }

  private func values(_ tensors: TensorSet) -> [Float] { tensors.entries.flatMap(\.tensor.values) }

  private func row(_ index: Int, _ values: [Float]) -> UpdateRow {
    UpdateRow(name: "c\(index)", count: values.count) { range, target in
      _ = target.update(fromContentsOf: values[range])
    }
  }

  private func random(_ count: Int, _ generator: inout SeededGenerator, scale: Double = 1) -> [Float] {
    (0..<count).map { _ in Float(scale * generator.signedUnit()) }
  }

  private func combine(
    _ kind: RobustRule.Kind,
    _ byzantine: Int,
    _ updates: [[Float]],
    start: [Float],
    chunks: Int? = nil
  ) throws -> [Float] {
    let rows = updates.enumerated().map { row($0, $1) }
    let rule = try RobustRule(kind, byzantine: byzantine)
    return values(try rule.combine(rows, start: set(start), chunksPerBlock: chunks).tensors)
  }

  private func distance(_ x: [Float], _ y: [Float]) -> Double {
    zip(x, y).reduce(0.0) { $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1)) }.squareRoot()
  }

  @Test("do not depend on the order of arrival, in any bit", arguments: kinds)
  func order(kind: RobustRule.Kind) throws {
    for seed in 1...10 as ClosedRange<UInt64> {
      var generator = SeededGenerator(seed: seed)
      let start = try set(random(700, &generator))
      var rows = (0..<9).map { row($0, random(700, &generator, scale: $0 == 4 ? 1e6 : 1)) }
      // Two alike, so that ties occur.
      rows[7] = row(7, values(start))
      rows[8] = row(8, values(start))
      let rule = try RobustRule(kind, byzantine: 2)
      let expected = try rule.combine(rows, start: start)
      for _ in 0..<4 {
        rows.shuffle(using: &generator)
        #expect(try rule.combine(rows, start: start) == expected, "seed \(seed)")
      }
    }
  }

  @Test("do not depend on how many coordinates are looked at together, in any bit", arguments: kinds)
  func blocks(kind: RobustRule.Kind) throws {
    var generator = SeededGenerator(seed: 11)
    for width in [3, 255, 256, 257, 1500] {
      let start = random(width, &generator)
      let updates = (0..<7).map { _ in random(width, &generator) }
      let whole = try combine(kind, 2, updates, start: start, chunks: 64)
      for chunks in [1, 2, 5] {
        #expect(try combine(kind, 2, updates, start: start, chunks: chunks) == whole, "width \(width)")
      }
      #expect(try combine(kind, 2, updates, start: start) == whole, "width \(width)")
    }
  }

  @Test("give back what all updates are, if they are alike", arguments: kinds)
  func identical(kind: RobustRule.Kind) throws {
    var generator = SeededGenerator(seed: 5)
    for count in 7...12 {
      let (start, update) = (random(300, &generator, scale: 0.01), random(300, &generator, scale: 0.01))
      #expect(try combine(kind, 2, Array(repeating: update, count: count), start: start) == update, "\(count) updates")
    }
  }

  @Test(
    "keep each coordinate within the range of the honest ones, whatever f others send",
    arguments: [RobustRule.Kind.median, .trimmedMean(fraction: 0), .trimmedMean(fraction: 0.4)]
  )
  func range(kind: RobustRule.Kind) throws {
    for seed in 1...200 as ClosedRange<UInt64> {
      var generator = SeededGenerator(seed: seed)
      let byzantine = Int.random(in: 1...4, using: &generator)
      let count = 2 * byzantine + Int.random(in: 1...5, using: &generator)
      let rule = try RobustRule(kind, byzantine: byzantine)
      guard count >= rule.leastUpdates else { continue }
      let honest = (0..<count - byzantine).map { _ in random(40, &generator) }
      let hostile = (0..<byzantine).map { _ in
        (0..<40).map { index -> Float in
          switch Int.random(in: 0..<6, using: &generator) {
          case 0: .greatestFiniteMagnitude
          case 1: -.greatestFiniteMagnitude
          case 2: honest[0][index]
          case 3: -0.0
          case 4: honest.map { $0[index] }.max().map { $0.nextUp } ?? 0
          default: Float(3 * generator.signedUnit())
          }
        }
      }
      let result = try combine(
        kind,
        byzantine,
        (honest + hostile).shuffled(using: &generator),
        start: random(40, &generator)
      )
      for index in 0..<40 {
        let column = honest.map { $0[index] }
        #expect((column.min() ?? 0)...(column.max() ?? 0) ~= result[index], "seed \(seed), coordinate \(index)")
      }
    }
  }

  @Test("sort every column of zeros and ones, and so every column", arguments: 3...11)
  func zeroOne(count: Int) throws {
    // A network of comparisons sorts everything if it sorts all zeros and ones (Knuth 5.3.4).
    let width = 1 << count
    let updates = (0..<count).map { row in (0..<width).map { Float($0 >> row & 1) } }
    for trimmed in 1...(count - 1) / 2 {
      let result = try combine(.trimmedMean(fraction: 0), trimmed, updates, start: [Float](repeating: 0, count: width))
      for column in 0..<width {
        let ones = column.nonzeroBitCount
        let inside = max(0, min(ones - trimmed, count - 2 * trimmed))
        #expect(result[column] == Float(Double(inside) / Double(count - 2 * trimmed)))
      }
    }
  }

  @Test("of Krum choose an honest update, bit for bit, where hostile ones lie apart")
  func krum() throws {
    for seed in 1...50 as ClosedRange<UInt64> {
      var generator = SeededGenerator(seed: seed)
      let byzantine = Int.random(in: 1...3, using: &generator)
      let honest = (0..<byzantine + 3).map { _ in random(30, &generator) }
      let far = random(30, &generator, scale: 1000)
      // They agree among themselves, which is the worst that they can do from afar.
      let updates = honest + Array(repeating: far, count: byzantine)
      #expect(honest.contains(try combine(.krum, byzantine, updates, start: far)), "seed \(seed)")
      let mean = try combine(.multiKrum(keep: 0), byzantine, updates, start: far)
      #expect(mean.allSatisfy { abs($0) <= 1 }, "seed \(seed)")
    }
  }

  @Test("of Krum take the first name among equal scores")
  func ties() throws {
    let rows = ["b", "a", "e", "d", "c"].map { UpdateRow(name: $0, tensors: TensorSet(["t": Tensor(zeros: [3])])) }
    let rule = try RobustRule(.krum, byzantine: 1)
    #expect(try rule.combine(rows, start: TensorSet(["t": Tensor(zeros: [3])])).leftOut == ["b", "c", "d", "e"])
  }

  @Test("of the geometric median satisfy the condition of a minimum, and stay near the honest ones")
  func geometricMedian() throws {
    for seed in 1...40 as ClosedRange<UInt64> {
      var generator = SeededGenerator(seed: seed)
      let byzantine = Int.random(in: 1...3, using: &generator)
      let honest = (0..<byzantine + Int.random(in: 1...4, using: &generator)).map { _ in random(50, &generator) }
      let centre = honest[0]
      for scale in [1.0, 1e5] {
        let updates = honest + (0..<byzantine).map { _ in random(50, &generator, scale: scale) }
        let start = random(50, &generator)
        let found = try combine(.geometricMedian(smoothing: 1e-6, iterations: 10_000), byzantine, updates, start: start)
        // Σ (v − wᵢ) / max(ν, ‖v − wᵢ‖) = 0, but for v's own rounding to floats, which moves the sum most where v is at an
        // update: by up to the rounding over ν.
        var sum = [Double](repeating: 0, count: 50)
        var isAtUpdate = false
        for update in updates {
          let norm = distance(found, update)
          if norm < 1e-4 { isAtUpdate = true }
          for index in sum.indices { sum[index] += (Double(found[index]) - Double(update[index])) / max(1e-6, norm) }
        }
        let rest = sum.reduce(0) { $0 + $1 * $1 }.squareRoot()
        #expect(rest <= (isAtUpdate ? 1 : 1e-5), "seed \(seed), scale \(scale)")
        // Pillutla et al. 2022 and Lopuhaä and Rousseeuw 1991: with f of n hostile the distance from any point is at most
        // 2(n − f)/(n − 2f) times the farthest honest one's.
        let (n, f) = (Double(updates.count), Double(byzantine))
        let reach = honest.map { distance($0, centre) }.max() ?? 0
        #expect(distance(found, centre) <= 2 * (n - f) / (n - 2 * f) * reach + 1e-5, "seed \(seed), scale \(scale)")
      }
    }
  }

  @Test("of the norm bound let nobody move the result by more than twice the bound over n")
  func normBound() throws {
    for seed in 1...50 as ClosedRange<UInt64> {
      var generator = SeededGenerator(seed: seed)
      let start = random(60, &generator)
      var updates = (0..<5).map { _ in zip(start, random(60, &generator, scale: 0.05)).map { $0 + $1 } }
      let kind = RobustRule.Kind.normBound(.stated(1))
      let before = try combine(kind, 2, updates, start: start)
      // None is beyond the bound: this is their mean.
      let mean = (0..<60).map { index in Float(updates.reduce(0.0) { $0 + Double($1[index]) } / 5) }
      #expect(zip(before, mean).allSatisfy { abs($0 - $1) <= 1e-7 }, "seed \(seed)")
      updates[3] = random(60, &generator, scale: 1e9)
      let after = try combine(kind, 2, updates, start: start)
      #expect(distance(before, after) <= 2.0 / 5 + 1e-6, "seed \(seed)")
      #expect(distance(after, start) <= 1 + 1e-6, "seed \(seed)")
      // A multiple of the median norm is decided by honest norms.
      updates[1] = random(60, &generator, scale: 1e9)
      let norms = updates.map { distance($0, start) }.sorted()
      let bounded = try combine(.normBound(.medianTimes(2)), 2, updates, start: start)
      #expect(distance(bounded, start) <= 2 * norms[2] + 1e-6 && norms[2] < 1, "seed \(seed)")
    }
  }

  @Test("leave the state as it is where more than half have not moved from it")
  func idle() throws {
    var generator = SeededGenerator(seed: 8)
    let start = random(20, &generator)
    let updates = [start, start, start, random(20, &generator), random(20, &generator)]
    #expect(try combine(.normBound(.medianTimes(1)), 2, updates, start: start) == start)
  }

  @Test("never ask for more of an update than a block")
  func memory() throws {
    for count in [3, 40, 1100] {
      let width = 50_000
      let longest = Mutex(0)
      let rows = (0..<count).map { index in
        UpdateRow(name: "c\(index)", count: width) { range, target in
          longest.withLock { $0 = max($0, range.count) }
          for place in target.indices { target[place] = Float((range.lowerBound + place) % (index + 2)) }
        }
      }
      let start = try set([Float](repeating: 0, count: width))
      for kind in [RobustRule.Kind.median, .normBound(.medianTimes(1))] {
        _ = try RobustRule(kind, byzantine: 1).combine(rows, start: start)
      }
      // A MiB of floats, or 256 of each.
      #expect(longest.withLock { $0 } <= max(256, (1 << 18) / count))
    }
  }

  @Test("refuse too few updates, two of one client, other lengths and numbers that are not finite, by name")
  func refusals() throws {
    let start = try set([1, 2, 3, 4, 5, 6])
    let rows = (0..<5).map { row($0, [1, 2, 3, 4, 5, 6]) }
    let rule = try RobustRule(.krum, byzantine: 1)
    #expect(throws: RobustAggregationError.tooFewUpdates(rule: .krum, byzantine: 1, found: 4, needed: 5)) {
      try rule.combine(Array(rows.dropLast()), start: start)
    }
    #expect(throws: RobustAggregationError.duplicate("c1")) {
      try rule.combine(rows + [row(1, [1, 2, 3, 4, 5, 6])], start: start)
    }
    #expect(throws: RobustAggregationError.wrongCount(client: "x", found: 5, expected: 6)) {
      try rule.combine(rows + [UpdateRow(name: "x", count: 5) { _, _ in }], start: start)
    }
    for value in [Float.nan, .infinity, -.infinity] {
      for kind in Self.kinds {
        let bad = (0..<7).map { row($0, [1, 2, 3, 4, $0 == 2 ? value : 5, 6]) }
        let expected = RobustAggregationError.notFinite(client: "c2", tensor: "m.lora_B.weight", index: 2)
        #expect(throws: expected) { try RobustRule(kind, byzantine: 2).combine(bad, start: start) }
      }
    }
  }
}
