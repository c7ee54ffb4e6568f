import CKernels

/// Gradients of single examples: clipped and added, for private training.
///
/// LoRA's per-example gradients are small products over an example's own tokens (dBᵢ = s dYᵢᵀ Hᵢ, dAᵢ = dHᵢᵀ Xᵢ), so they
/// are formed outright, one slice at a time, in the same backward pass that a plain step has. Everything trained counts
/// in one norm: A, B and head together.
extension ModelRunner {
  /// The trained elements of the flat vector, in ascending order, neighbours joined.
  public func trainedRanges(_ trained: TrainedKinds) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    for entry in model.layout.entries where trained.includes(entry.kind) {
      if let last = ranges.last, last.upperBound == entry.offset {
        ranges[ranges.count - 1] = last.lowerBound..<entry.range.upperBound
      } else {
        ranges.append(entry.range)
      }
    }
    return ranges
  }

  /// Number of trained elements: the length of a clipped sum.
  public func trainedCount(_ trained: TrainedKinds) -> Int { trainedRanges(trained).reduce(0) { $0 + $1.count } }

  /// Adds each example's gradient of its own loss, clipped and rounded to the grid, to `sums`.
  ///
  /// Memory is bounded by slices however many sequences the batch has. The result does not depend on the number of
  /// threads or slices but for the rounding inside a single example's gradient.
  /// - Parameters:
  ///   - batch: sequences with labels; none is allowed.
  ///   - parameters: flat vector in the model's layout.
  ///   - trained: the kinds that get a gradient.
  ///   - dropoutKey: nil switches dropout off.
  ///   - clipping: bound and grid.
  ///   - sums: `trainedCount(trained)` elements in units of the grid's step.
  /// - Throws: `ModelError.badBatch` or `ModelError.wrongParameter`.
  public func addClipped(
    _ batch: PackedBatch,
    parameters: [Float],
    trained: TrainedKinds,
    dropoutKey: UInt64?,
    clipping: ExampleClipping,
    to sums: inout [Int64]
  ) throws -> ClippedSummary {
    try check(batch, parameters)
    let workers = exampleWorkers(trained)
    try check(sums.count, workers)
    for worker in workers { worker.begin() }
    let losses = run(
      batch,
      parameters: parameters,
      dropoutKey: model.adapter.dropout > 0 ? dropoutKey : nil,
      sequencesPerSlice: ExampleGradients.sequencesPerSlice(stride: model.layout.count),
      work: .clipped(trained, workers, clipping)
    )
    var summary = ClippedSummary()
    for worker in workers {
      worker.addTotal(to: &sums)
      summary = summary + worker.summary
    }
    summary.losses = losses
    return summary
  }

  /// Adds each example's gradient as it is to `sums`: what `addClipped` would do without bound and grid, for comparison.
  /// - Throws: as `addClipped`.
  public func addUnclipped(
    _ batch: PackedBatch,
    parameters: [Float],
    trained: TrainedKinds,
    dropoutKey: UInt64?,
    to sums: inout [Float]
  ) throws -> LossSummary {
    try check(batch, parameters)
    let workers = exampleWorkers(trained)
    let count = sums.count
    try check(count, workers)
    let totals = (0..<pool.threadCount).map { _ in UnsafeMutablePointer<Float>.allocate(capacity: max(count, 1)) }
    defer { for total in totals { total.deallocate() } }
    for total in totals { total.update(repeating: 0, count: count) }
    let losses = forEachSlice(batch, parameters, trained, dropoutKey, workers) { thread, sequences in
      workers[thread].add(sequences.count, into: totals[thread])
    }
    sums.withUnsafeMutableBufferPointer { sums in
      guard let start = sums.baseAddress else { return }
      for total in totals { fl_add(start, total, count) }
    }
    return losses
  }

  /// Every example's own gradient, trained elements only, for tests and audits.
  package func exampleGradients(
    _ batch: PackedBatch,
    parameters: [Float],
    trained: TrainedKinds,
    dropoutKey: UInt64? = nil
  ) throws -> [[Float]] {
    try check(batch, parameters)
    let workers = exampleWorkers(trained)
    var found = [[Float]](repeating: [], count: batch.count)
    found.withUnsafeMutableBufferPointer { found in
      nonisolated(unsafe) let found = found
      _ = forEachSlice(batch, parameters, trained, dropoutKey, workers) { thread, sequences in
        for (place, sequence) in sequences.enumerated() { found[sequence] = workers[thread].gradient(of: place) }
      }
    }
    return found
  }

  private func check(_ given: Int, _ workers: [ExampleGradients]) throws {
    guard let count = workers.first?.trainedCount, given != count else { return }
    throw ModelError.wrongParameter(name: "sums", reason: "has \(given) elements, expected \(count)")
  }

  /// Runs forward and backward on every slice, each example's gradient in a vector of its own, then `body(thread, its
  /// sequences)`.
  private func forEachSlice(
    _ batch: PackedBatch,
    _ parameters: [Float],
    _ trained: TrainedKinds,
    _ dropoutKey: UInt64?,
    _ workers: [ExampleGradients],
    _ body: @escaping (Int, Range<Int>) -> Void
  ) -> LossSummary {
    let most = ExampleGradients.sequencesPerSlice(stride: model.layout.count)
    let key = model.adapter.dropout > 0 ? dropoutKey : nil
    return run(batch, parameters: parameters, dropoutKey: key, sequencesPerSlice: most) { pass, input, thread in
      let summary = pass.loss(input, scale: .ownMean)
      pass.backward(input, trained: trained, gradients: workers[thread].prepare(input.sequences.count))
      body(thread, input.sequences)
      return summary
    }
  }
}
