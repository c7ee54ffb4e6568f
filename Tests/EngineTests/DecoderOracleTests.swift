import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Testing

/// Language models against PyTorch and PEFT in double precision.
@Suite("Decoders")
struct DecoderOracleTests {
  private func runner(_ model: AdaptedModel, threads: Int = 1) -> ModelRunner {
    ModelRunner(model: model, pool: ComputePool(threadCount: threads), tokensPerSlice: 16)
  }

  private func gradient(
    _ model: AdaptedModel,
    _ batch: PackedBatch,
    _ parameters: [Float],
    threads: Int = 1
  ) throws -> (LossSummary, [Float]) {
    var gradient = [Float](repeating: .nan, count: model.layout.count)
    let summary = try runner(model, threads: threads).gradient(
      of: batch,
      parameters: parameters,
      trained: [.loraA, .loraB],
      dropoutKey: nil,
      into: &gradient
    )
    return (summary, gradient)
  }

  @Test("give the logits and the loss, with the adapter and without", arguments: DecoderOracle.all)
  func logits(_ oracle: DecoderOracle) throws {
    let (model, parameters) = try oracle.load()
    let expected = try oracle.folder.expected()
    let (batch, kept) = try oracle.batch(0)
    let bare = [Float](repeating: 0, count: parameters.count)
    for (name, values) in [("lora", parameters), ("base", bare)] {
      let found = try runner(model).tokenLogits(batch, parameters: values)
      let wanted = try oracle.rows("\(name).logits", kept: kept, width: model.base.spec.vocabularySize)
      #expect(largestDifference(found, wanted) < 1e-4, "\(name)")
      let summary = try runner(model, threads: 2).evaluate(batch, parameters: values)
      #expect(abs(summary.meanLoss - Double(try expected.floats("\(name).loss")[0])) < 2e-5, "\(name)")
      #expect(summary.count == batch.targetCount && summary.count > batch.count)
    }
  }

  @Test("give every layer's output", arguments: DecoderOracle.all)
  func hiddenStates(_ oracle: DecoderOracle) throws {
    let (model, parameters) = try oracle.load()
    let (batch, kept) = try oracle.batch(0)
    let bare = [Float](repeating: 0, count: parameters.count)
    let states = try runner(model).hiddenStates(batch, parameters: bare)
    #expect(states.count == model.base.spec.layerCount + 1)
    // The last one is told after the final norm, which the logits' test covers.
    for (layer, state) in states.dropLast().enumerated() {
      let wanted = try oracle.rows("base.hidden.\(layer)", kept: kept, width: model.base.spec.hiddenSize)
      #expect(largestDifference(state, wanted) < 1e-4, "hidden state \(layer)")
    }
  }

  @Test("give the gradients of every adapter", arguments: DecoderOracle.all, [1, 2])
  func gradients(_ oracle: DecoderOracle, threads: Int) throws {
    let (model, parameters) = try oracle.load()
    let expected = try oracle.folder.expected()
    let (_, gradient) = try gradient(model, oracle.batch(0).0, parameters, threads: threads)
    let names = try oracle.folder.facts().trained
    #expect(!names.isEmpty && names.count == model.layout.entries.count)
    for name in names {
      let entry = try #require(model.layout.entries.first { $0.name == name })
      let difference = relativeDifference(Array(gradient[entry.range]), try expected.floats("grad.\(name)"))
      #expect(difference < 1e-3, "\(name)")
    }
  }

  @Test("end three steps where they should", arguments: DecoderOracle.all, ["sgd", "adamw"])
  func steps(_ oracle: DecoderOracle, optimizer: String) throws {
    let (model, start) = try oracle.load()
    let expected = try oracle.folder.expected()
    let options = try oracle.folder.facts().optim
    let (rule, rate) = options.rule(optimizer)
    var state = Optimizer(rule, layout: model.layout, trained: [.loraA, .loraB])
    var parameters = start
    let losses = try expected.floats("\(optimizer).losses")
    for step in 0..<3 {
      let (summary, gradient) = try gradient(model, oracle.batch(step).0, parameters)
      #expect(abs(summary.meanLoss - Double(losses[step])) < 1e-4)
      state.step(&parameters, gradient: gradient, learningRate: Float(rate), headLearningRate: Float(rate))
    }
    for entry in model.layout.entries {
      let wanted = try expected.floats("\(optimizer).after3.\(entry.name)")
      #expect(largestDifference(Array(parameters[entry.range]), wanted) < 1e-4, "\(entry.name)")
    }
  }

