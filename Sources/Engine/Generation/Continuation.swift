/// A text and what may follow it, as tokens: one answer of a multiple-choice question.
public struct Continuation: Sendable, Equatable {
  /// The tokens before, at least one.
  public let context: [Int32]
  /// The tokens whose likelihood is asked for.
  public let tokens: [Int32]

  /// Takes both as tokens.
  public init(context: [Int32], tokens: [Int32]) { (self.context, self.tokens) = (context, tokens) }

  /// Encodes both together, since a token may reach over the seam: what the whole has more than the context alone is the
  /// continuation. White space at the end of the context goes over to the continuation, as the LM evaluation harness does
  /// (Gao and others, `lm_eval`), because most tokenizers keep a space with the word behind it.
  public init(context: String, ending: String, tokenizer: Tokenizer) throws(TokenizerError) {
    var (context, ending) = (context.unicodeScalars[...], String.UnicodeScalarView(ending.unicodeScalars))
    let end = context.reversed().prefix { $0.properties.isWhitespace }.count
    ending.insert(contentsOf: Array(context.suffix(end)), at: ending.startIndex)
    context.removeLast(end)
    let whole = try tokenizer.encodeIds(String(context) + String(ending)).ids
    let before = try tokenizer.encodeIds(String(context)).ids
    self.init(context: Array(whole.prefix(before.count)), tokens: Array(whole.dropFirst(before.count)))
  }
}

extension ModelRunner {
  /// log p(continuation | context) of each pair. Must run inside `pool.perform`.
  ///
  /// A pair that is longer than the model's positions loses its beginning.
  /// - Throws: `ModelError.badBatch` for a pair without context or continuation, or with a continuation that fills all positions.
  public func likelihoods(_ pairs: [Continuation], parameters: [Float]) throws -> [SequenceLikelihood] {
    let positions = model.base.spec.maximumPositions
    var result: [SequenceLikelihood] = []
    for start in stride(from: 0, to: pairs.count, by: Evaluation.chunk) {
      var batch = PackedBatch()
      for (index, pair) in pairs[start..<min(start + Evaluation.chunk, pairs.count)].enumerated() {
        guard !pair.context.isEmpty, !pair.tokens.isEmpty else {
          throw ModelError.badBatch(reason: "pair \(start + index) lacks its context or its continuation")
        }
        guard pair.tokens.count < positions else {
          throw ModelError.badBatch(
            reason:
              "the continuation of pair \(start + index) has \(pair.tokens.count) tokens; the model has \(positions) "
              + "positions, and one is the context's"
          )
        }
        let tokens = (pair.context + pair.tokens).suffix(positions)
        let first = tokens.count - pair.tokens.count
        batch.append(tokens: Array(tokens)) { $0 >= first }
      }
      result += try likelihoods(batch, parameters: parameters)
    }
    return result
  }
}
