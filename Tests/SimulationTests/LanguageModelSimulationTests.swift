import FedLoRACheckpoint
import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRASimulation
import FedLoRATestSupport
import Foundation
import Testing

/// A tiny decoder with random weights learns a made-up language in which every word says which one follows.
@Suite("A simulation of a language model", .timeLimit(.minutes(2)))
struct LanguageModelSimulationTests {
  private let scratch: ScratchFolder
  private static let words = ["<s>", "</s>"] + (2..<24).map { "w\($0)" }

  init() throws {
    scratch = try ScratchFolder()
    try writeModel()
    try write("train.jsonl", count: 96, from: 0)
    try write("test.jsonl", count: 24, from: 96)
  }

  private func write(_ name: String, count: Int, from first: Int) throws {
    let size = Self.words.count - 2
    let lines = (first..<(first + count)).map { number in
      let sentence = (0..<6).map { Self.words[2 + (number * 7 + $0 * 5) % size] }
      return
        #"{"prompt": "\#(sentence[0])", "response": "\#(sentence[1...].joined(separator: " "))", "client": "c\#(number % 3)"}"#
    }
    try Data(lines.joined(separator: "\n").utf8).write(to: scratch.url.appendingPathComponent(name))
  }

  /// A Llama of two layers and width 16.
  private func writeModel() throws {
    let folder = scratch.url.appendingPathComponent("model")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let (width, inner, vocabulary) = (16, 24, Self.words.count)
    try Data(
      """
      {"model_type": "llama", "hidden_size": \(width), "intermediate_size": \(inner), "num_hidden_layers": 2,
       "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": \(vocabulary), "max_position_embeddings": 32,
       "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": false, "eos_token_id": 1}
      """.utf8
    ).write(to: folder.appendingPathComponent("config.json"))
    var generator = SeededGenerator(seed: 1)
    var tensors = TensorSet()
    func random(_ name: String, _ shape: [Int], _ scale: Float) throws {
      let count = shape.reduce(1, *)
      let values = (0..<count).map { _ in scale * (Float(generator.next() >> 40) / Float(1 << 23) - 1) }
      tensors[name] = try Tensor(shape: shape, values: values)
    }
    func ones(_ name: String) throws {
      tensors[name] = try Tensor(shape: [width], values: [Float](repeating: 1, count: width))
    }
    try random("model.embed_tokens.weight", [vocabulary, width], 1)
    try random("lm_head.weight", [vocabulary, width], 0.5)
    try ones("model.norm.weight")
    for layer in 0..<2 {
      let path = "model.layers.\(layer)"
      for (name, shape) in [
        ("self_attn.q_proj", [width, width]), ("self_attn.k_proj", [8, width]), ("self_attn.v_proj", [8, width]),
        ("self_attn.o_proj", [width, width]), ("mlp.gate_proj", [inner, width]), ("mlp.up_proj", [inner, width]),
        ("mlp.down_proj", [width, inner]),
      ] { try random("\(path).\(name).weight", shape, 0.4) }
      try ones("\(path).input_layernorm.weight")
      try ones("\(path).post_attention_layernorm.weight")
    }
    try SafetensorsFile.write(tensors, to: folder.appendingPathComponent("model.safetensors"), metadata: [:])
    let entries = Self.words.enumerated().map { "\"\($1)\": \($0)" }.joined(separator: ", ")
    try Data(
      """
      {"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
       "post_processor": {"type": "TemplateProcessing",
         "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
         "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
         "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
       "decoder": null, "model": {"type": "WordLevel", "vocab": {\(entries)}, "unk_token": "<s>"}}
      """.utf8
    ).write(to: folder.appendingPathComponent("tokenizer.json"))
  }

  private func scenario(_ extra: [String]) throws -> (ScenarioConfiguration, String) {
    try ScenarioConfiguration.load(
      nil,
      assignments: [
        "name=words", "output='\(scratch.url.path)'", "rounds=4", "model.task=causal-lm",
        "model.path='\(scratch.url.path)/model'", "data.train='\(scratch.url.path)/train.jsonl'",
        "data.test='\(scratch.url.path)/test.jsonl'", "model.prompt_format='{prompt} {response}'",
        "model.max_length=16",
        "clients.count=3", "clients.partition=natural", "cohort.min_clients=3", "cohort.clients_per_round=3",
        "cohort.quorum=3", "training.local_steps=5", "training.batch_size=8", "training.learning_rate=0.02",
        "baselines=[frozen]", "overrides={}", "strategies=[fedsa-lora, fedsvd]", "adapter.rank=4", "adapter.dropout=0",
        "adapter.target_modules=[q_proj, v_proj, up_proj, down_proj]",
      ] + extra
    )
  }

  private func run(_ extra: [String] = []) async throws -> SimulationReport {
    let (scenario, text) = try scenario(extra)
    return try await SimulationRun(scenario: scenario, effectiveConfiguration: text, command: "").run()
  }

