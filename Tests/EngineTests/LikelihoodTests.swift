import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Testing

/// Likelihoods of continuations and of masked tokens against transformers.
@Suite("Likelihoods")
struct LikelihoodTests {
  @Test("of continuations, however they are batched", arguments: [1, 2])
  func continuations(threads: Int) throws {
    let wanted = try GenerationFixture.read(GenerationFixture.Tiny.self, "tiny.json").likelihoods
    let tokenizer = try Tokenizer.load(from: GenerationFixture.tiny)
    let loaded = try LanguageModel(
      folder: GenerationFixture.tiny,
      adapter: GenerationFixture.tiny.appendingPathComponent("adapter")
    )
    let pairs = try wanted.map { try Continuation(context: $0.context, ending: $0.ending, tokenizer: tokenizer) }
    #expect(pairs.map(\.tokens) == wanted.map(\.tokens))
    let runner = ModelRunner(model: loaded.model, pool: ComputePool(threadCount: threads), tokensPerSlice: 16)
    let found = try runner.likelihoods(pairs, parameters: loaded.parameters)
    for (own, pair) in zip(found, wanted) {
      #expect(abs(own.logLikelihood - pair.sum) < 1e-4)
      #expect(own.count == pair.tokens.count && own.isGreedy == pair.greedy)
    }
    // The mean is the loss of the same tokens.
    let single = try runner.likelihoods([pairs[0]], parameters: loaded.parameters)[0]
    var batch = PackedBatch()
    batch.append(tokens: pairs[0].context + pairs[0].tokens) { $0 >= pairs[0].context.count }
    let loss = try runner.evaluate(batch, parameters: loaded.parameters)
    #expect(abs(loss.lossSum + single.logLikelihood) < 1e-4 && loss.correct == single.correct)
  }

  @Test("of a continuation that is too long are refused, and a long context loses its beginning")
  func lengths() throws {
    let loaded = try LanguageModel(folder: GenerationFixture.tiny)
    let runner = ModelRunner(model: loaded.model, pool: ComputePool(threadCount: 1))
    let positions = loaded.model.base.spec.maximumPositions
    let tail = (0..<positions - 1).map { Int32($0 % 200) }
    let cut = try runner.likelihoods(
      [
        Continuation(context: [9, 9, 9] + tail, tokens: [4]), Continuation(context: [3] + tail, tokens: [4]),
        Continuation(context: tail, tokens: [4]),
      ],
      parameters: []
    )
    #expect(abs(cut[0].logLikelihood - cut[2].logLikelihood) < 1e-6 && cut[1] == cut[0])
    for pair in [
      Continuation(context: [1], tokens: [Int32](repeating: 2, count: positions)),
      Continuation(context: [], tokens: [1]),
      Continuation(context: [1], tokens: []), Continuation(context: [1], tokens: [30_000]),
    ] {
      #expect(throws: ModelError.self) { try runner.likelihoods([pair], parameters: []) }
    }
  }

  @Test("of masked tokens", arguments: ["bert", "roberta", "distilbert"])
  func masked(kind: String) throws {
    let all = try GenerationFixture.read([String: GenerationFixture.Masked].self, "masked/expected.json")
    let wanted = try #require(all[kind])
    let base = try FrozenModel(folder: GenerationFixture.folder.appendingPathComponent("masked/\(kind)"))
    let head = try MaskedLanguageHead(of: base)
    let runner = ModelRunner(
      model: try AdaptedModel(unadapted: base),
      pool: ComputePool(threadCount: 2),
      tokensPerSlice: 8
    )
    var batch = PackedBatch()
    for text in wanted.texts {
      var (tokens, targets) = (text.tokens, [Int32](repeating: -1, count: text.tokens.count))
      (tokens[text.place], targets[text.place]) = (wanted.mask, text.tokens[text.place])
      batch.append(tokens: tokens, tokenTypes: tokens.map { _ in 0 }, targets: targets)
    }
    let logits = try runner.maskedLogits(batch, head: head, parameters: [])
    #expect(largestDifference(logits, wanted.texts.flatMap(\.logits)) < 1e-4)
    let found = try runner.maskedLikelihoods(batch, head: head, parameters: [])
    let size = base.spec.vocabularySize
    for (index, text) in wanted.texts.enumerated() {
      let row = logits[index * size..<(index + 1) * size].map(Double.init)
      let expected = row[Int(text.tokens[text.place])] - log(row.reduce(0) { $0 + exp($1) })
      #expect(abs(found[index].logLikelihood - expected) < 1e-4 && found[index].count == 1)
      let pseudo = try runner.pseudoLikelihood(
        of: TokenIds(ids: text.tokens, typeIds: text.tokens.map { _ in 0 }),
        scored: Array(1..<text.tokens.count - 1),
        mask: wanted.mask,
        head: head,
        parameters: []
      )
      #expect(abs(pseudo.logLikelihood - text.pseudo) < 1e-3)
      #expect(abs(log(pseudo.perplexity) + text.pseudo / Double(text.tokens.count - 2)) < 1e-4)
    }
  }

  @Test("of masked tokens take an adapter")
  func adapter() throws {
    let base = try FrozenModel(folder: GenerationFixture.folder.appendingPathComponent("masked/bert"))
    let configuration = try LoRAConfiguration(rank: 2, alpha: 2, targets: .suffixes(["query"]))
    let model = try AdaptedModel(base: base, adapter: configuration, head: nil, isBare: true)
    let head = try MaskedLanguageHead(of: base)
    let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 1))
    var batch = PackedBatch()
    batch.append(tokens: [5, 4, 7, 9], tokenTypes: [0, 0, 0, 0], targets: [-1, 6, -1, -1])
    let zero = try runner.maskedLikelihoods(
      batch,
      head: head,
      parameters: [Float](repeating: 0, count: model.layout.count)
    )
    let bare = ModelRunner(model: try AdaptedModel(unadapted: base), pool: ComputePool(threadCount: 1))
    #expect(try bare.maskedLikelihoods(batch, head: head, parameters: []) == zero)
    let some = try runner.maskedLikelihoods(
      batch,
      head: head,
      parameters: [Float](repeating: 0.5, count: model.layout.count)
    )
    #expect(some != zero)
  }

  @Test("of masked tokens are refused for a model without the head")
  func noHead() throws {
    let oracle = try #require(OracleFolder.committed.first { $0.description == "bare" })
    let base = try FrozenModel(folder: oracle.url.appendingPathComponent("model"))
    let error = #expect(throws: ModelError.self) { try MaskedLanguageHead(of: base) }
    #expect(error.map { "\($0)".contains("cls.predictions") } == true)
    #expect(throws: ModelError.self) { try MaskedLanguageHead(of: FrozenModel(folder: GenerationFixture.tiny)) }
    let bare = ModelRunner(model: try AdaptedModel(unadapted: base), pool: ComputePool(threadCount: 1))
    #expect(throws: ModelError.self) { try bare.likelihoods([Continuation(context: [1], tokens: [2])], parameters: []) }
  }
}
