import FedLoRACheckpoint
import FedLoRAFederation
import Testing

@Suite("The private sum")
struct PrivateSumTests {
  private let sent = TensorSet(["a": Tensor(zeros: [2, 2]), "b": Tensor(zeros: [3])])

  private func makeSum(limit: Double = 1, step: Double = 0x1p-20, largestWeight: Int = 1) throws -> PrivateSum {
    try PrivateSum(layout: TensorLayout(of: sent), clippingLimit: limit, step: step, largestWeight: largestWeight)
  }

  private func set(_ values: [Float]) throws -> TensorSet {
    TensorSet([
      "a": try Tensor(shape: [2, 2], values: Array(values.prefix(4))),
      "b": try Tensor(shape: [3], values: Array(values.suffix(3))),
    ])
  }

  @Test("a difference within the limit enters as it is, a larger one is scaled over all tensors together")
  func clipping() throws {
    var sum = try makeSum()
    let start = try set([1, 1, 1, 1, 2, 2, 2])
    #expect(try sum.fold(try set([1.5, 1, 1, 1, 2, 2, 1.75]), sent: start) == (0.25 + 0.0625).squareRoot())
    #expect(sum.sums == [1 << 19, 0, 0, 0, 0, 0, -(1 << 18)])
    // (3, 4) in two tensors has norm 5, so it becomes (0.6, 0.8).
    var large = try makeSum()
    #expect(try large.fold(try set([4, 1, 1, 1, 2, 2, 6]), sent: start) == 5)
    #expect(large.sums == [Int64((0.6 * 0x1p20).rounded()), 0, 0, 0, 0, 0, Int64((0.8 * 0x1p20).rounded())])
  }

  @Test("neither zero nor the largest and smallest floats trouble it")
  func extremes() throws {
    var sum = try makeSum()
    #expect(try sum.fold(sent, sent: sent) == 0)
    #expect(sum.sums.allSatisfy { $0 == 0 })
    let huge = Float.greatestFiniteMagnitude
    let norm = try #require(try sum.fold(try set([huge, 0, 0, 0, 0, 0, 0]), sent: try set([-huge, 0, 0, 0, 0, 0, 0])))
    #expect(norm == 2 * Double(huge) && sum.sums[0] == 1 << 20)
    #expect(
      try sum.fold(try set([.leastNonzeroMagnitude, 0, 0, 0, 0, 0, 0]), sent: sent)
        == Double(Float.leastNonzeroMagnitude)
    )
    #expect(sum.sums == [1 << 20, 0, 0, 0, 0, 0, 0] && sum.discardedCount == 0 && sum.updateCount == 3)
  }

  @Test("an update with NaN or infinity adds zero and is counted", arguments: [Float.nan, .infinity, -.infinity])
  func notFinite(value: Float) throws {
    var sum = try makeSum()
    _ = try sum.fold(try set([0.25, 0, 0, 0, 0, 0, 0]), sent: sent)
    for position in 0..<7 {
      var values = [Float](repeating: 0.1, count: 7)
      values[position] = value
      #expect(try sum.fold(try set(values), sent: sent) == nil)
    }
    #expect(sum.sums == [1 << 18, 0, 0, 0, 0, 0, 0] && sum.discardedCount == 7 && sum.updateCount == 8)
  }

  @Test("the order of the updates changes no bit")
  func order() throws {
    var generator = SeededGenerator(seed: 3)
    let updates = try (0..<40).map { index in
      (try set((0..<7).map { _ in Float(3 * generator.signedUnit()) }), 1 + index % 5)
    }
    var forward = try makeSum(largestWeight: 5)
    for (update, weight) in updates { _ = try forward.fold(update, sent: sent, weight: weight) }
    for _ in 0..<5 {
      var other = try makeSum(largestWeight: 5)
      for (update, weight) in updates.shuffled(using: &generator) {
        _ = try other.fold(update, sent: sent, weight: weight)
      }
      #expect(other == forward)
    }
  }

  @Test("weights, sums and grids that could break the bound are refused")
  func refusals() throws {
    var sum = try makeSum(largestWeight: 5)
    for weight in [0, -1, 6] {
      #expect(throws: PrivateSumError.weightOutOfRange(weight, largest: 5)) {
        try sum.fold(sent, sent: sent, weight: weight)
      }
    }
    #expect(throws: LayoutError.missing("b")) { try sum.fold(sent.filter { $0 == "a" }, sent: sent) }
    #expect(sum.updateCount == 0)
    #expect(throws: PrivateSumError.self) { try makeSum(largestWeight: 0) }
    for (limit, step) in [(0.0, 1.0), (1, 0), (.nan, 1), (1, .nan), (.infinity, 1), (1, 0x1p-41), (1, .infinity)] {
      #expect(throws: PrivateSumError.self) { try makeSum(limit: limit, step: step) }
    }
    // 2³² units and a weight of 2²⁸ leave room for one update.
    var full = try makeSum(step: 0x1p-32, largestWeight: 1 << 28)
    _ = try full.fold(sent, sent: sent, weight: 1 << 28)
    #expect(throws: PrivateSumError.full(updates: 1)) { try full.fold(sent, sent: sent) }
  }

  @Test("a state moved by differences is rounded once, and refused where it leaves the range of a float")
  func moved() throws {
    let start = try set([1, -1, 0, 2, 0, 0, 16_777_216])
    let moved = try PrivateSum.moved(start, by: [0.5, 0.25, 0, -2, 1e-3, 0, 1])
    #expect(moved == (try set([1.5, -0.75, 0, 0, 1e-3, 0, 16_777_216])))
    #expect(throws: PrivateSumError.notFinite(tensor: "b")) {
      try PrivateSum.moved(start, by: [0, 0, 0, 0, 0, 1e39, 0])
    }
  }
}
