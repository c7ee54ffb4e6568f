import FedLoRACheckpoint
import FedLoRAFederation
import Foundation
import Testing

@Suite("Exact sums")
struct ExactSumTests {
  /// Updates of two tensors whose magnitudes spread over 2⁻⁶⁰ … 2¹⁰, with their weights.
  private func updates(_ count: Int, _ generator: inout SeededGenerator) throws -> [(update: TensorSet, weight: Int)] {
    try (0..<count).map { _ in
      func spread(_ shape: [Int]) throws -> Tensor {
        var tensor = try randomTensor(shape, &generator)
        for index in tensor.values.indices {
          tensor.values[index] *= Float(
            sign: .plus,
            exponent: Int.random(in: -60...9, using: &generator),
            significand: 1
          )
        }
        return tensor
      }
      let set = TensorSet(["a": try spread([3, 5]), "b": try spread([1100])])
      return (set, Int.random(in: 1...1_000_000, using: &generator))
    }
  }

  @Test("order, batching and a tree of partial sums change no bit", arguments: 1...40 as ClosedRange<UInt64>)
  func orderFree(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let updates = try updates(Int.random(in: 1...20, using: &generator), &generator)
    let layout = TensorLayout(of: updates[0].update)
    var oneByOne = ExactSum(layout: layout)
    for (update, weight) in updates { try oneByOne.fold(update, weight: weight) }

    var inOneBatch = ExactSum(layout: layout)
    try inOneBatch.fold(batch: updates.shuffled(using: &generator))

    var parts = (0..<4).map { _ in ExactSum(layout: layout) }
    for (update, weight) in updates.shuffled(using: &generator) {
      try parts[Int.random(in: 0..<4, using: &generator)].fold(update, weight: weight)
    }
    var tree = ExactSum(layout: layout)
    for part in parts.shuffled(using: &generator) { try tree.merge(ExactSum(serialized: part.serialized())) }

    let expected = try oneByOne.mean()
    for other in [inOneBatch, tree] {
      #expect(try other.mean() == expected, "seed \(seed)")
      #expect(other == oneByOne, "seed \(seed)")
      #expect(other.serialized() == oneByOne.serialized(), "seed \(seed)")
    }
    #expect(oneByOne.totalWeight == updates.reduce(0) { $0 + $1.weight })
  }

  @Test("the sum is the true sum, not nearly", arguments: 1...40 as ClosedRange<UInt64>)
  func exact(seed: UInt64) throws {
    // Magnitudes of at least 2⁻⁴² lie on the grid, so the reference in 128-bit integers must agree exactly.
    var generator = SeededGenerator(seed: seed)
    let count = Int.random(in: 1...50, using: &generator)
    var sum = ExactSum(layout: try TensorLayout([("x", [7])]))
    var reference = [Int128](repeating: 0, count: 7)
    for _ in 0..<count {
      let weight = Int.random(in: 1...1 << 20, using: &generator)
      var tensor = Tensor(zeros: [7])
      for index in 0..<7 {
        let exponent = Int.random(in: -41...12, using: &generator)
        tensor.values[index] = Float(sign: .plus, exponent: exponent, significand: Float(generator.signedUnit() * 2))
        if abs(tensor.values[index]) < 0x1p-42 { tensor.values[index] = 0 }
        reference[index] += Int128(weight) * Int128(Double(tensor.values[index]) * 0x1p66)
      }
      try sum.fold(TensorSet(["x": tensor]), weight: weight)
    }
    let mean = try sum.mean()["x"]?.values ?? []
    for index in 0..<7 {
      let expected = Double(reference[index]) * 0x1p-66 / Double(sum.totalWeight)
      #expect(abs(Double(mean[index]) - expected) <= abs(expected) * 0x1.001p-24 + 0x1p-149, "seed \(seed)")
    }
    // What cancels leaves nothing behind.
    var cancelling = ExactSum(layout: try TensorLayout([("x", [7])]))
    let values = try randomTensor([7], &generator, scale: 1000)
    var negated = values
    for index in negated.values.indices { negated.values[index].negate() }
    try cancelling.fold(TensorSet(["x": values]), weight: 12_345)
    try cancelling.fold(
      TensorSet(["x": Tensor(shape: [7], values: [1, 2, 3, 4, 5, 6, 7].map { $0 * 0x1p-40 })]),
      weight: 1
    )
    try cancelling.fold(TensorSet(["x": negated]), weight: 12_345)
    for (index, value) in (try cancelling.mean()["x"]?.values ?? []).enumerated() {
      #expect(value == Float(Double(index + 1) * 0x1p-40 / 24_691), "seed \(seed)")
    }
  }

  @Test("the mean of equal updates is the update itself, whatever the weights")
  func meanOfEquals() throws {
    var generator = SeededGenerator(seed: 1)
    let update = TensorSet(["x": try randomTensor([4, 9], &generator)])
    var sum = ExactSum(layout: TensorLayout(of: update))
    for weight in [1, 7, 1000, ExactSum.largestWeight] { try sum.fold(update, weight: weight) }
    #expect(try sum.mean() == update)
  }

