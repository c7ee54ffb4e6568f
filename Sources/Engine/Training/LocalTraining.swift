/// How a client trains within a round.
public struct TrainingOptions: Sendable, Equatable {
  /// Examples of a step.
  public var batchSize: Int
  /// The optimizer.
  public var optimizer: OptimizerRule
  /// For A and B.
  public var learningRate: Double
  /// For the head.
  public var headLearningRate: Double
  /// Factor on both over the run.
  public var schedule: LearningRateSchedule
  /// Largest joint gradient norm; nil switches clipping off.
  public var maxGradientNorm: Double?

  /// Takes all options.
  public init(
    batchSize: Int,
    optimizer: OptimizerRule,
    learningRate: Double,
    headLearningRate: Double,
    schedule: LearningRateSchedule,
    maxGradientNorm: Double?
  ) {
    self.batchSize = batchSize
    self.optimizer = optimizer
    self.learningRate = learningRate
    self.headLearningRate = headLearningRate
    self.schedule = schedule
    self.maxGradientNorm = maxGradientNorm
  }
}

/// A stretch of optimizer steps on one client's examples, from a fresh optimizer.
///
/// Everything random comes from `seed`: the same seed, parameters and examples give the same result, which is what
/// lets a client that died in a round do it again.
public struct LocalTraining: Sendable {
  /// The options.
  public let options: TrainingOptions
  /// The kinds that are trained.
  public let trained: TrainedKinds
  /// Order of batches and dropout.
  public let seed: UInt64

  /// Takes options, trained kinds and seed.
  public init(options: TrainingOptions, trained: TrainedKinds, seed: UInt64) {
    self.options = options
    self.trained = trained
    self.seed = seed
  }

  /// Trains `parameters` in place.
  /// - Parameters:
  ///   - runner: must be used from its pool's thread (`pool.perform`).
  ///   - examples: at least one.
  ///   - steps: optimizer steps to take.
  ///   - firstStep: place of the first step in the run, for the schedule.
  ///   - afterStep: called after every step with its number (from 1) and the losses so far; throwing stops the training.
  /// - Returns: the losses of all steps, each taken before its update.
  /// - Throws: `ModelError`, or what `afterStep` throws.
  public func run(
    _ runner: ModelRunner,
    parameters: inout [Float],
    examples: [EncodedExample],
    steps: Int,
    firstStep: Int,
    afterStep: (Int, LossSummary) throws -> Void = { _, _ in }
  ) throws -> LossSummary {
    guard !examples.isEmpty else { throw ModelError.badBatch(reason: "there is no training example") }
    var optimizer = Optimizer(options.optimizer, layout: runner.model.layout, trained: trained)
    var gradient = [Float](repeating: 0, count: runner.model.layout.count)
    var sampler = BatchSampler(
      count: examples.count,
      batchSize: options.batchSize,
      seed: SeededGenerator.derive(seed, "batches")
    )
    let dropoutSeed = SeededGenerator.derive(seed, "dropout")
    var total = LossSummary()
    var batch = PackedBatch()
    for step in 0..<steps {
      batch.removeAll()
      sampler.forEachNext { batch.append(examples[$0]) }
      let summary = try runner.gradient(
        of: batch,
        parameters: parameters,
        trained: trained,
        dropoutKey: SeededGenerator.derive(dropoutSeed, .number(UInt64(step))),
        into: &gradient
      )
      if let bound = options.maxGradientNorm { GradientNorm.clip(&gradient, to: bound) }
      let factor = options.schedule.factor(at: firstStep + step)
      optimizer.step(
        &parameters,
        gradient: gradient,
        learningRate: Float(options.learningRate * factor),
        headLearningRate: Float(options.headLearningRate * factor)
      )
      total = total + summary
      try afterStep(step + 1, total)
    }
    return total
  }
}
