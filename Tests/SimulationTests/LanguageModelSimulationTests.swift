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

  @Test("a checkpoint without a head for tokens is refused with what to do")
  func encoder() async throws {
    let error = await #expect(throws: ModelError.self) {
      try await run(["model.path=embedded", "adapter.target_modules=[query]"])
    }
    #expect(error.map { "\($0)" }?.contains("classification") == true)
  }
}