  @Test("give each example the gradient of its own mean loss", arguments: DecoderOracle.all)
  func examples(_ oracle: DecoderOracle) throws {
    let (model, parameters) = try oracle.load()
    let expected = try oracle.folder.expected()
    let (batch, _) = try oracle.batch(0)
    let found = try runner(model, threads: 2).exampleGradients(
      batch,
      parameters: parameters,
      trained: [.loraA, .loraB]
    )
    let norms = found.map { $0.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot() }
    for (norm, wanted) in zip(norms, try expected.floats("dp.norms")) {
      #expect(abs(norm - Double(wanted)) < 1e-3 * Double(wanted))
    }
    #expect(norms.count == batch.count)
  }

  @Test("do not depend on how a batch is cut")
  func slices() throws {
    let oracle = try #require(DecoderOracle.committed.first)
    let (model, parameters) = try oracle.load()
    let (batch, _) = try oracle.batch(0)
    let whole = ModelRunner(model: model, pool: ComputePool(threadCount: 1), tokensPerSlice: 1000)
    var one = [Float](repeating: 0, count: model.layout.count)
    let summary = try whole.gradient(
      of: batch,
      parameters: parameters,
      trained: .all,
      dropoutKey: nil,
      into: &one
    )
    let (other, cut) = try gradient(model, batch, parameters, threads: 2)
    #expect(abs(summary.lossSum - other.lossSum) < 1e-4 && summary.count == other.count)
    #expect(relativeDifference(cut, one) < 1e-5)
  }

  @Test("refuse what they cannot be")
  func refusals() throws {
    let oracle = try #require(DecoderOracle.committed.first)
    let (model, parameters) = try oracle.load()
    var batch = PackedBatch()
    batch.append(tokens: [Int32](repeating: 3, count: model.base.spec.maximumPositions + 1))
    #expect(throws: ModelError.self) { try runner(model).evaluate(batch, parameters: parameters) }
    // No pooler, and an encoder has no head that predicts tokens.
    let head = ClassificationHead(labelCount: 2, pooling: .pooler)
    #expect(throws: ModelError.self) { try AdaptedModel(base: model.base, adapter: model.adapter, head: head) }
    let encoder = try #require(OracleFolder.committed.first).load().0
    #expect(throws: ModelError.self) { try AdaptedModel(base: encoder.base, adapter: encoder.adapter, head: nil) }
  }

  /// A fixture, a key of its configuration, and a value that is refused.
  static let spoiled: [(fixture: String, key: String, value: String)] = [
    ("llama", "head_dim", "4611686018427387904"), ("llama", "head_dim", "3"), ("llama", "num_key_value_heads", "3"),
    ("llama", "hidden_act", "\"mish\""), ("llama", "rope_parameters", "{\"rope_type\": \"yarn\"}"),
    ("llama", "rope_parameters", "{\"rope_theta\": 0.5}"),
    ("llama", "rope_parameters", "{\"rope_type\": \"longrope\"}"),
    ("llama", "quantization_config", "{\"quant_method\": \"gptq\"}"), ("qwen3", "head_dim", "7"),
    ("qwen3-windows", "layer_types", "[\"full_attention\", \"chunked_attention\"]"),
    ("smollm3", "use_sliding_window", "true"), ("smollm3", "no_rope_layers", "\"none\""),
    ("gpt2", "activation_function", "\"mish\""), ("gpt2", "add_cross_attention", "true"),
    ("gpt2", "scale_attn_by_inverse_layer_idx", "true"), ("gpt2", "n_head", "5"),
    ("neox", "num_attention_heads", "3"), ("neox", "rope_parameters", "{\"partial_rotary_factor\": 0.3}"),
    ("gemma", "use_bidirectional_attention", "true"), ("gemma2", "query_pre_attn_scalar", "0"),
    ("gemma2", "attn_logit_softcapping", "-1"), ("gemma2", "final_logit_softcapping", "\"high\""),
    ("gemma2", "hidden_activation", "\"mish\""), ("phi3", "rope_parameters", "{\"rope_type\": \"yarn\"}"),
    ("phi3-longrope", "rope_parameters", "{\"rope_type\": \"longrope\", \"short_factor\": [1]}"),
  ]

