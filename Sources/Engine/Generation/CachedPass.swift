import FedLoRALinearAlgebra

/// Extends sequences by tokens on their caches, on one thread: the step of generation.
///
/// `@unchecked Sendable`: each instance belongs to one thread.
final class CachedPass: @unchecked Sendable {
  /// Most sequences that can be extended together: the logits of so many rows fit the pass's buffers.
  static let mostSequences = 32
  /// Tokens of a prompt that go through the model at a time; it bounds the memory of a long prompt, not the result.
  static let chunk = 512

  private let pass: SlicePass
  private let parameters: UnsafePointer<Float>

  /// - Parameter parameters: flat vector in the model's layout, which outlives this.
  init(_ model: AdaptedModel, parameters: UnsafePointer<Float>, merged: MergedAdapter?) {
    pass = SlicePass(model)
    pass.merged = merged
    self.parameters = parameters
  }

  /// Runs `tokens` behind what `cache` holds.
  /// - Parameter body: gets the logits of the last token, vocabulary floats that it may change, valid until it returns.
  func extend(
    _ cache: KeyValueCache,
    by tokens: [Int32],
    _ body: (UnsafeMutablePointer<Float>) throws -> Void
  ) rethrows {
    var start = 0
    while start < tokens.count {
      let end = min(start + Self.chunk, tokens.count)
      let input = run([cache], [Array(tokens[start..<end])])
      if end == tokens.count { try lastLogits(input) { try body($0) } }
      start = end
    }
  }

  /// Runs one token behind each cache.
  /// - Parameter body: gets the logits of each, caches × vocabulary.
  func step(
    _ caches: [KeyValueCache],
    _ tokens: [Int32],
    _ body: (UnsafeMutablePointer<Float>) throws -> Void
  ) rethrows {
    try lastLogits(run(caches, tokens.map { [$0] })) { try body($0) }
  }

  /// Logits of every one of `tokens` behind what `cache` holds, tokens × vocabulary, for tests.
  func allLogits(_ cache: KeyValueCache, _ tokens: [Int32]) -> [Float] {
    let input = run([cache], [tokens])
    let count = tokens.count * pass.model.base.spec.vocabularySize
    return [Float](unsafeUninitializedCapacity: count) { target, written in
      if let start = target.baseAddress, let buffers = pass.buffers { pass.languageLogits(input, buffers, to: start) }
      written = count
    }
  }

  private func run(_ caches: [KeyValueCache], _ tokens: [[Int32]]) -> SlicePass.Input {
    precondition(caches.count <= Self.mostSequences, "at most \(Self.mostSequences) sequences go together")
    var batch = PackedBatch()
    for (cache, tokens) in zip(caches, tokens) {
      cache.reserve(cache.count + tokens.count)
      batch.append(tokens: tokens) { _ in false }
    }
    let input = SlicePass.Input(
      batch: batch,
      sequences: 0..<batch.count,
      parameters: parameters,
      dropout: .init(key: nil, probability: 0, firstToken: 0),
      caches: caches
    )
    pass.forward(input, isTraining: false)
    for (cache, tokens) in zip(caches, tokens) { cache.advance(by: tokens.count) }
    return input
  }

  private func lastLogits(
    _ input: SlicePass.Input,
    _ body: (UnsafeMutablePointer<Float>) throws -> Void
  ) rethrows {
    guard let buffers = pass.buffers else { return }
    let hidden = pass.model.base.spec.hiddenSize
    pass.normLastLayer(input, buffers)
    for sequence in input.sequences {
      let last = input.batch.offsets[sequence + 1] - 1 - input.firstToken
      (buffers.languageRows + sequence * hidden).update(from: buffers.finalNormed + last * hidden, count: hidden)
    }
    pass.formLogits(
      buffers.languageRows,
      rows: input.sequences.count,
      to: buffers.languageLogits,
      scratch: buffers.languageScratch
    )
    try body(buffers.languageLogits)
  }
}
