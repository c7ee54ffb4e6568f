import FedLoRAClient
import FedLoRADP
import FedLoRAEngine
import FedLoRAProtocol
import Foundation
import Testing

/// `PrivateTraining` against plain loops written here.
@Suite("A client's private step", .timeLimit(.minutes(1)))
struct PrivateStepTests {
  /// A model with a start that is not zero anywhere, and the terms of a run on it.
  private struct Bench {
    let run: PrivateRun
    let terms: RunTerms
    let runner: ModelRunner
    let start: [Float]

    init(_ run: PrivateRun, threads: Int = 2, tokensPerSlice: Int = 64) throws {
      self.run = run
      terms = try RunTerms(run.manifest)
      let model = try AdaptedModel(base: run.base, adapter: terms.adapter, head: terms.head)
      runner = ModelRunner(
        model: model,
        pool: ComputePool(threadCount: threads),
        tokensPerSlice: tokensPerSlice
      )
      start = (0..<model.layout.count).map { Float(sin(Double($0) * 1.1) * 0.2) }
    }

    func randomness(_ seed: UInt64 = 9) -> SecretRandomness { .seeded(seed, context: ["bench"]) }

    /// The parameters after private steps.
    func trained(
      _ examples: [EncodedExample],
      steps: Int = 1,
      options: TrainingOptions? = nil,
      trained: TrainedKinds? = nil,
      seed: UInt64 = 9,
      afterStep: (Int) throws -> Void = { _ in }
    ) throws -> [Float] {
      var values = start
      try PrivateTraining(
        terms: try run.terms,
        options: options ?? terms.options,
        trained: trained ?? terms.trained,
        randomness: randomness(seed),
        dropoutSeed: 4
      ).run(runner, parameters: &values, examples: examples, steps: steps, firstStep: 0, afterStep: afterStep)
      return values
    }

    func batch(_ examples: some Sequence<EncodedExample>) -> PackedBatch {
      var batch = PackedBatch()
      for example in examples { batch.append(tokens: example.ids, tokenTypes: example.typeIds, label: example.label) }
      return batch
    }

    /// The mean gradient of some examples by the plain pass; other places are 0.
    func gradient(_ examples: [EncodedExample], at values: [Float], _ trained: TrainedKinds) throws -> [Float] {
      var gradient = [Float](repeating: 0, count: values.count)
      _ = try runner.gradient(
        of: batch(examples),
        parameters: values,
        trained: trained,
        dropoutKey: nil,
        into: &gradient
      )
      return gradient
    }

    func places(_ trained: TrainedKinds) -> [Int] { runner.trainedRanges(trained).flatMap { Array($0) } }
  }

  private func norm(_ values: some Sequence<Double>) -> Double { values.reduce(0) { $0 + $1 * $1 }.squareRoot() }
  private func difference(_ left: [Float], _ right: [Float]) -> Double {
    norm(zip(left, right).map { Double($0) - Double($1) })
  }

  // MARK: Against plain training