  @Test("carries are taken in time: 10 000 updates at the end of the range")
  func manyUpdates() throws {
    let largest = Float(0x1p34) - Float(0x1p34).ulp
    let tiny: Float = 0x1.fffffep-18
    let update = TensorSet(["x": try Tensor(shape: [4], values: [tiny, -tiny, 3.999_999_5, -3.999_999_5])])
    var sum = ExactSum(layout: TensorLayout(of: update))
    for _ in 0..<10_000 { try sum.fold(update, weight: 3) }
    #expect(try sum.mean() == update)
    let heavy = TensorSet(["x": try Tensor(shape: [4], values: [largest, -largest, 0, 1])])
    var full = ExactSum(layout: TensorLayout(of: heavy))
    try full.fold(batch: Array(repeating: (heavy, 1), count: 4095))
    #expect(try full.mean() == heavy)
    var partial = full
    try partial.fold(heavy, weight: 1)
    #expect(throws: SumError.full(updates: 4096)) { try partial.fold(heavy, weight: 1) }
    #expect(throws: SumError.full(updates: 4095)) { try full.merge(full) }
    #expect(try partial.mean() == heavy)
  }

  @Test("what does not fit is refused by tensor and index and leaves the sum as it was")
  func refusals() throws {
    let good = TensorSet(["a": Tensor(zeros: [2]), "b": try Tensor(shape: [3], values: [1, 2, 3])])
    var sum = ExactSum(layout: TensorLayout(of: good))
    #expect(throws: SumError.empty) { try sum.mean() }
    try sum.fold(good, weight: 2)
    let before = sum
    for poison in [Float.nan, .infinity, -.infinity] {
      var bad = good
      bad["b"]?.values[1] = poison
      #expect(throws: SumError.notFinite(tensor: "b", index: 1, value: poison)) { try sum.fold(bad, weight: 1) }
      #expect(throws: SumError.notFinite(tensor: "b", index: 1, value: poison)) {
        try sum.fold(batch: [(good, 1), (bad, 1)])
      }
    }
    var large = good
    large["b"]?.values[2] = -0x1p30
    #expect(throws: SumError.outOfRange(tensor: "b", index: 2, value: -0x1p30, weight: 17)) {
      try sum.fold(large, weight: 17)
    }
    #expect(throws: SumError.weightOutOfRange(0)) { try sum.fold(good, weight: 0) }
    #expect(throws: SumError.weightOutOfRange(1 << 30)) { try sum.fold(good, weight: 1 << 30) }
    #expect(throws: LayoutError.missing("b")) { try sum.fold(good.filter { $0 == "a" }, weight: 1) }
    #expect(throws: LayoutError.missing("a")) { try sum.fold(good.filter { $0 == "b" }, weight: 1) }
    #expect(throws: LayoutError.unexpected("aa")) {
      try sum.fold(good.merging(TensorSet(["aa": Tensor(zeros: [1])])), weight: 1)
    }
    #expect(throws: LayoutError.unexpected("c")) {
      try sum.fold(good.merging(TensorSet(["c": Tensor(zeros: [1])])), weight: 1)
    }
    #expect(throws: LayoutError.shape("b", found: [3, 1], expected: [3])) {
      try sum.fold(good.merging(TensorSet(["b": Tensor(zeros: [3, 1])])), weight: 1)
    }
    #expect(sum == before)
    var other = ExactSum(layout: TensorLayout(of: good.filter { $0 == "a" }))
    #expect(throws: SumError.differentLayouts) { try other.merge(sum) }
    try sum.fold(large, weight: 16)
    #expect(try sum.mean()["b"]?.values[2] == Float((2 * 3 - 0x1p34) / 18))
  }

  @Test("a damaged serialised sum is refused, wherever it is cut or flipped")
  func damaged() throws {
    var sum = ExactSum(layout: try TensorLayout([("x", [2, 2]), ("y", [])]))
    try sum.fold(TensorSet(["x": Tensor(zeros: [2, 2]), "y": Tensor(shape: [], values: [3])]), weight: 5)
    let bytes = sum.serialized()
    #expect(try ExactSum(serialized: bytes) == sum)
    for length in 0..<bytes.count {
      #expect(throws: (any Error).self) { try ExactSum(serialized: bytes.prefix(length)) }
    }
    #expect(throws: (any Error).self) { try ExactSum(serialized: bytes + [0]) }
    // A flipped bit may make another valid sum, but never a trap.
    for index in bytes.indices {
      var flipped = bytes
      flipped[index] ^= 0x80
      _ = try? ExactSum(serialized: flipped).mean()
    }
  }

  @Test("a layout needs distinct names and possible shapes")
  func layouts() throws {
    #expect(throws: LayoutError.duplicate("x")) { try TensorLayout([("x", [1]), ("y", [1]), ("x", [2])]) }
    #expect(throws: LayoutError.shape("x", found: [-1], expected: [])) { try TensorLayout([("x", [-1])]) }
    #expect(throws: LayoutError.shape("y", found: [1 << 62], expected: [])) {
      try TensorLayout([("x", [1 << 62]), ("y", [1 << 62])])
    }
    #expect(
      LayoutError.shape("b", found: [3, 1], expected: [3]).description == "tensor 'b' has shape [3, 1], expected [3]"
    )
  }
}
