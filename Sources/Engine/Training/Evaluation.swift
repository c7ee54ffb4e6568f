/// Loss and accuracy over a data set.
public enum Evaluation {
  /// Sequences that go through the model at once; the slices of a batch bound the memory, this bounds the copies.
  static let chunk = 256

  /// Evaluates `parameters` on all `examples`. Must run on the runner's pool (`pool.perform`).
  /// - Throws: `ModelError` for examples that do not fit the model.
  public static func run(
    _ runner: ModelRunner,
    parameters: [Float],
    examples: [EncodedExample]
  ) throws -> LossSummary {
    var total = LossSummary()
    for batch in batches(of: examples) { total = total + (try runner.evaluate(batch, parameters: parameters)) }
    return total
  }

  /// The pooled vectors of all examples, examples × hidden.
  public static func features(
    _ runner: ModelRunner,
    parameters: [Float],
    examples: [EncodedExample]
  ) throws -> [Float] {
    try batches(of: examples).flatMap { try runner.pooled($0, parameters: parameters) }
  }

  static func batches(of examples: [EncodedExample]) -> [PackedBatch] {
    stride(from: 0, to: examples.count, by: chunk).map { start in
      var batch = PackedBatch()
      for example in examples[start..<min(start + chunk, examples.count)] {
        batch.append(example)
      }
      return batch
    }
  }
}
