import CKernels
import Foundation

/// How likely a model holds the targets of one sequence.
public struct SequenceLikelihood: Sendable, Equatable {
  /// Σ log p(target), in nats.
  public var logLikelihood = 0.0
  /// Targets in the sequence.
  public var count = 0
  /// Targets that were the likeliest token.
  public var correct = 0

  /// Nothing seen yet.
  public init() {}

  /// Whether greedy decoding would have given all of them.
  public var isGreedy: Bool { correct == count }
  /// exp(−mean log p); 1 over nothing.
  public var perplexity: Double { count == 0 ? 1 : exp(-logLikelihood / Double(count)) }
}

extension SlicePass {
  /// The likelihood of the targets of each sequence of the slice, from a language model's own head.
  func targetLikelihoods(_ input: Input) -> [SequenceLikelihood] {
    forward(input, isTraining: false)
    guard let buffers else { return [] }
    normLastLayer(input, buffers)
    return likelihoods(input, buffers) { places in
      gather(places, from: UnsafePointer(buffers.finalNormed), buffers)
      formLogits(
        buffers.languageRows,
        rows: places.count,
        to: buffers.languageLogits,
        scratch: buffers.languageScratch
      )
    }
  }

  /// Puts the rows at `places` side by side into `buffers.languageRows`.
  func gather(_ places: [Int], from vectors: UnsafePointer<Float>, _ buffers: PassBuffers) {
    let hidden = model.base.spec.hiddenSize
    for (row, place) in places.enumerated() {
      (buffers.languageRows + row * hidden).update(from: vectors + place * hidden, count: hidden)
    }
  }

  /// - Parameter form: leaves the logits of the tokens at these places of the slice in `buffers.languageLogits`.
  func likelihoods(_ input: Input, _ buffers: PassBuffers, form: ([Int]) -> Void) -> [SequenceLikelihood] {
    let vocabulary = model.base.spec.vocabularySize
    var result = [SequenceLikelihood](repeating: SequenceLikelihood(), count: input.sequences.count)
    var waiting: [(sequence: Int, place: Int)] = []
    func flush() {
      if waiting.isEmpty { return }
      form(waiting.map(\.place))
      for (row, (sequence, place)) in waiting.enumerated() {
        let values = buffers.languageLogits + row * vocabulary
        let found = values[Int(input.batch.targets[input.firstToken + place])]
        var largest: Float = 0
        let logSumExp = fl_softmax_scaled(values, vocabulary, 0, &largest)
        if found == largest { result[sequence].correct += 1 }
        result[sequence].logLikelihood += Double(found) - Double(logSumExp)
        result[sequence].count += 1
      }
      waiting.removeAll(keepingCapacity: true)
    }
    let chunk = PassBuffers.languageRows(vocabulary)
    for (index, sequence) in input.sequences.enumerated() {
      for token in input.batch.offsets[sequence]..<input.batch.offsets[sequence + 1]
      where input.batch.targets[token] >= 0 {
        waiting.append((index, token - input.firstToken))
        if waiting.count == chunk { flush() }
      }
    }
    flush()
    return result
  }
}

extension ModelRunner {
  /// The likelihood of the targets of each sequence of a language model. Must run inside `pool.perform`.
  /// - Throws: as `evaluate`.
  public func likelihoods(_ batch: PackedBatch, parameters: [Float]) throws -> [SequenceLikelihood] {
    guard model.base.languageHead != nil else {
      throw ModelError.badOption(name: "task", found: "no language model", expected: "a model that predicts tokens")
    }
    return try sequenceLikelihoods(batch, parameters: parameters) { pass, input in pass.targetLikelihoods(input) }
  }

  func sequenceLikelihoods(
    _ batch: PackedBatch,
    parameters: [Float],
    _ body: @escaping (SlicePass, SlicePass.Input) -> [SequenceLikelihood]
  ) throws -> [SequenceLikelihood] {
    try check(batch, parameters)
    let vocabulary = model.base.spec.vocabularySize
    if let target = batch.targets.first(where: { Int($0) >= vocabulary }) {
      throw ModelError.badBatch(reason: "token \(target) is to be predicted; the vocabulary has \(vocabulary)")
    }
    var result = [SequenceLikelihood](repeating: SequenceLikelihood(), count: batch.count)
    result.withUnsafeMutableBufferPointer { result in
      nonisolated(unsafe) let result = result
      _ = run(batch, parameters: parameters, dropoutKey: nil) { pass, input, _ in
        for (sequence, found) in zip(input.sequences, body(pass, input)) { result[sequence] = found }
        return LossSummary()
      }
    }
    return result
  }
}