  @Test("lowers everybody's perplexity below the base model's and exports causal adapters")
  func learns() async throws {
    let report = try await run()
    let base = try #require(report.rows.first { $0.name == "frozen" }?.meanClientPerplexity)
    for name in ["fedsa-lora", "fedsvd"] {
      let row = try #require(report.rows.first { $0.name == name })
      let own = try #require(row.meanClientPerplexity)
      #expect(own < 0.6 * base, "\(name): \(own) against \(base)")
      let worst = try #require(row.worstClientPerplexity)
      #expect(worst >= own && worst < base)
      #expect(try #require(row.globalPerplexity) < base)
    }
    #expect(report.table.contains("perplexity"))
    for path in ["fedsa-lora/adapters/client-1", "fedsvd/adapters/global"] {
      let adapter = try PEFTAdapterFolder(reading: URL(fileURLWithPath: report.folder).appendingPathComponent(path))
      #expect(adapter.configuration.taskType == "CAUSAL_LM" && adapter.configuration.modulesToSave.isEmpty)
      #expect(adapter.tensors.entries.allSatisfy { $0.name.hasPrefix("model.layers.") && $0.name.contains("lora_") })
      #expect(adapter.tensors.entries.count == 2 * 4 * 2)
    }
  }

  @Test("spends epsilon at record level as a classifier does")
  func isPrivate() async throws {
    let report = try await run([
      "strategies=[fedsvd]", "baselines=[]", "rounds=2", "privacy.level=record", "privacy.epsilon=6",
      "privacy.clipping_norm=1",
    ])
    let spent = try #require(report.rows.first?.epsilon)
    #expect(spent > 0 && spent <= 6)
    #expect(report.rows.first?.meanClientPerplexity?.isFinite == true)
  }