  /// A manifest cannot state σ = 0; with 1e-12 the noise is a millionth of the grid's cell. The bound is twice the largest
  /// norm, so nothing is clipped, and every example is drawn. What remains is the grid: a cell is at most 2⁻²² of the bound,
  /// so a step's gradient is off by at most half of that in each of d coordinates.
  @Test(
    "without noise and clipping is the plain optimizer's on the same batch",
    arguments: [
      OptimizerRule.sgd(momentum: 0.9, weightDecay: 0.01),
      .adamW(beta1: 0.9, beta2: 0.999, epsilon: 0.1, weightDecay: 0.01),
    ],
    [TrainedKinds.all, .loraB, .head]
  )
  func plain(rule: OptimizerRule, trained: TrainedKinds) throws {
    let examples = PrivateRun.examples(24)
    var run = try PrivateRun(rate: 1, noise: 1e-12, divisor: Double(examples.count))
    let probe = try Bench(run)
    defer { probe.runner.pool.shutDown() }
    let norms = try examples.map { norm(try probe.gradient([$0], at: probe.start, trained).map { Double($0) }) }
    let bound = 2 * (norms.max() ?? 0)
    run.manifest.privacy.clippingNorm = bound
    let bench = try Bench(run)
    defer { bench.runner.pool.shutDown() }
    var options = bench.terms.options
    options.optimizer = rule
    options.learningRate = 0.01
    options.headLearningRate = 0.02
    options.schedule = LearningRateSchedule(shape: .linear, totalSteps: 10)
    let steps = 3
    let found = try bench.trained(examples, steps: steps, options: options, trained: trained)
    var expected = bench.start
    var optimizer = Optimizer(rule, layout: bench.runner.model.layout, trained: trained)
    for step in 0..<steps {
      let factor = options.schedule.factor(at: step)
      optimizer.step(
        &expected,
        gradient: try bench.gradient(examples, at: expected, trained),
        learningRate: Float(options.learningRate * factor),
        headLearningRate: Float(options.headLearningRate * factor)
      )
      #expect(
        try examples.allSatisfy {
          norm(try bench.gradient([$0], at: expected, trained).map { Double($0) }) < bound
        }
      )
    }
    let places = bench.places(trained)
    #expect(difference(found, expected) <= 1e-6 * norm(expected.map { Double($0) }))
    // Also of the change alone: single precision, and the grid's share for gradients of which none is tiny.
    let change = norm(places.map { Double(expected[$0]) - Double(bench.start[$0]) })
    #expect(difference(found, expected) <= 1e-5 * change && change > 1e-3)
    #expect(Set(bench.start.indices).subtracting(places).allSatisfy { found[$0] == bench.start[$0] })
  }

  @Test("sums gradients that are clipped one by one, as the textbook says", arguments: ["flat", "automatic"])
  func textbook(clipping: String) throws {
    let examples = PrivateRun.examples(30)
    var run = try PrivateRun(rate: 1, noise: 1e-12, divisor: 7)
    run.manifest.privacy.clipping = clipping
    let probe = try Bench(run)
    defer { probe.runner.pool.shutDown() }
    let gradients = try examples.map { try probe.gradient([$0], at: probe.start, probe.terms.trained) }
    let norms = gradients.map { norm($0.map { Double($0) }) }
    // Some are clipped, some are not.
    let bound = norms.sorted()[norms.count / 2] * 1.01
    run.manifest.privacy.clippingNorm = bound
    let bench = try Bench(run)
    defer { bench.runner.pool.shutDown() }
    var sum = [Double](repeating: 0, count: bench.start.count)
    for (gradient, norm) in zip(gradients, norms) {
      let factor = clipping == "flat" ? min(1, bound / norm) : bound / (norm + 0.01)
      for (index, value) in gradient.enumerated() { sum[index] += factor * Double(value) }
    }
    // One step of rate 1: what was subtracted is the sum over the divisor.
    let found = zip(bench.start, try bench.trained(examples)).map { (Double($0) - Double($1)) * 7 }
    let error = norm(zip(found, sum).map { $0 - $1 })
    #expect(error <= 1e-5 * norm(sum), "\(error / norm(sum))")
  }

  // MARK: Sizes of the draw

  @Test("draws in pieces what one piece gives, to the last bit")
  func chunks() throws {
    let examples = PrivateRun.examples(2 * PrivateTraining.examplesPerChunk + 77)
    // One sequence a slice, so that a gradient does not depend on its neighbours in a product.
    let bench = try Bench(try PrivateRun(rate: 1), tokensPerSlice: 1)
    defer { bench.runner.pool.shutDown() }
    let record = try bench.run.terms
    let trained = bench.terms.trained
    let (grid, clipping) = try record.mechanism(dimension: bench.runner.trainedCount(trained))
    var sums = [Int64](repeating: 0, count: grid.dimension)
    let summary = try bench.runner.addClipped(
      bench.batch(examples),
      parameters: bench.start,
      trained: trained,
      dropoutKey: nil,
      clipping: clipping,
      to: &sums
    )
    #expect(summary.examples == examples.count)
    grid.release(&sums, randomness: bench.randomness(), step: 0)
    var expected = bench.start
    for (place, sum) in zip(bench.places(trained), sums) { expected[place] -= Float(grid.value(sum) / record.divisor) }
    #expect(try bench.trained(examples) == expected)
  }

  @Test("takes every step, with noise and momentum, when no record is drawn")
  func emptyDraws() throws {
    let bench = try Bench(try PrivateRun(rate: 1e-15))
    defer { bench.runner.pool.shutDown() }
    let record = try bench.run.terms
    var options = bench.terms.options
    options.optimizer = .sgd(momentum: 0.5, weightDecay: 0.1)
    var seen: [Int] = []
    let found = try bench.trained(PrivateRun.examples(40), steps: 3, options: options) { seen.append($0) }
    #expect(seen == [1, 2, 3])
    let trained = bench.terms.trained
    let (grid, _) = try record.mechanism(dimension: bench.runner.trainedCount(trained))
    var expected = bench.start
    var optimizer = Optimizer(options.optimizer, layout: bench.runner.model.layout, trained: trained)
    for step in 0..<3 {
      var sums = [Int64](repeating: 0, count: grid.dimension)
      grid.release(&sums, randomness: bench.randomness(), step: step)
      var gradient = [Float](repeating: 0, count: bench.start.count)
      for (place, sum) in zip(bench.places(trained), sums) { gradient[place] = Float(grid.value(sum) / record.divisor) }
      optimizer.step(&expected, gradient: gradient, learningRate: 1, headLearningRate: 1)
    }
    #expect(found == expected)
    #expect(try bench.trained([], steps: 3, options: options) == expected)
  }

  // MARK: The divisor

  @Test("divides by the manifest's constant, whatever was drawn")
  func divisor() throws {
    let run = try PrivateRun(rate: 0.5, divisor: 8)
    let bench = try Bench(run)
    let other = try Bench(run.changed { $0.privacy.divisor = 32 })
    defer {
      bench.runner.pool.shutDown()
      other.runner.pool.shutDown()
    }
    // A start of zero, from which single precision subtracts without rounding.
    for count in [0, 1, 40] {
      let examples = PrivateRun.examples(count)
      let steps = zip(bench.start, try bench.trained(examples)).map { Double($0) - Double($1) }
      let quarters = zip(other.start, try other.trained(examples)).map { Double($0) - Double($1) }
      let error = norm(zip(steps, quarters).map { $0 - 4 * $1 })
      #expect(error <= 1e-6 * norm(steps), "\(count) examples")
    }
  }

  /// Under Poisson sampling a record more or less, with the same noise and the same draw of the others, moves what is released
  /// by at most C/divisor: the number of records appears nowhere.
  @Test("lets one record more move a step by at most C/divisor", arguments: [1, 0.5], ["flat", "automatic"])
  func neighbours(rate: Double, clipping: String) throws {
    let run = try PrivateRun(rate: rate, clippingNorm: 0.05, divisor: 4).changed { $0.privacy.clipping = clipping }
    let bench = try Bench(run, tokensPerSlice: 1)
    defer { bench.runner.pool.shutDown() }
    let most = 0.05 / 4
    var moved: [Double] = []
    for seed in 1...12 {
      let examples = PrivateRun.examples(21, seed: seed)
      let more = try bench.trained(examples, seed: UInt64(seed))
      let less = try bench.trained(Array(examples.dropLast()), seed: UInt64(seed))
      moved.append(difference(more, less))
    }
    // Parameters below 4 are rounded to 2⁻²³ at most.
    let rounding = Double(bench.start.count).squareRoot() * 0x1p-22
    #expect(moved.allSatisfy { $0 <= most + rounding }, "\(moved)")
    // Whoever is drawn is clipped here, so the bound is reached; at rate ½ some of twelve are not drawn.
    #expect((moved.max() ?? 0) >= 0.9 * most)
    #expect(moved.contains(0) == (rate < 1))
  }

  @Test("with too small or large a norm, noise or divisor is refused before a step is taken")
  func arithmetic() throws {
    let run = try PrivateRun()
    for change: (inout WirePrivacySpec) -> Void in [
      { $0.clippingNorm = .leastNonzeroMagnitude }, { $0.clippingNorm = 1e300 }, { $0.divisor = 1e-30 },
      { $0.divisor = 1e60 },
      { $0.noiseMultiplier = 1e-300 }, { $0.noiseMultiplier = 1e15 },
    ] {
      let terms = try run.changed { change(&$0.privacy) }.terms
      let refusal = #expect(throws: ManifestRefusal.self) { try terms.mechanism(dimension: 1000) }
      #expect(refusal?.code == "bad-term")
    }
    _ = try run.terms.mechanism(dimension: 1000)
  }
}
