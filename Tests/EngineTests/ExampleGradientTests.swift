import FedLoRAEngine
import Foundation
import Testing

/// Per-example gradients, their clipping and their exact sums.
@Suite struct ExampleGradientTests {
  private struct Fixture {
    let model: AdaptedModel
    let parameters: [Float]
    let batch: PackedBatch
  }

  private func fixture(
    targets: [String] = ["query", "key", "value", "dense"],
    pooling: Pooling = .mean,
    dropout: Double = 0
  ) throws -> Fixture {
    let oracle = try #require(OracleFolder.encoder(for: pooling))
    let base = try FrozenModel(folder: oracle.url.appendingPathComponent("model"))
    let model = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(rank: 4, alpha: 8, dropout: dropout, targets: .suffixes(targets)),
      head: ClassificationHead(labelCount: 3, pooling: pooling)
    )
    let parameters = (0..<model.layout.count).map { Float(sin(Double($0) * 1.3) * 0.15) }
    var batch = PackedBatch()
    // Every length from one token on, so that no product has a shape of its own.
    for length in 1...9 {
      batch.append(
        tokens: (0..<length).map { Int32((length * 7 + $0 * 3) % base.spec.vocabularySize) },
        tokenTypes: [Int32](repeating: 0, count: length),
        label: length % 3
      )
    }
    return Fixture(model: model, parameters: parameters, batch: batch)
  }

  private func runner(_ model: AdaptedModel, threads: Int = 1, tokensPerSlice: Int = 1024) -> ModelRunner {
    ModelRunner(model: model, pool: ComputePool(threadCount: threads), tokensPerSlice: tokensPerSlice)
  }

  private func part(_ batch: PackedBatch, _ indices: some Sequence<Int>) -> PackedBatch {
    var result = PackedBatch()
    for index in indices {
      let range = batch.offsets[index]..<batch.offsets[index + 1]
      result.append(
        tokens: Array(batch.tokens[range]),
        tokenTypes: Array(batch.tokenTypes[range]),
        label: batch.labels[index]
      )
    }
    return result
  }

  private func norm(_ values: some Sequence<Float>) -> Double {
    values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
  }

  /// The gradient of one example alone by the plain pass, trained elements only.
  private func alone(_ fixture: Fixture, _ index: Int, _ trained: TrainedKinds, _ runner: ModelRunner) throws -> [Float]
  {
    var gradient = [Float](repeating: 0, count: fixture.model.layout.count)
    _ = try runner.gradient(
      of: part(fixture.batch, [index]),
      parameters: fixture.parameters,
      trained: trained,
      dropoutKey: nil,
      into: &gradient
    )
    return runner.trainedRanges(trained).flatMap { gradient[$0] }
  }

  @Test(arguments: [TrainedKinds.all, .loraB, [.loraA, .loraB], [.loraB, .head], .head, .loraA], Pooling.allCases)
  func eachEqualsTheGradientOfItsExampleAlone(trained: TrainedKinds, pooling: Pooling) throws {
    let fixture = try fixture(pooling: pooling)
    for (threads, tokens) in [(1, 1024), (2, 10)] {
      let runner = runner(fixture.model, threads: threads, tokensPerSlice: tokens)
      defer { runner.pool.shutDown() }
      let all = try runner.exampleGradients(fixture.batch, parameters: fixture.parameters, trained: trained)
      #expect(all.count == fixture.batch.count)
      for index in 0..<fixture.batch.count {
        let expected = try alone(fixture, index, trained, runner)
        #expect(all[index].count == runner.trainedCount(trained))
        let difference = norm(zip(all[index], expected).map { $0 - $1 })
        #expect(difference <= 1e-5 * norm(expected), "example \(index), \(threads) threads: \(difference)")
      }
    }
  }

  @Test(arguments: [ExampleClipping.Rule.flat, .automatic(stability: 0.01), .automatic(stability: 0)])
  func theClippedSumIsTheTextbookLoop(rule: ExampleClipping.Rule) throws {
    let fixture = try fixture()
    let runner = runner(fixture.model, threads: 2, tokensPerSlice: 12)
    defer { runner.pool.shutDown() }
    let each = try (0..<fixture.batch.count).map { try alone(fixture, $0, .all, runner) }
    // Between the norms: some examples are clipped, some are not.
    let norms = each.map { norm($0) }.sorted()
    let bound = norms[norms.count / 2] * 1.01
    let clipping = try ExampleClipping(rule: rule, bound: bound, step: bound / 4_000_000)
    var expected = [Double](repeating: 0, count: each[0].count)
    for gradient in each {
      let length = norm(gradient)
      let factor =
        switch rule {
        case .flat: min(1, bound / length)
        case .automatic(let stability): bound / (length + stability)
        }
      for (index, value) in gradient.enumerated() { expected[index] += factor * Double(value) }
    }
    var sums = [Int64](repeating: 0, count: each[0].count)
    let summary = try runner.addClipped(
      fixture.batch,
      parameters: fixture.parameters,
      trained: .all,
      dropoutKey: nil,
      clipping: clipping,
      to: &sums
    )
    let length = expected.reduce(0) { $0 + $1 * $1 }.squareRoot()
    let error = zip(sums, expected).reduce(0.0) { total, pair in
      let difference = Double(pair.0) * clipping.step - pair.1
      return total + difference * difference
    }
    #expect(error.squareRoot() <= 1e-5 * length)
    #expect(summary.examples == fixture.batch.count && summary.notFinite == 0)
    #expect(summary.aboveBound == norms.count { $0 > bound })
    #expect(abs(summary.normSum - norms.reduce(0, +)) < 1e-4 * summary.normSum)
    let plain = try runner.evaluate(fixture.batch, parameters: fixture.parameters)
    #expect(abs(summary.losses.lossSum - plain.lossSum) < 1e-5 && summary.losses.correct == plain.correct)
  }

  @Test func withoutBoundTheSumIsTheBatchGradient() throws {
    for dropout in [0, 0.2] {
      let fixture = try fixture(dropout: dropout)
      let runner = runner(fixture.model, threads: 2, tokensPerSlice: 12)
      defer { runner.pool.shutDown() }
      let key: UInt64? = dropout > 0 ? 5 : nil
      var plain = [Float](repeating: 0, count: fixture.model.layout.count)
      _ = try runner.gradient(
        of: fixture.batch,
        parameters: fixture.parameters,
        trained: .all,
        dropoutKey: key,
        into: &plain
      )
      var sums = [Float](repeating: 0, count: runner.trainedCount(.all))
      _ = try runner.addUnclipped(
        fixture.batch,
        parameters: fixture.parameters,
        trained: .all,
        dropoutKey: key,
        to: &sums
      )
      let difference = norm(zip(sums, plain).map { $0 / Float(fixture.batch.count) - $1 })
      #expect(difference <= 1e-6 * norm(plain))
    }
  }

  /// What sensitivity means: one example more changes the integer sum by a vector of norm at most bound/step, exactly.
  @Test(arguments: [ExampleClipping.Rule.flat, .automatic(stability: 0.01)])
  func oneExampleMovesTheSumByAtMostTheBound(rule: ExampleClipping.Rule) throws {
    let fixture = try fixture()
    // Slices of one sequence: what the others contribute is then the same to the last bit.
    let runner = runner(fixture.model, threads: 2, tokensPerSlice: 1)
    defer { runner.pool.shutDown() }
    let limit = 0.05
    let clipping = try ExampleClipping(rule: rule, bound: limit, step: limit / 8_000_000)
    let count = runner.trainedCount(.all)
    func sum(_ indices: [Int]) throws -> [Int64] {
      var sums = [Int64](repeating: 0, count: count)
      _ = try runner.addClipped(
        part(fixture.batch, indices),
        parameters: fixture.parameters,
        trained: .all,
        dropoutKey: nil,
        clipping: clipping,
        to: &sums
      )
      return sums
    }
    let everybody = Array(0..<fixture.batch.count)
    let whole = try sum(everybody)
    for left in everybody {
      let rest = try sum(everybody.filter { $0 != left })
      let moved = zip(whole, rest).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }.squareRoot()
      // Rounding every element to the grid adds at most √d/2 cells; the float factor is good to 2^-22.
      let most = limit / clipping.step * (1 + pow(2, -22)) + Double(count).squareRoot() / 2
      #expect(moved > 0 && moved <= most, "example \(left) moved the sum by \(moved), allowed \(most)")
    }
  }

  @Test func anyCutOfABatchGivesTheSameIntegers() throws {
    let fixture = try fixture()
    let clipping = try ExampleClipping(rule: .flat, bound: 0.1, step: 0.1 / 8_000_000)
    var results: [[Int64]] = []
    for (threads, cuts) in [(1, [0, 9]), (3, [0, 9]), (1, [0, 4, 9]), (2, [0, 1, 2, 3, 8, 9])] {
      let runner = runner(fixture.model, threads: threads, tokensPerSlice: 1)
      defer { runner.pool.shutDown() }
      var sums = [Int64](repeating: 0, count: runner.trainedCount(.all))
      for (start, end) in zip(cuts, cuts.dropFirst()) {
        _ = try runner.addClipped(
          part(fixture.batch, start..<end),
          parameters: fixture.parameters,
          trained: .all,
          dropoutKey: nil,
          clipping: clipping,
          to: &sums
        )
      }
      results.append(sums)
    }
    #expect(results.allSatisfy { $0 == results[0] })
  }

  @Test func manyExamplesDoNotOverflowThirtyTwoBits() throws {
    let fixture = try fixture()
    let runner = runner(fixture.model, tokensPerSlice: 100_000)
    defer { runner.pool.shutDown() }
    // The same example 600 times, with all of the bound in few elements: far above what 32 bits hold.
    let clipping = try ExampleClipping(rule: .automatic(stability: 0), bound: 1, step: 1 / 8_388_000)
    let count = runner.trainedCount(.head)
    func sum(_ copies: Int) throws -> [Int64] {
      var sums = [Int64](repeating: 0, count: count)
      _ = try runner.addClipped(
        part(fixture.batch, [Int](repeating: 0, count: copies)),
        parameters: fixture.parameters,
        trained: .head,
        dropoutKey: nil,
        clipping: clipping,
        to: &sums
      )
      return sums
    }
    let (one, many) = (try sum(1), try sum(600))
    #expect(many.contains { abs($0) > Int64(Int32.max) } || one.allSatisfy { abs($0) < 3_000_000 })
    for (single, total) in zip(one, many) { #expect(abs(total - 600 * single) <= 600 * 4) }
  }

  @Test func gradientsThatAreNotFiniteContributeNothing() throws {
    let fixture = try fixture()
    let runner = runner(fixture.model, tokensPerSlice: 1)
    defer { runner.pool.shutDown() }
    let clipping = try ExampleClipping(rule: .flat, bound: 1, step: 1e-6)
    for poison in [Float.nan, .infinity, 1e38] {
      var parameters = fixture.parameters
      for entry in fixture.model.layout.entries where entry.kind == .loraB {
        parameters[entry.offset] = poison
      }
      var sums = [Int64](repeating: 0, count: runner.trainedCount(.all))
      let summary = try runner.addClipped(
        fixture.batch,
        parameters: parameters,
        trained: .all,
        dropoutKey: nil,
        clipping: clipping,
        to: &sums
      )
      #expect(summary.examples == fixture.batch.count)
      let length = sums.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      #expect(length <= Double(fixture.batch.count) * 1.01e6)
      if poison.isNaN { #expect(summary.notFinite == fixture.batch.count && sums.allSatisfy { $0 == 0 }) }
    }
    #expect(clipping.factor(norm: .infinity) == 0 && clipping.factor(norm: .nan) == 0 && clipping.factor(norm: 0) == 0)
  }

  @Test func anEmptyBatchAddsNothing() throws {
    let fixture = try fixture()
    let runner = runner(fixture.model, threads: 2)
    defer { runner.pool.shutDown() }
    var sums = [Int64](repeating: 7, count: runner.trainedCount(.all))
    let summary = try runner.addClipped(
      PackedBatch(),
      parameters: fixture.parameters,
      trained: .all,
      dropoutKey: nil,
      clipping: try ExampleClipping(rule: .flat, bound: 1, step: 1e-6),
      to: &sums
    )
    #expect(summary == ClippedSummary() && sums.allSatisfy { $0 == 7 })
  }

  @Test func clippingThatCannotWorkIsRefused() {
    for (bound, step) in [(0.0, 1e-6), (.infinity, 1), (.nan, 1), (1, 0), (1, 1e-8), (1, .nan)] {
      #expect(throws: ModelError.self) { try ExampleClipping(rule: .flat, bound: bound, step: step) }
    }
    #expect(throws: ModelError.self) { try ExampleClipping(rule: .automatic(stability: -1), bound: 1, step: 1e-6) }
  }
}
