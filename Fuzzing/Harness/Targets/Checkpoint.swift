import FedLoRACheckpoint
import FedLoRAEngine
import Foundation

extension FuzzTarget {
  private static let tensorDictionary = [
    "{", "}", "\"dtype\":", "\"F32\"", "\"F16\"", "\"BF16\"", "\"F64\"", "\"I64\"", "\"I8\"", "\"U8\"", "\"BOOL\"",
    "\"shape\":[", "\"data_offsets\":[", "]", "\"__metadata__\":{", "\"format\":\"pt\"", "\"weight\":", ",", "0", "-1",
    "4611686018427387904", "\\u0000", "\\ud800",
  ]

  /// A safetensors file: header and values.
  static let safetensors = FuzzTarget(
    name: "safetensors",
    about: "a safetensors file",
    limits: FuzzLimits(memory: 2 << 20, memoryPerByte: 256),
    dictionary: tensorDictionary,
    seeds: { try TensorSamples.files() },
    repair: TensorSamples.repaired
  ) { bytes, scratch in
    let file = try SafetensorsFile(opening: scratch.file("a.safetensors", bytes))
    for name in file.names {
      _ = try file.bytes(of: name)
      let values = [try? file.floats(name).count, try? file.integers(name).count].compactMap { $0 }
      try FuzzFailure.unless(
        values.allSatisfy { $0 == Tensor.count(of: file.entry(name)?.shape ?? [-1]) },
        "tensor '\(name)' has another number of values than its shape says"
      )
    }
    let set = try SafetensorsFile.read(scratch.folder.appendingPathComponent("a.safetensors"))
    let written = try FuzzFailure.onError("what was read cannot be written") {
      try SafetensorsFile.serialize(set, metadata: file.metadata)
    }
    let (again, metadata) = try FuzzFailure.onError("what was written cannot be read") {
      let url = try scratch.file("b.safetensors", written)
      return (try SafetensorsFile.read(url), try SafetensorsFile(opening: url).metadata)
    }
    let twice = try FuzzFailure.onError("what was read again cannot be written") {
      try SafetensorsFile.serialize(again, metadata: metadata)
    }
    try FuzzFailure.unless(written == twice, "tensors change when they are written")
  }

  /// The index of a checkpoint that lies in several files.
  static let shards = FuzzTarget(
    name: "shards",
    about: "the index of a sharded checkpoint",
    dictionary: [
      "{", "}", "\"weight_map\":{", "\"weight\":", "\"one.safetensors\"", "\"two.safetensors\"",
      "\"../one.safetensors\"",
      "\".\"", "\"\"", "\"/dev/zero\"", "null", "[",
    ],
    seeds: {
      [
        Array(
          #"{"metadata":{"total_size":40},"weight_map":{"first":"one.safetensors","second":"two.safetensors"}}"#.utf8
        )
      ]
    }
  ) { bytes, scratch in
    for (name, file) in [("first", "one.safetensors"), ("second", "two.safetensors")] {
      _ = try scratch.file(file, TensorSamples.small(name))
    }
    _ = try scratch.file("model.safetensors.index.json", bytes)
    let folder = try CheckpointFolder(scratch.folder)
    for name in folder.names {
      let file = folder.file(holding: name)
      try FuzzFailure.unless(
        (try? file?.floats(name)) != nil,
        "the index accepts tensor '\(name)', which no file holds"
      )
    }
  }

  /// A PEFT folder: `adapter_config.json`, a zero byte, `adapter_model.safetensors`.
  static let adapterFolder = FuzzTarget(
    name: "adapter",
    about: "a PEFT adapter folder",
    limits: FuzzLimits(memory: 4 << 20, memoryPerByte: 256),
    dictionary: tensorDictionary + [
      "\"peft_type\":", "\"LORA\"", "\"VERA\"", "\"r\":", "\"lora_alpha\":", "\"lora_dropout\":", "\"use_rslora\":",
      "\"target_modules\":", "\"query|value\"", "\"(a|a)*b\"", "\"modules_to_save\":", "\"rank_pattern\":", "null",
      "base_model.model.", "base_model.vera_A", "vera_A", "vera_B", "true", "false", "1e308",
    ],
    seeds: {
      try [PEFTConfiguration.Kind.lora, .vera].map { kind in
        let scratch = try FuzzScratch()
        try PEFTAdapterFolder(
          configuration: PEFTConfiguration(
            kind: kind,
            rank: 2,
            alpha: 4,
            dropout: 0.1,
            usesRSLoRA: kind == .lora,
            targets: kind == .lora ? .suffixes(["query", "value"]) : .pattern(".*\\.(query|key)"),
            modulesToSave: ["classifier"],
            baseModel: "bert"
          ),
          tensors: WireSamples.tensors
        ).write(to: scratch.folder)
        let parts = try ["adapter_config.json", "adapter_model.safetensors"].map {
          [UInt8](try Data(contentsOf: scratch.folder.appendingPathComponent($0)))
        }
        return parts[0] + [0] + parts[1]
      }
    }
  ) { bytes, scratch in
    let parts = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
    let folder = try scratch.subfolder("a")
    _ = try scratch.file("a/adapter_config.json", parts[0])
    _ = try scratch.file("a/adapter_model.safetensors", parts.count > 1 ? parts[1] : [])
    let read = try PEFTAdapterFolder(reading: folder)
    if let adapter = try? LoRAConfiguration(peft: read.configuration) {
      _ = try? adapter.targets.matches("bert.encoder.layer.11.attention.self.query")
    }
    let other = scratch.folder.appendingPathComponent("b")
    let again = try FuzzFailure.onError("an adapter that was read cannot be written and read again") {
      do { try read.write(to: other) } catch is TensorError { return read }
      return try PEFTAdapterFolder(reading: other)
    }
    try FuzzFailure.unless(again.configuration == read.configuration, "a configuration changes when it is written")
    try FuzzFailure.unless(again.tensors.names == read.tensors.names, "tensors change when they are written")
  }

