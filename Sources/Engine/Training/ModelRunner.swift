import CKernels
import FedLoRALinearAlgebra
import Foundation
import Synchronization

/// What a pass over labelled sequences, or over tokens with a target, found.
public struct LossSummary: Sendable, Equatable {
  /// Sum of the cross-entropies, in nats; under a regression of the squared errors.
  public var lossSum: Double
  /// Sequences whose largest logit is their label, or tokens whose largest is their target.
  public var correct: Int
  /// Sequences with a label, or tokens with a target.
  public var count: Int

  /// Nothing seen yet.
  public init(lossSum: Double = 0, correct: Int = 0, count: Int = 0) {
    self.lossSum = lossSum
    self.correct = correct
    self.count = count
  }

  /// Mean cross-entropy, or mean squared error; 0 over nothing.
  public var meanLoss: Double { count == 0 ? 0 : lossSum / Double(count) }
  /// exp of the mean cross-entropy: over how many tokens, all alike, a language model hesitates. 1 over nothing.
  public var perplexity: Double { exp(meanLoss) }
  /// Share of correct ones; 0 over nothing.
  public var accuracy: Double { count == 0 ? 0 : Double(correct) / Double(count) }

  static func + (left: LossSummary, right: LossSummary) -> LossSummary {
    LossSummary(
      lossSum: left.lossSum + right.lossSum,
      correct: left.correct + right.correct,
      count: left.count + right.count
    )
  }
}

/// Runs batches through an adapted model on a pool of threads: slices of the batch in as many parts as the pool has, each
/// part with its own gradient sum, which are then added in a fixed order. The same batch, parameters, `threadCount` and
/// BLAS kernel give the same bits, however many threads share the parts.
///
/// `@unchecked Sendable`: one call at a time, which its owner guarantees by calling it inside `pool.perform`.
public final class ModelRunner: @unchecked Sendable {
  /// The model with its adapter and head.
  public let model: AdaptedModel
  /// The threads.
  public let pool: ComputePool
  /// Tokens that a slice aims at: enough for an efficient product, few enough for its activations.
  public let tokensPerSlice: Int

  let passes: [SlicePass]
  /// Those of `passes` that nobody works with. Where one thread takes all parts, it takes the same activations again and again.
  private let idlePasses: Mutex<[Int]>
  /// What each part found in a pass.
  private let summaries: UnsafeMutablePointer<LossSummary>
  /// The slices of the batch that runs; kept, so that a step allocates nothing.
  private var slices: [Range<Int>] = []
  private var job: Job?
  /// What each part calls; kept for the same reason.
  private var serve: (Int) -> Void = { _ in }
  private let sums: [UnsafeMutablePointer<Float>]
  private var exampleWorkers: (trained: TrainedKinds, workers: [ExampleGradients])?

  /// Prepares one pass and one gradient sum per part; activations are made when they are first needed.
  /// - Parameter tokensPerSlice: nil takes what fits the model.
  public init(model: AdaptedModel, pool: ComputePool, tokensPerSlice: Int? = nil) {
    self.model = model
    self.pool = pool
    let fitting = ModelRunner.tokensPerSlice(bytesPerToken: ModelRunner.bytesPerToken(of: model))
    self.tokensPerSlice = max(1, tokensPerSlice ?? fitting)
    passes = (0..<pool.threadCount).map { _ in SlicePass(model) }
    idlePasses = Mutex(Array(passes.indices.reversed()))
    sums = (0..<pool.threadCount).map { _ in .allocate(capacity: max(model.layout.count, 1)) }
    summaries = .allocate(capacity: pool.threadCount)
    serve = { [unowned self] thread in runSlices(thread) }
  }

  deinit {
    for sum in sums { sum.deallocate() }
    summaries.deallocate()
  }

  /// 1,024, or fewer where a part's activations would take more than 256 MiB, down to 512: with fewer, products with a model that
  /// wide begin to lose speed.
  package static func tokensPerSlice(bytesPerToken: Int) -> Int {
    min(1024, max(512, (256 << 20) / max(1, bytesPerToken)))
  }

  /// Bytes that a training pass keeps of each token for its way back.
  package static func bytesPerToken(of model: AdaptedModel) -> Int { PassBuffers.bytesPerToken(model) }

  /// Bytes of activations held for reuse over all threads.
  public var activationByteCount: Int { passes.reduce(0) { $0 + $1.byteCount } }

