import FedLoRADP
import FedLoRAEngine
import Foundation

/// One setting: plain and private steps in turns, so that what else the machine does falls on both.
struct StepComparison {
  let model: AdaptedModel
  let batch: PackedBatch
  let trained: TrainedKinds
  let threads: Int
  let noiseMultiplier: Double
  /// Told the times of every pair of steps.
  let report: @Sendable (_ plain: StepTime, _ private: StepTime) -> Void

  /// Each step's times, without those that warm up.
  struct Times {
    var plain: [StepTime] = []
    var secret: [StepTime] = []
    /// The part of `secret` in which the noise is drawn and added.
    var noise: [Double] = []
  }

  /// - Parameter isWanted: asked before each pair of steps, by its number; the first that is not wanted ends the run.
  func measure(while isWanted: @Sendable @escaping (Int) -> Bool) async throws -> StepReport {
    let pool = ComputePool(threadCount: threads)
    defer { pool.shutDown() }
    let runner = ModelRunner(model: model, pool: pool)
    let times = try await pool.perform { try run(runner, while: isWanted) }
    return StepReport(comparison: self, coordinates: runner.trainedCount(trained), times: times)
  }

  private func run(_ runner: ModelRunner, while isWanted: (Int) -> Bool) throws -> Times {
    let start = (0..<model.layout.count).map { Float(sin(Double($0) * 12.9898)) * 0.02 }
    var plain = PlainStepping(runner: runner, trained: trained, parameters: start)
    var secret = try PrivateStepping(
      runner: runner,
      trained: trained,
      parameters: start,
      noiseMultiplier: noiseMultiplier,
      divisor: Double(batch.count)
    )
    var times = Times()
    // Warms up, and makes all buffers.
    try plain.step(batch)
    try secret.step(batch)
    var step = 0
    while isWanted(step) {
      // Neither is always the first: the first of a pair finds other data in the caches than the second.
      if step % 2 == 0 { times.plain.append(try StepTime { try plain.step(batch) }) }
      times.secret.append(try StepTime { try secret.step(batch) })
      if step % 2 != 0 { times.plain.append(try StepTime { try plain.step(batch) }) }
      times.noise.append(secret.noiseTime.wall)
      if let plain = times.plain.last, let secret = times.secret.last { report(plain, secret) }
      step += 1
    }
    return times
  }
}
/// What a step took, in seconds.
struct StepTime {
  let wall: Double
  /// Of all threads together. It leaves out the time that other programs had the processor.
  let processor: Double

  init(of body: () throws -> Void) rethrows {
    let start = (wall: Self.now(CLOCK_MONOTONIC), processor: Self.now(CLOCK_PROCESS_CPUTIME_ID))
    try body()
    wall = Self.now(CLOCK_MONOTONIC) - start.wall
    processor = Self.now(CLOCK_PROCESS_CPUTIME_ID) - start.processor
  }

  private static func now(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}

/// Ordinary training.
private struct PlainStepping {
  let runner: ModelRunner
  let trained: TrainedKinds
  var parameters: [Float]
  var gradient: [Float]
  var optimizer: Optimizer

  init(runner: ModelRunner, trained: TrainedKinds, parameters: [Float]) {
    self.runner = runner
    self.trained = trained
    self.parameters = parameters
    gradient = [Float](repeating: 0, count: parameters.count)
    optimizer = Optimizer(.defaultAdamW, layout: runner.model.layout, trained: trained)
  }

  mutating func step(_ batch: PackedBatch) throws {
    _ = try runner.gradient(of: batch, parameters: parameters, trained: trained, dropoutKey: nil, into: &gradient)
    optimizer.step(&parameters, gradient: gradient, learningRate: 1e-4, headLearningRate: 1e-4)
  }
}

/// Private training as a client does it, after its records are drawn.
private struct PrivateStepping {
  let runner: ModelRunner
  let trained: TrainedKinds
  let divisor: Double
  let grid: NoiseGrid
  let clipping: ExampleClipping
  let ranges: [Range<Int>]
  let randomness = SecretRandomness.system()
  var parameters: [Float]
  var gradient: [Float]
  var sums: [Int64]
  var optimizer: Optimizer
  var stepCount = 0
  var noiseTime = StepTime {}

  init(
    runner: ModelRunner,
    trained: TrainedKinds,
    parameters: [Float],
    noiseMultiplier: Double,
    divisor: Double
  ) throws {
    self.runner = runner
    self.trained = trained
    self.divisor = divisor
    self.parameters = parameters
    let count = runner.trainedCount(trained)
    ranges = runner.trainedRanges(trained)
    grid = try NoiseGrid(clippingNorm: 1, noiseMultiplier: noiseMultiplier, dimension: count)
    clipping = try ExampleClipping(rule: .flat, bound: grid.clippingLimit, step: grid.step)
    gradient = [Float](repeating: 0, count: parameters.count)
    sums = [Int64](repeating: 0, count: count)
    optimizer = Optimizer(.defaultAdamW, layout: runner.model.layout, trained: trained)
  }

  mutating func step(_ batch: PackedBatch) throws {
    for index in sums.indices { sums[index] = 0 }
    _ = try runner.addClipped(
      batch,
      parameters: parameters,
      trained: trained,
      dropoutKey: nil,
      clipping: clipping,
      to: &sums
    )
    noiseTime = StepTime {
      grid.release(&sums, randomness: randomness, step: stepCount, threads: runner.pool.threadCount)
    }
    stepCount += 1
    var place = 0
    for range in ranges {
      for index in range {
        gradient[index] = Float(grid.value(sums[place]) / divisor)
        place += 1
      }
    }
    optimizer.step(&parameters, gradient: gradient, learningRate: 1e-4, headLearningRate: 1e-4)
  }
}
