import FedLoRACheckpoint
import FedLoRAFederation
import Testing

@Suite("Buffered aggregation")
struct BufferedSumTests {
  private static func set(_ values: [Float]) throws -> TensorSet {
    TensorSet(["m.lora_B.weight": try Tensor(shape: [values.count], values: values)])
  }

  /// The formula as it stands in the paper, in doubles.
  private static func textbook(
    _ current: [Float],
    _ parts: [(update: [Float], start: [Float], weight: Int, staleness: Int)],
    _ terms: BufferTerms
  ) -> [Double] {
    let total = parts.reduce(0.0) { $0 + Double($1.weight) }
    return current.indices.map { index in
      let sum = parts.reduce(0.0) { sum, part in
        let share = Double(terms.units(staleness: part.staleness)) / 256
        return sum + Double(part.weight) * share * (Double(part.update[index]) - Double(part.start[index]))
      }
      return Double(current[index]) + sum / total
    }
  }

  @Test("moves the current state by the staleness-weighted mean of the differences, in any order")
  func formula() throws {
    var generator = SeededGenerator(seed: 11)
    for exponent in [0, 0.5, 1, 3] {
      let terms = try BufferTerms(size: 4, exponent: exponent)
      func vector() -> [Float] { (0..<37).map { _ in Float.random(in: -3...3, using: &generator) } }
      let current = vector()
      let parts = (0..<6).map { _ in
        (
          update: vector(), start: vector(), weight: Int.random(in: 1...2000, using: &generator),
          staleness: Int.random(in: 0...9, using: &generator)
        )
      }
      func moved(_ order: [Int]) throws -> TensorSet {
        let state = try Self.set(current)
        var sum = BufferedSum(layout: TensorLayout(of: state), terms: terms)
        for index in order {
          let part = parts[index]
          try sum.fold(
            Self.set(part.update),
            start: Self.set(part.start),
            weight: part.weight,
            staleness: part.staleness
          )
        }
        return try sum.moved(state)
      }
      let result = try moved(Array(parts.indices))
      #expect(try moved(parts.indices.shuffled(using: &generator)) == result)
      let expected = Self.textbook(current, parts, terms)
      for (value, wanted) in zip(result["m.lora_B.weight"]?.values ?? [], expected) {
        #expect(abs(Double(value) - wanted) < 2e-6)
      }
    }
  }

  @Test("of fresh updates alone it is their mean")
  func fresh() throws {
    let state = try Self.set([1, -2, 0.5])
    var sum = BufferedSum(layout: TensorLayout(of: state), terms: try BufferTerms(size: 2))
    try sum.fold(Self.set([2, -2, 1]), start: state, weight: 1, staleness: 0)
    try sum.fold(Self.set([4, 0, 0]), start: state, weight: 3, staleness: 0)
    #expect(try sum.moved(state) == Self.set([3.5, -0.5, 0.25]))
  }

  @Test("an update of staleness s counts (1 + s)^-exponent, to the 256th, and never nothing")
  func staleness() throws {
    let usual = try BufferTerms(size: 1)
    #expect([0, 1, 3, 8, 99].map { usual.units(staleness: $0) } == [256, 181, 128, 85, 26])
    #expect([0, 5, 1000].map { try? BufferTerms(size: 1, exponent: 0).units(staleness: $0) } == [256, 256, 256])
    #expect(try BufferTerms(size: 1, exponent: 8).units(staleness: 1000) == 1)
  }

  @Test("refuses weights, values and layouts that it cannot add, and stays as it was")
  func refusals() throws {
    let state = try Self.set([0, 0])
    var sum = BufferedSum(layout: TensorLayout(of: state), terms: try BufferTerms(size: 2))
    #expect(throws: SumError.empty) { try sum.moved(state) }
    #expect(throws: SumError.weightOutOfRange(0)) { try sum.fold(state, start: state, weight: 0, staleness: 0) }
    #expect(throws: SumError.weightOutOfRange(BufferedSum.largestWeight + 1)) {
      try sum.fold(state, start: state, weight: BufferedSum.largestWeight + 1, staleness: 0)
    }
    #expect(throws: SumError.self) { try sum.fold(Self.set([.nan, 0]), start: state, weight: 1, staleness: 0) }
    #expect(throws: LayoutError.self) { try sum.fold(Self.set([1]), start: state, weight: 1, staleness: 0) }
    #expect(throws: LayoutError.self) { try sum.fold(state, start: Self.set([1]), weight: 1, staleness: 0) }
    let largest = Float(BufferedSum.largestValue(weight: 7))
    try sum.fold(Self.set([largest, 0]), start: Self.set([-largest, 0]), weight: 7, staleness: 0)
    #expect(try sum.moved(state) == Self.set([2 * largest, 0]))
  }

  @Test("its terms are refused by name where they are out of range or make no sense")
  func terms() throws {
    func path(_ body: () throws -> Void) -> String? {
      do {
        try body()
        return nil
      } catch { return (error as? BufferTermError)?.path }
    }
    #expect(path { _ = try BufferTerms(size: 0) } == "cohort.buffer_size")
    #expect(path { _ = try BufferTerms(size: 1, exponent: .nan) } == "cohort.staleness_exponent")
    #expect(path { _ = try BufferTerms(size: 1, exponent: -1) } == "cohort.staleness_exponent")
    #expect(path { _ = try BufferTerms(size: 1, mostStale: -1) } == "cohort.max_staleness")
    let terms = try BufferTerms(size: 3)
    for name in StrategyName.allCases {
      let refused = path { try terms.check(strategy: name, aggregation: .mean, hasPrivateRelease: false) }
      #expect((refused != nil) == (name == .fedsvd), "\(name)")
    }
    let median = Aggregation.robust(try RobustRule(.median, byzantine: 1))
    #expect(path { try terms.check(strategy: .fedit, aggregation: median, hasPrivateRelease: false) } != nil)
    #expect(path { try terms.check(strategy: .fedit, aggregation: .mean, hasPrivateRelease: true) } != nil)
  }
}