  /// `config.json` of a model folder, beside a checkpoint of a tiny BERT.
  static let modelConfiguration = FuzzTarget(
    name: "model-config",
    about: "config.json of a model folder",
    dictionary: [
      "\"model_type\":", "\"bert\"", "\"architectures\":", "\"hidden_size\":", "\"num_hidden_layers\":",
      "\"vocab_size\":",
      "\"num_attention_heads\":", "\"intermediate_size\":", "\"max_position_embeddings\":", "\"type_vocab_size\":",
      "null",
      "\"gpt2\"", "\"gpt_neox\"", "\"gemma2\"", "\"phi3\"", "\"qwen3\"", "\"smollm3\"", "\"rope_parameters\":",
      "\"rope_type\":",
      "\"longrope\"", "\"short_factor\":", "\"partial_rotary_factor\":", "\"layer_types\":", "\"head_dim\":",
      "\"n_inner\":",
      "\"layer_norm_eps\":", "\"gelu\"", "\"hidden_act\":", "\"absolute\"", "true", "false", "{", "}", ",", "1e15",
      "-1",
    ],
    seeds: { [TinyCheckpoint.configuration] }
  ) { bytes, scratch in
    let folder = try scratch.subfolder("model")
    _ = try scratch.file("model/config.json", bytes)
    _ = try scratch.file("model/model.safetensors", TinyCheckpoint.tensors)
    let model = try FrozenModel(folder: folder)
    let adapter = try LoRAConfiguration(rank: 1, alpha: 1, targets: .suffixes(["query"]))
    let head = ClassificationHead(labelCount: 2, pooling: .mean)
    _ = try AdaptedModel(base: model, adapter: adapter, head: head)
  }
}

/// Safetensors files of every type, and how to put a header's length right.
enum TensorSamples {
  static func files() throws -> [[UInt8]] {
    let plain = [UInt8](try SafetensorsFile.serialize(WireSamples.tensors, metadata: ["format": "pt"]))
    let types = [
      ("F16", 2), ("BF16", 2), ("F64", 8), ("I64", 8), ("I32", 4), ("I16", 2), ("I8", 1), ("U8", 1), ("BOOL", 1),
    ]
    var header: [String] = []
    var end = 0
    for (name, size) in types {
      header.append(
        "\"\(name.lowercased())\":{\"dtype\":\"\(name)\",\"shape\":[2,1],\"data_offsets\":[\(end),\(end + 2 * size)]}"
      )
      end += 2 * size
    }
    return [plain, file("{\(header.joined(separator: ","))}", [UInt8](0..<UInt8(end))), file("{}", [])]
  }

  static func small(_ name: String) throws -> [UInt8] {
    var set = TensorSet()
    set[name] = try Tensor(shape: [2, 2], values: [1, 2, 3, 4])
    return [UInt8](try SafetensorsFile.serialize(set))
  }

  private static func file(_ header: String, _ data: [UInt8]) -> [UInt8] {
    withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) } + Array(header.utf8) + data
  }

  /// The header ends at the last brace and the spaces behind it; the length says so.
  @Sendable static func repaired(_ bytes: [UInt8]) -> [UInt8] {
    guard bytes.count > 8, var end = bytes[8...].lastIndex(of: UInt8(ascii: "}")) else { return bytes }
    while end + 1 < bytes.count, bytes[end + 1] == UInt8(ascii: " ") { end += 1 }
    return withUnsafeBytes(of: UInt64(end - 7).littleEndian) { Array($0) } + bytes[8...]
  }
}

/// A BERT of 4 dimensions, 1 layer and 10 tokens.
enum TinyCheckpoint {
  static let configuration = Array(
    """
    {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": 4, "intermediate_size": 8,
     "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 10, "max_position_embeddings": 8,
     "type_vocab_size": 2, "layer_norm_eps": 1e-12}
    """.utf8
  )

  static let tensors: [UInt8] = {
    var set = TensorSet()
    let layer = "encoder.layer.0"
    for (name, shape) in [
      ("embeddings.word_embeddings.weight", [10, 4]), ("embeddings.position_embeddings.weight", [8, 4]),
      ("embeddings.token_type_embeddings.weight", [2, 4]), ("embeddings.LayerNorm.weight", [4]),
      ("embeddings.LayerNorm.bias", [4]), ("\(layer).attention.self.query.weight", [4, 4]),
      ("\(layer).attention.self.query.bias", [4]), ("\(layer).attention.self.key.weight", [4, 4]),
      ("\(layer).attention.self.key.bias", [4]), ("\(layer).attention.self.value.weight", [4, 4]),
      ("\(layer).attention.self.value.bias", [4]), ("\(layer).attention.output.dense.weight", [4, 4]),
      ("\(layer).attention.output.dense.bias", [4]), ("\(layer).attention.output.LayerNorm.weight", [4]),
      ("\(layer).attention.output.LayerNorm.bias", [4]), ("\(layer).intermediate.dense.weight", [8, 4]),
      ("\(layer).intermediate.dense.bias", [8]), ("\(layer).output.dense.weight", [4, 8]),
      ("\(layer).output.dense.bias", [4]), ("\(layer).output.LayerNorm.weight", [4]),
      ("\(layer).output.LayerNorm.bias", [4]),
    ] {
      let count = shape.reduce(1, *)
      set[name] = try? Tensor(shape: shape, values: (0..<count).map { Float($0 % 7) / 8 })
    }
    return (try? SafetensorsFile.serialize(set)).map { [UInt8]($0) } ?? []
  }()
}
