import FedLoRADP
import FedLoRAEngine

/// A stretch of DP-SGD steps on one client's examples (Abadi et al. 2016), from a fresh optimizer.
///
/// Every step, whatever was drawn: sample records, sum their clipped gradients on the integer grid, add Gaussian noise,
/// divide by the public constant, take an optimizer step. A step that drew nothing releases noise alone. What follows the
/// noise (optimizer state, weight decay, schedule) is post-processing.
///
/// Losses, norms, batch sizes and the number of clipped examples are about private data and are not returned.
package struct PrivateTraining: Sendable {
  let terms: RecordPrivacy
  let options: TrainingOptions
  let trained: TrainedKinds
  /// Sampling and noise.
  let randomness: SecretRandomness
  /// Dropout; may be known to everybody.
  let dropoutSeed: UInt64

  /// Examples whose tokens are in memory at once; the activations are bounded by the runner's slices.
  package static let examplesPerChunk = 512

  /// - Parameter randomness: a root that nothing else draws from, for one `run` only.
  package init(
    terms: RecordPrivacy,
    options: TrainingOptions,
    trained: TrainedKinds,
    randomness: SecretRandomness,
    dropoutSeed: UInt64
  ) {
    self.terms = terms
    self.options = options
    self.trained = trained
    self.randomness = randomness
    self.dropoutSeed = dropoutSeed
  }

  /// Trains `parameters` in place.
  /// - Parameters:
  ///   - runner: must be used from its pool's thread (`pool.perform`).
  ///   - examples: the client's records; may be few, or none that is ever drawn.
  ///   - steps: noised steps to take; they must be charged before.
  ///   - firstStep: place of the first step in the run, for the schedule.
  ///   - afterStep: called after every step with its number (from 1); throwing stops the training.
  /// - Throws: `ManifestRefusal` for terms that floating point cannot hold, `ModelError`, or what `afterStep` throws.
  package func run(
    _ runner: ModelRunner,
    parameters: inout [Float],
    examples: [EncodedExample],
    steps: Int,
    firstStep: Int,
    afterStep: (Int) throws -> Void = { _ in }
  ) throws {
    let ranges = runner.trainedRanges(trained)
    let count = runner.trainedCount(trained)
    let (grid, clipping) = try terms.mechanism(dimension: count)
    var optimizer = Optimizer(options.optimizer, layout: runner.model.layout, trained: trained)
    var gradient = [Float](repeating: 0, count: runner.model.layout.count)
    var sums = [Int64](repeating: 0, count: count)
    for step in 0..<steps {
      for index in 0..<count { sums[index] = 0 }
      let drawn = try draw(examples.count, step: step)
      for start in stride(from: 0, to: drawn.count, by: PrivateTraining.examplesPerChunk) {
        var batch = PackedBatch()
        for index in drawn[start..<min(start + PrivateTraining.examplesPerChunk, drawn.count)] {
          batch.append(examples[index])
        }
        _ = try runner.addClipped(
          batch,
          parameters: parameters,
          trained: trained,
          dropoutKey: SeededGenerator.derive(dropoutSeed, .number(UInt64(step)), .number(UInt64(start))),
          clipping: clipping,
          to: &sums
        )
      }
      // Other cores may have other clients: the noise is shared out as the step is.
      grid.release(&sums, randomness: randomness, step: step, threads: runner.pool.threadCount) { count, part in
        runner.pool.forEachThread { if $0 < count { part($0) } }
      }
      var place = 0
      for range in ranges {
        for index in range {
          gradient[index] = Float(grid.value(sums[place]) / terms.divisor)
          place += 1
        }
      }
      let factor = options.schedule.factor(at: firstStep + step)
      optimizer.step(
        &parameters,
        gradient: gradient,
        learningRate: Float(options.learningRate * factor),
        headLearningRate: Float(options.headLearningRate * factor)
      )
      try afterStep(step + 1)
    }
  }

  /// The records of one step.
  private func draw(_ count: Int, step: Int) throws -> [Int] {
    var stream = randomness.stream("sampling", step: step)
    switch terms.sampling {
    case .poisson(let rate): return try PoissonSampler(rate: rate).draw(count: count, from: &stream)
    case .fixedSize(let rate):
      // Under replace-one the number of records is public; rounding down keeps the share at most the rate.
      let size = Int(rate * Double(count))
      return size == 0 ? [] : try FixedSizeSampler(size: size, count: count).draw(from: &stream)
    }
  }
}