  /// `body` with a copy of a fixture's model whose configuration is changed.
  private func withConfiguration(_ fixture: String, _ changes: [String: Any], _ body: (URL) throws -> Void) throws {
    let oracle = try #require(DecoderOracle.committed.first { $0.description == fixture })
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("decoder-\(UUID().uuidString)")
    try FileManager.default.copyItem(at: oracle.folder.url.appendingPathComponent("model"), to: folder)
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = folder.appendingPathComponent("config.json")
    var config = try #require(JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
    config.merge(changes) { $1 }
    try JSONSerialization.data(withJSONObject: config).write(to: file)
    try body(folder)
  }

  @Test("refuse a configuration that they cannot be, and name the key", arguments: spoiled)
  func configurations(_ fixture: String, _ key: String, _ value: String) throws {
    let object = try JSONSerialization.jsonObject(with: Data(value.utf8), options: .fragmentsAllowed)
    try withConfiguration(fixture, [key: object]) { folder in
      let error = #expect(throws: ModelError.self) { try FrozenModel(folder: folder) }
      #expect(error.map { "\($0)".contains("'\(key)") } == true, "\(error.map { "\($0)" } ?? "")")
      // What only looks at a model refuses the same.
      #expect(#expect(throws: ModelError.self) { try ModelOutline(folder: folder) } == error)
    }
  }

  @Test(
    "read what transformers 4 said in other words",
    arguments: [
      ("neox", ["rotary_pct": 0.5, "rotary_emb_base": 1000.0] as [String: Double]),
      ("llama", ["rope_theta": 10_000.0]), ("phi3", ["rope_theta": 10_000.0, "partial_rotary_factor": 1.0]),
    ]
  )
  func otherWords(_ fixture: String, _ keys: [String: Double]) throws {
    let oracle = try #require(DecoderOracle.committed.first { $0.description == fixture })
    let wanted = try FrozenModel(folder: oracle.folder.url.appendingPathComponent("model")).spec
    try withConfiguration(fixture, ["rope_parameters": NSNull()].merging(keys) { $1 }) { folder in
      let found = try FrozenModel(folder: folder).spec
      #expect(found == wanted)
    }
  }

  @Test(
    "choose the layers that the defaults choose where no list does",
    arguments: [
      ("gemma2", "layer_types", [:]), ("qwen3-windows", "layer_types", [:]),
      ("smollm3", "no_rope_layers", ["no_rope_layer_interval": 2.0]),
    ] as [(String, String, [String: Double])]
  )
  func layerChoices(_ fixture: String, _ key: String, _ more: [String: Double]) throws {
    let oracle = try #require(DecoderOracle.committed.first { $0.description == fixture })
    let wanted = try FrozenModel(folder: oracle.folder.url.appendingPathComponent("model")).spec
    try withConfiguration(fixture, [key: NSNull()].merging(more) { $1 }) { folder in
      let found = try FrozenModel(folder: folder).spec
      for layer in 0..<wanted.layerCount {
        #expect(found.attention(of: layer) == wanted.attention(of: layer), "window of layer \(layer)")
        #expect(found.rotaryLayers.contains(layer) == wanted.rotaryLayers.contains(layer), "turning of layer \(layer)")
      }
    }
  }

  @Test("take no more tokens than short LongRoPE factors hold for")
  func longRoPE() throws {
    let oracle = try #require(DecoderOracle.committed.first { $0.description == "phi3-longrope" })
    let (model, parameters) = try oracle.load()
    #expect(model.base.spec.maximumPositions == 12)
    var batch = PackedBatch()
    batch.append(tokens: [Int32](repeating: 3, count: 13))
    #expect(throws: ModelError.self) { try runner(model).evaluate(batch, parameters: parameters) }
  }
}
