// How many blocks of memory each step of a training asks for, as JSON: a program of its own, because it counts by standing in for
// the allocator.
//
// usage: step-allocations MODEL ADAPTER plain|private|language THREADS

import CMeter
import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Synchronization

struct Usage: Error, CustomStringConvertible {
  var description: String { "usage: step-allocations MODEL ADAPTER plain|private|language THREADS" }
}

/// The blocks that each of `count` calls of `step` asked for.
func measure(_ count: Int, _ step: (Int) throws -> Void) rethrows -> [UInt64] {
  var found: [UInt64] = []
  found.reserveCapacity(count)
  for index in 0..<count {
    meter_arm(nil, 0, 0)
    try step(index)
    found.append(meter_blocks())
    _ = meter_disarm()
  }
  return found
}

/// Records of one length: in whatever order they come, a batch is cut alike, and a step fits what the first one made.
func examples(vocabulary: Int, isLanguage: Bool) -> [EncodedExample] {
  (0..<24).map { index in
    let tokens = (0..<10).map { Int32(3 + ($0 * 7 + index) % (vocabulary - 3)) }
    let types = [Int32](repeating: 0, count: tokens.count)
    guard isLanguage else { return EncodedExample(ids: tokens, typeIds: types, label: index % 3) }
    return EncodedExample(ids: tokens, targets: [2..<tokens.count])
  }
}

let arguments = CommandLine.arguments
guard arguments.count == 5, let threads = Int(arguments[4]) else { throw Usage() }
let kind = arguments[3]
let folder = try PEFTAdapterFolder(reading: URL(fileURLWithPath: arguments[2]))
let model = try AdaptedModel(
  base: FrozenModel(folder: URL(fileURLWithPath: arguments[1])),
  adapter: LoRAConfiguration(peft: folder.configuration),
  head: kind == "language" ? nil : ClassificationHead(labelCount: 3, pooling: .mean)
)
// OpenBLAS's AVX-512 kernels for small products pack into a block that they ask for and give back themselves. That is nothing
// that the engine could leave, and on models of everyday sizes these kernels do not run.
_ = meter_leave_out("libopenblas")
let pool = ComputePool(threadCount: threads)
// Threads that start up meanwhile ask for memory too; they are not what is counted.
let arrived = Atomic(0)
pool.forEachThread { _ in
  meter_watch()
  // A thread that waits here takes no other part: so each has one.
  arrived.add(1, ordering: .relaxed)
  while arrived.load(ordering: .relaxed) < threads { usleep(100) }
}
let runner = ModelRunner(model: model, pool: pool, tokensPerSlice: 40)
func count() throws -> [UInt64] {
  let examples = examples(vocabulary: model.base.spec.vocabularySize, isLanguage: kind == "language")
  var parameters = [Float](repeating: 0.01, count: model.layout.count)
  let options = TrainingOptions(
    batchSize: 24,
    optimizer: .defaultAdamW,
    learningRate: 1e-3,
    headLearningRate: 1e-3,
    schedule: LearningRateSchedule(shape: .cosine, warmupSteps: 2, totalSteps: 8),
    maxGradientNorm: 1
  )
  let training = LocalTraining(options: options, trained: [.loraA, .loraB, .head], seed: 1)
  guard kind == "private" else {
    var found: [UInt64] = []
    found.reserveCapacity(8)
    meter_arm(nil, 0, 0)
    _ = try training.run(runner, parameters: &parameters, examples: examples, steps: 8, firstStep: 0) { _, _ in
      found.append(meter_blocks())
      _ = meter_disarm()
      meter_arm(nil, 0, 0)
    }
    _ = meter_disarm()
    return found
  }
  var batch = PackedBatch()
  for example in examples { batch.append(example) }
  var sums = [Int64](repeating: 0, count: runner.trainedCount(training.trained))
  let clipping = try ExampleClipping(rule: .flat, bound: 1, step: 1e-6)
  return try measure(8) { step in
    _ = try runner.addClipped(
      batch,
      parameters: parameters,
      trained: training.trained,
      dropoutKey: UInt64(step),
      clipping: clipping,
      to: &sums
    )
  }
}
struct Report: Encodable {
  let countsMemory: Bool
  let blocks: [UInt64]
}
FileHandle.standardOutput.write(
  try JSONEncoder().encode(Report(countsMemory: meter_counts_memory() != 0, blocks: count()))
)