  @Test(
    "what needs classes is refused by its key",
    arguments: [
      ("clients.partition=dirichlet", "clients.partition"), ("baselines=[majority]", "baselines"),
      ("data.labels=[a, b]", "data.labels"), ("model.prompt_format='{response}'", "model.prompt_format"),
      ("model.task=classification", "model.prompt_format"), ("model.task=seq2seq", "task"),
    ]
  )
  func refused(_ assignment: String, _ key: String) throws {
    do {
      _ = try scenario([assignment])
      Issue.record("\(assignment) was taken")
    } catch let error as ConfigurationError { #expect("\(error)".contains(key)) }
  }

  @Test("learns conversations by the model's own template, one record each, and says what is missing without one")
  func conversations() async throws {
    for (name, numbers) in [("train", 0..<96), ("test", 96..<120)] {
      let lines = numbers.map { number in
        let said = (0..<6).map { Self.words[2 + (number * 7 + $0 * 5) % (Self.words.count - 2)] }
        return
          #"{"messages": [{"role": "user", "content": "\#(said[0])"}, {"role": "assistant", "content": "\#(said[1])"}, "#
          + #"{"role": "user", "content": "\#(said[2])"}, {"role": "assistant", "content": "\#(said[3...].joined(separator: " "))"}], "#
          + #""client": "c\#(number % 3)"}"#
      }
      try Data(lines.joined(separator: "\n").utf8).write(to: scratch.url.appendingPathComponent("\(name).jsonl"))
    }
    let settings = [
      "strategies=[fedsvd]", "rounds=2", "model.prompt_format='{prompt}{response}'", "privacy.level=record",
      "privacy.epsilon=8", "privacy.clipping_norm=1",
    ]
    let error = await #expect(throws: ConversationError.self) { try await run(settings) }
    #expect(error.map { "\($0)" }?.contains("chat_template.jinja") == true)
    try Data("{% for m in messages %}{{ m.content + ' ' }}{% endfor %}".utf8).write(
      to: scratch.url.appendingPathComponent("model/chat_template.jinja")
    )
    let report = try await run(settings)
    let row = try #require(report.rows.first { $0.name == "fedsvd" })
    #expect(row.meanClientPerplexity?.isFinite == true && row.epsilon.map { $0 > 0 && $0 <= 8 } == true)
    #expect(report.clients.map(\.trainExamples).reduce(0, +) == 96)
  }

  /// What the base model says greedily behind each word, and how likely it holds each of some endings.
  private func baseModel(_ prompts: [String], _ endings: [String]) async throws -> (said: [String], likeliest: [Int]) {
    let folder = scratch.url.appendingPathComponent("model")
    let loaded = try LanguageModel(folder: folder)
    let tokenizer = try Tokenizer.load(from: folder)
    let pool = ComputePool(threadCount: 1)
    let generator = try TokenGenerator(model: loaded.model, parameters: [], pool: pool)
    let options = try GenerationOptions(maximumNewTokens: 3, stopTokens: [1])
    let given = try prompts.map { try tokenizer.encodeIds($0).ids }
    let found = try await pool.perform { try generator.generate(given, options: options) }
    let runner = ModelRunner(model: loaded.model, pool: pool)
    let likeliest = try await pool.perform {
      try given.map { given in
        let own = try endings.map { ending -> Double in
          let tokens = try tokenizer.encodeIds(ending, addSpecialTokens: false).ids
          let pair = Continuation(context: given, tokens: tokens)
          return try runner.likelihoods([pair], parameters: [])[0].logLikelihood / Double(tokens.count)
        }
        return own.indices.max { own[$0] < own[$1] } ?? 0
      }
    }
    return (found.map { tokenizer.decode($0.tokens.filter { $0 != 1 }) }, likeliest)
  }

  @Test("asks for answers and choices on held-out data, client by client and globally")
  func questions() async throws {
    let prompts = (2..<14).map { Self.words[$0] }
    let choices = ["w3 w9", "w17", "w20 w4 w8", "w11 w12"]
    let base = try await baseModel(prompts, choices)
    // Every second answer of clients 0 and 1 is what the base model says, and none of client 2's.
    let lines = prompts.indices.map { index in
      let isRight = index % 3 != 2 && index % 2 == 0
      let answer = isRight ? " " + base.said[index] : "w2 w2 w2 w2"
      return #"{"prompt": "\#(prompts[index])", "response": "\#(answer)", "client": "c\#(index % 3)"}"#
    }
    let file = scratch.url.appendingPathComponent("test.jsonl")
    try Data(lines.joined(separator: "\n").utf8).write(to: file)
    let settings = ["strategies=[fedsvd]", "rounds=1", "evaluation.answers=plain", "evaluation.max_new_tokens=3"]
    let report = try await run(settings)
    let row = try #require(report.rows.first { $0.name == "frozen" })
    let match = try #require(row[.exactMatch])
    #expect(match.global == 4.0 / 12 && match.allClients == 4.0 / 12)
    #expect(match.clients == ["client-1": 0.5, "client-2": 0.5, "client-3": 0] && match.worstClient == 0)
    #expect(report.rows.first { $0.name == "fedsvd" }?[.exactMatch] != nil)
    #expect(row[.multipleChoice] == nil && report.measuresTable?.contains("exact_match") == true)
    // Fewer questions of the pooled set and of each client.
    let few = try await run(settings + ["evaluation.questions=1", "strategies=[]"])
    #expect(few.rows.first?[.exactMatch]?.global == 1 && few.rows.first?[.exactMatch]?.allClients == 1.0 / 3)

    // The right choice is the base model's for all but the last prompt of each client.
    for (name, last) in [("train", 0), ("test", 9)] {
      let lines = prompts.indices.map { index in
        let right = index < last ? base.likeliest[index] : (base.likeliest[index] + 1) % choices.count
        let list = choices.map { "\"\($0)\"" }.joined(separator: ", ")
        let named = index % 2 == 0 ? "\(right)" : "\"\(choices[right])\""
        return
          #"{"prompt": "\#(prompts[index])", "options": [\#(list)], "answer": \#(named), "client": "c\#(index % 3)"}"#
      }
      try Data(lines.joined(separator: "\n").utf8).write(to: scratch.url.appendingPathComponent("\(name).jsonl"))
    }
    let chosen = try await run([
      "strategies=[fedsvd]", "rounds=1", "data.choices=options", "evaluation.choice_length=tokens",
      "clients.minimum_examples=1",
    ])
    let choice = try #require(chosen.rows.first { $0.name == "frozen" }?[.multipleChoice])
    #expect(choice.global == 0.75 && choice.allClients == 0.75 && choice.meanClient == 0.75)
    #expect(chosen.rows.first?[.exactMatch] == nil)
  }

  @Test(
    "questions that make no sense are refused by their key",
    arguments: [
      ("evaluation.answers=rouge", "evaluation.answers"), ("evaluation.max_new_tokens=0", "evaluation.max_new_tokens"),
      ("evaluation.choice_length=words", "evaluation.choice_length"),
      ("evaluation.questions=-1", "evaluation.questions"),
    ]
  )
  func badQuestions(_ assignment: String, _ key: String) throws {
    let error = #expect(throws: ConfigurationError.self) { try scenario([assignment]) }
    #expect(error?.key == key)
    #expect(throws: ConfigurationError.self) {
      try ScenarioConfiguration.load(nil, assignments: ["evaluation.answers=squad"])
    }
  }

  @Test("a checkpoint without a head for tokens is refused with what to do")
  func encoder() async throws {
    let error = await #expect(throws: ModelError.self) {
      try await run(["model.path=embedded", "adapter.target_modules=[query]"])
    }
    #expect(error.map { "\($0)" }?.contains("classification") == true)
  }
}
