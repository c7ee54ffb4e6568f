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

  /// Seconds of each step, without those that warm up.
  struct Times {
    var plain: [Double] = []
    var secret: [Double] = []
    /// The part of `secret` in which the noise is drawn and added.
    var noise: [Double] = []
  }

  func measure(steps: Int) async throws -> StepReport {
    let pool = ComputePool(threadCount: threads)
    defer { pool.shutDown() }
    let runner = ModelRunner(model: model, pool: pool)
    let times = try await pool.perform { try run(runner, steps: steps) }
    return StepReport(comparison: self, coordinates: runner.trainedCount(trained), times: times)
  }

  private func run(_ runner: ModelRunner, steps: Int) throws -> Times {
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
    for step in -1..<steps {
      // Neither is always the first: the first of a pair finds other data in the caches than the second.
      var first = 0.0
      if step % 2 == 0 { first = try Self.seconds { try plain.step(batch) } }
      let second = try Self.seconds { try secret.step(batch) }
      if step % 2 != 0 { first = try Self.seconds { try plain.step(batch) } }
      guard step >= 0 else { continue }
      times.plain.append(first)
      times.secret.append(second)
      times.noise.append(secret.noiseSeconds)
    }
    return times
  }

  static func seconds(_ body: () throws -> Void) rethrows -> Double {
    let start = DispatchTime.now().uptimeNanoseconds
    try body()
    return Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
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
  var noiseSeconds = 0.0

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
    noiseSeconds = StepComparison.seconds {
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
