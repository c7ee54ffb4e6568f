import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Testing

/// Decoding on a cache against full passes, and against transformers' `generate`.
@Suite("Generation")
struct GenerationTests {
  private static let stories = FileManager.default.fileExists(atPath: GenerationFixture.stories.path)

  private func generator(
    _ model: AdaptedModel,
    _ parameters: [Float],
    threads: Int = 1,
    merges: Bool = false,
    together: Int = 8
  ) throws -> TokenGenerator {
    try TokenGenerator(
      model: model,
      parameters: parameters,
      pool: ComputePool(threadCount: threads),
      mergesAdapter: merges,
      sequencesPerThread: together
    )
  }

  @Test("on a cache has the logits of a full pass at every token", arguments: DecoderOracle.all, [1, 3, 7])
  func cache(_ oracle: DecoderOracle, prefix: Int) throws {
    let (model, parameters) = try oracle.load()
    let tokens = (0..<min(24, model.base.spec.maximumPositions)).map {
      Int32(3 + ($0 * 7) % (model.base.spec.vocabularySize - 3))
    }
    var batch = PackedBatch()
    batch.append(tokens: tokens)
    let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 1))
    let full = try runner.tokenLogits(batch, parameters: parameters)
    for merges in [false, true] {
      let cached = try generator(model, parameters, merges: merges).logits(tokens, prefix: prefix)
      #expect(largestDifference(cached, full) < 1e-4, "merged: \(merges)")
    }
  }

  @Test("on a cache has the same logits where a prompt is longer than a block of queries", arguments: [127, 129, 145])
  func longPrompt(prefix: Int) throws {
    let oracle = try #require(DecoderOracle.committed.first { $0.description == "gemma2-long" })
    let (model, parameters) = try oracle.load()
    let tokens = (0..<150).map { Int32(3 + ($0 * 7) % (model.base.spec.vocabularySize - 3)) }
    var batch = PackedBatch()
    batch.append(tokens: tokens)
    let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 1))
    let full = try runner.tokenLogits(batch, parameters: parameters)
    let cached = try generator(model, parameters, merges: false).logits(tokens, prefix: prefix)
    #expect(largestDifference(cached, full) < 1e-4)
  }

  @Test("on a cache takes VeRA's scales", arguments: [false, true])
  func vera(merges: Bool) throws {
    let base = try FrozenModel(folder: GenerationFixture.tiny)
    let adapter = try LoRAConfiguration(
      rank: 4,
      alpha: 1,
      targets: .suffixes(["q_proj", "o_proj", "up_proj"]),
      form: .vera(seed: 4)
    )
    let model = try AdaptedModel(base: base, adapter: adapter, head: nil)
    var random = SeededGenerator(seed: 8)
    let parameters = (0..<model.layout.count).map { _ in Float(random.normal()) * 0.3 }
    let tokens = (0..<20).map { Int32($0 * 11 % 250) }
    var batch = PackedBatch()
    batch.append(tokens: tokens)
    let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 1))
    let full = try runner.tokenLogits(batch, parameters: parameters)
    let bare = try runner.tokenLogits(batch, parameters: [Float](repeating: 0, count: parameters.count))
    let cached = try generator(model, parameters, merges: merges).logits(tokens, prefix: 2)
    #expect(largestDifference(cached, full) < 1e-4)
    #expect(largestDifference(cached, bare) > 0.01)
  }

  @Test("gives the tokens of transformers, with the adapter and without", arguments: DecoderOracle.committed)
  func greedy(_ oracle: DecoderOracle) throws {
    let all = try GenerationFixture.read([String: GenerationFixture.Greedy].self, "greedy.json")
    let wanted = try #require(all[oracle.description], "run Tests/Oracles/make_generation_fixtures.py")
    let (model, parameters) = try oracle.load()
    let options = try GenerationOptions(maximumNewTokens: wanted.new_tokens)
    let bare = try generator(AdaptedModel(unadapted: model.base), [])
    #expect(try bare.generate(wanted.prompts, options: options).map(\.tokens) == wanted.base)
    // However the prompts are spread and put together.
    for (threads, together, merges) in [(1, 1, false), (1, 3, false), (2, 8, true)] {
      let adapted = try generator(model, parameters, threads: threads, merges: merges, together: together)
      let found = try adapted.generate(wanted.prompts, options: options)
      #expect(found.map(\.tokens) == wanted.lora)
      #expect(found.allSatisfy { $0.end == .length })
    }
    let penalised = try GenerationOptions(
      maximumNewTokens: wanted.new_tokens,
      sampling: Sampling(temperature: 0, repetitionPenalty: wanted.penalty)
    )
    let found = try generator(model, parameters).generate(wanted.prompts, options: penalised)
    #expect(found.map(\.tokens) == wanted.penalised)
    #expect(wanted.penalised != wanted.lora && wanted.base != wanted.lora)
  }

  @Test("gives the tokens of transformers for texts, a PEFT folder and two stop tokens")
  func tiny() throws {
    let wanted = try GenerationFixture.read(GenerationFixture.Tiny.self, "tiny.json").texts
    let tokenizer = try Tokenizer.load(from: GenerationFixture.tiny)
    let stops = try GenerationOptions.stopTokens(of: GenerationFixture.tiny)
    #expect(stops == [1, try #require(tokenizer.id(of: "<|end|>"))])
    for adapted in [false, true] {
      let loaded = try LanguageModel(
        folder: GenerationFixture.tiny,
        adapter: adapted ? GenerationFixture.tiny.appendingPathComponent("adapter") : nil
      )
      let own = wanted.filter { $0.adapter == adapted }
      let prompts = try own.map { try tokenizer.encodeIds($0.text).ids }
      #expect(prompts == own.map(\.ids))
      let options = try GenerationOptions(maximumNewTokens: 24, stopTokens: stops)
      let found = try generator(loaded.model, loaded.parameters).generate(prompts, options: options)
      #expect(found.map(\.tokens) == own.map(\.tokens))
      for (tokens, text) in zip(found, own) {
        var stream = TextStream(tokenizer, after: text.ids)
        var pieces = tokens.tokens.map { stream.append($0) }
        pieces.append(stream.finish())
        let whole = tokenizer.decode(text.ids + tokens.tokens)
        #expect(tokenizer.decode(text.ids) + pieces.joined() == whole)
      }
    }
  }

  @Test("gives the tokens of transformers with a real model", .enabled(if: stories))
  func realModel() throws {
    let wanted = try GenerationFixture.read([GenerationFixture.Story].self, "stories260K.json")
    let loaded = try LanguageModel(folder: GenerationFixture.stories)
    let tokenizer = try Tokenizer.load(from: GenerationFixture.stories)
    let stops = try GenerationOptions.stopTokens(of: GenerationFixture.stories)
    for story in wanted {
      let options = try GenerationOptions(maximumNewTokens: story.new_tokens, stopTokens: stops)
      #expect(try tokenizer.encodeIds(story.text).ids == story.prompt)
      let found = try generator(loaded.model, loaded.parameters).generate([story.prompt], options: options)
      #expect(found[0].tokens == story.tokens)
      var stream = TextStream(tokenizer, after: story.prompt)
      let text = found[0].tokens.map { stream.append($0) }.joined() + stream.finish()
      #expect(tokenizer.decode(story.prompt) + text == tokenizer.decode(story.prompt + story.tokens))
    }
  }

  @Test("draws the same for a seed, something else for another, and each prompt for itself")
  func seeds() throws {
    let loaded = try LanguageModel(folder: GenerationFixture.tiny)
    let prompts: [[Int32]] = [[0, 5, 6], [0, 5, 6], [0, 9]]
    func draw(_ seed: UInt64, threads: Int, together: Int) throws -> [GeneratedTokens] {
      let options = try GenerationOptions(
        maximumNewTokens: 20,
        sampling: Sampling(temperature: 1.2, topK: 50, topP: 0.95),
        seed: seed
      )
      return try generator(loaded.model, [], threads: threads, together: together).generate(prompts, options: options)
    }
    let first = try draw(1, threads: 1, together: 1)
    #expect(try draw(1, threads: 2, together: 2) == first)
    #expect(first[0] != first[1])
    #expect(try draw(2, threads: 1, together: 1) != first)
  }

  @Test("ends at the model's positions, at a stop token, and when nobody wants more")
  func ends() throws {
    let loaded = try LanguageModel(folder: GenerationFixture.tiny)
    let positions = loaded.model.base.spec.maximumPositions
    let generator = try generator(loaded.model, [])
    let long = [Int32](repeating: 7, count: positions - 2)
    let full = try generator.generate([long], options: GenerationOptions(maximumNewTokens: 9))[0]
    #expect(full.end == .context && full.tokens.count == 2)
    let free = try generator.generate([[0, 5]], options: GenerationOptions(maximumNewTokens: 9))[0]
    #expect(free.end == .length && free.tokens.count == 9)
    let place = try #require(free.tokens.indices.dropFirst().first { !free.tokens[..<$0].contains(free.tokens[$0]) })
    let stopped = try generator.generate(
      [[0, 5]],
      options: GenerationOptions(maximumNewTokens: 9, stopTokens: [free.tokens[place]])
    )[0]
    #expect(stopped.end == .stopToken && stopped.tokens == Array(free.tokens[...place]))
    let cancelled = try generator.generate([[0, 5]], options: GenerationOptions(maximumNewTokens: 9)) { _, _ in false }
    #expect(cancelled[0].end == .cancelled && cancelled[0].tokens.count == 1)
  }

  @Test("refuses prompts and models that it cannot go on with, and says why")
  func refusals() throws {
    let loaded = try LanguageModel(folder: GenerationFixture.tiny)
    let generator = try generator(loaded.model, [])
    let positions = loaded.model.base.spec.maximumPositions
    let options = try GenerationOptions(maximumNewTokens: 1)
    func refused(_ prompt: [Int32]) -> GenerationError? {
      #expect(throws: GenerationError.self) { try generator.generate([[0], prompt], options: options) }
    }
    #expect(refused([]) == .emptyPrompt(index: 1))
    let long = [Int32](repeating: 3, count: positions)
    #expect(refused(long) == .promptTooLong(index: 1, tokens: positions, positions: positions))
    #expect(refused(long).map { "\($0)".contains("\(positions - 1) at most") } == true)
    let size = loaded.model.base.spec.vocabularySize
    #expect(refused([Int32(size)]) == .unknownToken(index: 1, token: Int32(size), vocabularySize: size))
    #expect(throws: GenerationError.self) { try GenerationOptions(maximumNewTokens: 0) }
    let encoder = try #require(OracleFolder.committed.first).load()
    #expect(throws: ModelError.self) { try self.generator(encoder.0, encoder.1) }
    // An adapter of another model, and a model that predicts nothing.
    let other = try #require(DecoderOracle.committed.first { $0.description == "llama-biased" }).folder.url
    #expect(throws: (any Error).self) {
      try LanguageModel(folder: GenerationFixture.tiny, adapter: other.appendingPathComponent("adapter"))
    }
    #expect(throws: ModelError.self) {
      try LanguageModel(folder: try #require(OracleFolder.committed.first).url.appendingPathComponent("model"))
    }
    // Weights that are not numbers.
    let (model, _) = try #require(DecoderOracle.committed.first).load()
    let broken = try self.generator(model, [Float](repeating: .nan, count: model.layout.count))
    #expect(throws: GenerationError.notFinite(index: 0, position: 2)) {
      try broken.generate([[3, 4]], options: options)
    }
  }

  @Test(
    "reads stop tokens where they stand",
    arguments: [
      ("{\"eos_token_id\": 7}", "{\"eos_token_id\": 2}", [7]),
      ("{}", "{\"eos_token_id\": [2, 3]}", [2, 3]),
      ("{\"eos_token_id\": null}", "{}", []), ("{\"eos_token_id\": \"</s>\"}", "{}", nil), ("{", "{}", nil),
      ("{}", "{\"eos_token_id\": [-1]}", nil),
    ] as [(String, String, [Int32]?)]
  )
  func stopTokens(generation: String, config: String, wanted: [Int32]?) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("stops-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data(generation.utf8).write(to: folder.appendingPathComponent("generation_config.json"))
    try Data(config.utf8).write(to: folder.appendingPathComponent("config.json"))
    if let wanted {
      #expect(try GenerationOptions.stopTokens(of: folder) == Set(wanted))
    } else {
      #expect(throws: GenerationError.self) { try GenerationOptions.stopTokens(of: folder) }
    }
  }
}