  /// The mean loss's gradient with respect to all `trained` parameters; other places of `gradient` become 0.
  /// - Parameters:
  ///   - batch: sequences with labels.
  ///   - parameters: flat vector in the model's layout.
  ///   - trained: the kinds that get a gradient.
  ///   - dropoutKey: nil switches dropout off.
  ///   - gradient: flat vector in the model's layout.
  /// - Throws: `ModelError.badBatch` or `ModelError.wrongParameter`.
  public func gradient(
    of batch: PackedBatch,
    parameters: [Float],
    trained: TrainedKinds,
    dropoutKey: UInt64?,
    into gradient: inout [Float]
  ) throws -> LossSummary {
    try check(batch, parameters)
    guard gradient.count == model.layout.count else {
      throw ModelError.wrongParameter(
        name: "gradient",
        reason: "has \(gradient.count) elements, expected \(model.layout.count)"
      )
    }
    let units = model.head == nil ? batch.targetCount : batch.count
    let scale = LossScale.each(units == 0 ? 0 : 1 / Float(units))
    let key = model.adapter.dropout > 0 ? dropoutKey : nil
    for sum in sums { sum.update(repeating: 0, count: model.layout.count) }
    let total = run(batch, parameters: parameters, dropoutKey: key, work: .gradient(scale, trained))
    gradient.withUnsafeMutableBufferPointer { target in
      guard let start = target.baseAddress else { return }
      start.update(from: sums[0], count: target.count)
      for sum in sums.dropFirst() { fl_add(start, sum, target.count) }
    }
    return total
  }

  /// Loss and accuracy without gradients; sequences with label −1, and tokens with target −1, are not counted.
  public func evaluate(_ batch: PackedBatch, parameters: [Float]) throws -> LossSummary {
    try check(batch, parameters)
    return run(batch, parameters: parameters, dropoutKey: nil) { pass, input, _ in
      pass.loss(input, scale: .none)
    }
  }

  /// The logits of every token (tokens × vocabulary) of a language model.
  public func tokenLogits(_ batch: PackedBatch, parameters: [Float]) throws -> [Float] {
    try check(batch, parameters)
    let vocabulary = model.base.spec.vocabularySize
    return [Float](unsafeUninitializedCapacity: batch.tokens.count * vocabulary) { target, written in
      nonisolated(unsafe) let start = target.baseAddress
      _ = run(batch, parameters: parameters, dropoutKey: nil) { pass, input, _ in
        if let start { pass.tokenLogits(input, to: start + input.firstToken * vocabulary) }
        return LossSummary()
      }
      written = batch.tokens.count * vocabulary
    }
  }

  /// A classifier's logits of every sequence, row after row.
  public func logits(_ batch: PackedBatch, parameters: [Float]) throws -> [Float] {
    try check(batch, parameters)
    let labels = model.head?.labelCount ?? 0
    return [Float](unsafeUninitializedCapacity: batch.count * labels) { target, written in
      nonisolated(unsafe) let start = target.baseAddress
      _ = run(batch, parameters: parameters, dropoutKey: nil) { pass, input, _ in
        let logits = pass.forward(input, isTraining: false)
        if let start {
          (start + input.sequences.lowerBound * labels).update(from: logits, count: input.sequences.count * labels)
        }
        return LossSummary()
      }
      written = batch.count * labels
    }
  }

  /// Pooled vectors (sequences × hidden) before the classifier, for baselines on frozen features.
  public func pooled(_ batch: PackedBatch, parameters: [Float]) throws -> [Float] {
    try check(batch, parameters)
    let hidden = model.base.spec.hiddenSize
    return [Float](unsafeUninitializedCapacity: batch.count * hidden) { target, written in
      nonisolated(unsafe) let start = target.baseAddress
      _ = run(batch, parameters: parameters, dropoutKey: nil) { pass, input, _ in
        pass.forward(input, isTraining: false)
        if let start, let vectors = pass.pooledVectors {
          (start + input.sequences.lowerBound * hidden).update(from: vectors, count: input.sequences.count * hidden)
        }
        return LossSummary()
      }
      written = batch.count * hidden
    }
  }

  /// Output of every layer for the whole batch run as one slice: embeddings first, each tokens × hidden.
  package func hiddenStates(_ batch: PackedBatch, parameters: [Float]) throws -> [[Float]] {
    try check(batch, parameters)
    let size = batch.tokens.count * model.base.spec.hiddenSize
    var result: [[Float]] = []
    // Every layer is kept only from the lowest adapted one up; the others are read right after they are written.
    parameters.withUnsafeBufferPointer { values in
      guard let start = values.baseAddress else { return }
      let input = SlicePass.Input(
        batch: batch,
        sequences: 0..<batch.count,
        parameters: start,
        dropout: .init(key: nil, probability: 0, firstToken: 0)
      )
      passes[0].forward(input, isTraining: true)
      for layer in -1..<model.base.spec.layerCount {
        guard layer < 0 || layer >= model.lowestAdaptedLayer, let state = passes[0].hiddenState(after: layer) else {
          continue
        }
        result.append(Array(UnsafeBufferPointer(start: state, count: size)))
      }
    }
    return result
  }

  /// One buffer of per-example gradients a thread, kept as long as the same kinds are trained.
  func exampleWorkers(_ trained: TrainedKinds) -> [ExampleGradients] {
    if let exampleWorkers, exampleWorkers.trained == trained { return exampleWorkers.workers }
    let ranges = trainedRanges(trained)
    let workers = (0..<pool.threadCount).map { _ in ExampleGradients(stride: model.layout.count, ranges: ranges) }
    exampleWorkers = (trained, workers)
    return workers
  }

  func check(_ batch: PackedBatch, _ parameters: [Float]) throws {
    try batch.validate(for: model)
    guard parameters.count == model.layout.count else {
      throw ModelError.wrongParameter(
        name: "parameters",
        reason: "have \(parameters.count) elements, expected \(model.layout.count)"
      )
    }
  }

  /// What is done with every slice of a batch.
  enum Work {
    /// Its gradients are added to the thread's sum.
    case gradient(LossScale, TrainedKinds)
    /// Each example's gradient is clipped and added to the thread's integer sum.
    case clipped(TrainedKinds, [ExampleGradients], ExampleClipping)
    /// Called with the thread's pass, the slice and the thread's number.
    case other((SlicePass, SlicePass.Input, Int) -> LossSummary)
  }

  private struct Job {
    let batch: PackedBatch
    let parameters: UnsafePointer<Float>
    let dropoutKey: UInt64?
    let work: Work
  }

  /// Runs `body` on every slice of the batch, and adds what it found.
  func run(
    _ batch: PackedBatch,
    parameters: [Float],
    dropoutKey: UInt64?,
    sequencesPerSlice: Int = .max,
    _ body: @escaping (SlicePass, SlicePass.Input, Int) -> LossSummary
  ) -> LossSummary {
    run(
      batch,
      parameters: parameters,
      dropoutKey: dropoutKey,
      sequencesPerSlice: sequencesPerSlice,
      work: .other(body)
    )
  }

  /// - Parameter sequencesPerSlice: most sequences of a slice.
  func run(
    _ batch: PackedBatch,
    parameters: [Float],
    dropoutKey: UInt64?,
    sequencesPerSlice: Int = .max,
    work: Work
  ) -> LossSummary {
    BLAS.configure()
    let threads = pool.threadCount
    batch.cut(
      threads: threads,
      tokensPerSlice: tokensPerSlice,
      sequencesPerSlice: sequencesPerSlice,
      into: &slices
    )
    summaries.initialize(repeating: LossSummary(), count: threads)
    parameters.withUnsafeBufferPointer { values in
      guard let start = values.baseAddress else { return }
      job = Job(batch: batch, parameters: start, dropoutKey: dropoutKey, work: work)
      pool.forEachThread(serve)
      job = nil
    }
    var total = LossSummary()
    for thread in 0..<threads { total = total + summaries[thread] }
    return total
  }

  /// Slices `thread`, `thread` + threads and so on: which part of the pool's loop sums what never depends on which thread takes it.
  private func runSlices(_ thread: Int) {
    guard let job else { return }
    // With threads of its own each part has its activations; otherwise as many are made as threads are at work together.
    var place = thread
    if pool.sharesThreads {
      // There are as many passes as parts, and no part runs twice: one is always free.
      let free = idlePasses.withLock { $0.popLast() }
      guard let free else { preconditionFailure("more parts run at a time than the pool's loops have") }
      place = free
    }
    defer { if pool.sharesThreads { idlePasses.withLock { $0.append(place) } } }
    var own = LossSummary()
    for slice in stride(from: thread, to: slices.count, by: pool.threadCount) {
      let first = job.batch.offsets[slices[slice].lowerBound]
      let input = SlicePass.Input(
        batch: job.batch,
        sequences: slices[slice],
        parameters: job.parameters,
        dropout: .init(key: job.dropoutKey, probability: model.adapter.dropout, firstToken: first)
      )
      own = own + run(job.work, passes[place], input, thread)
    }
    summaries[thread] = own
  }

  private func run(_ work: Work, _ pass: SlicePass, _ input: SlicePass.Input, _ thread: Int) -> LossSummary {
    switch work {
    case .gradient(let scale, let trained):
      let summary = pass.loss(input, scale: scale)
      pass.backward(input, trained: trained, gradients: .sum(sums[thread]))
      return summary
    case .clipped(let trained, let workers, let clipping):
      let summary = pass.loss(input, scale: .ownMean)
      pass.backward(input, trained: trained, gradients: workers[thread].prepare(input.sequences.count))
      workers[thread].clip(input.sequences.count, clipping)
      return summary
    case .other(let body): return body(pass, input, thread)
    }
  }
}
