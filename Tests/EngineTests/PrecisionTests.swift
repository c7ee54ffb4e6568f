import CKernels
import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Testing

/// A base model in few bits: the same loss and gradients but for the rounding of its matrices, in every precision.
@Suite("A base model's precision")
struct PrecisionTests {
  private struct Outcome {
    let loss: Double
    let gradient: [Float]
  }

  private static func outcome(
    _ folder: URL,
    _ precision: BasePrecision,
    hasBF16: Bool = true
  ) async throws -> Outcome {
    let base = try FrozenModel(folder: folder, precision: precision)
    let isDecoder = base.spec.isDecoder
    let model = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(
        rank: 4,
        alpha: 8,
        targets: .suffixes(ModelFamily.usualTargets(of: base.spec.family) + ["dense", "down_proj", "c_fc"])
      ),
      head: isDecoder ? nil : ClassificationHead(labelCount: 3, pooling: .mean)
    )
    let pool = ComputePool(threadCount: 1)
    defer { pool.shutDown() }
    let runner = ModelRunner(model: model, pool: pool)
    var batch = PackedBatch()
    for row in 0..<9 {
      let length = 3 + row % 7
      let tokens = (0..<length).map { Int32(1 + (row * 5 + $0 * 3) % (base.spec.vocabularySize - 1)) }
      if isDecoder {
        batch.append(tokens: tokens)
      } else {
        batch.append(tokens: tokens, tokenTypes: [Int32](repeating: 0, count: length), label: row % 3)
      }
    }
    let input = batch
    return try await pool.perform {
      fl_forbid_bf16(hasBF16 ? 0 : 1)
      defer { fl_forbid_bf16(0) }
      let parameters = (0..<model.layout.count).map { Float(sin(Double($0) * 12.9898)) * 0.2 }
      var gradient = [Float](repeating: 0, count: model.layout.count)
      let summary = try runner.gradient(
        of: input,
        parameters: parameters,
        trained: .all,
        dropoutKey: nil,
        into: &gradient
      )
      return Outcome(loss: summary.meanLoss, gradient: gradient)
    }
  }

  /// Norm of the difference over the norm.
  private static func distance(_ one: [Float], _ other: [Float]) -> Double {
    let difference = zip(one, other).reduce(0.0) { $0 + pow(Double($1.0 - $1.1), 2) }
    return (difference / one.reduce(0.0) { $0 + pow(Double($1), 2) }).squareRoot()
  }

  /// The model of a fixture with every matrix rounded as `precision` does, as floats.
  private static func widened(_ oracle: OracleFolder, _ precision: BasePrecision) throws -> URL {
    let source = oracle.url.appendingPathComponent("model")
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try FileManager.default.copyItem(
      at: source.appendingPathComponent("config.json"),
      to: folder.appendingPathComponent("config.json")
    )
    let modules = try FrozenModel(folder: source).adaptableModules.map(\.name)
    var tensors = TensorSet()
    let stored = try SafetensorsFile.read(source.appendingPathComponent("model.safetensors"))
    for entry in stored.entries {
      let isLinear = modules.contains { "\($0).weight".hasSuffix(entry.name) || entry.name.hasSuffix("\($0).weight") }
      let isEmbedding = ["embed_tokens.weight", "wte.weight", "word_embeddings.weight", "lm_head.weight"].contains {
        entry.name.hasSuffix($0)
      }
      var values = entry.tensor.values
      if isLinear || isEmbedding {
        let columns = entry.tensor.shape[1]
        for row in 0..<entry.tensor.shape[0] {
          let range = row * columns..<(row + 1) * columns
          values.replaceSubrange(
            range,
            with: rounded(Array(values[range]), isLinear ? precision : precision.ofEmbeddings)
          )
        }
      }
      tensors[entry.name] = try Tensor(shape: entry.tensor.shape, values: values)
    }
    try SafetensorsFile.write(tensors, to: folder.appendingPathComponent("model.safetensors"), metadata: [:])
    return folder
  }

  private static func rounded(_ row: [Float], _ precision: BasePrecision) -> [Float] {
    var scales = [Float](repeating: 0, count: (row.count + 63) / 64)
    switch precision {
    case .f32: return row
    case .bf16:
      var bits = [UInt16](repeating: 0, count: row.count)
      fl_to_bf16(row, &bits, row.count)
      return bits.map { Float(bitPattern: UInt32($0) << 16) }
    case .int8:
      var codes = [Int8](repeating: 0, count: row.count)
      fl_to_int8(row, &codes, &scales, row.count)
      return codes.enumerated().map { scales[$0 / 64] * Float($1) }
    case .nf4:
      var codes = [UInt8](repeating: 0, count: (row.count + 1) / 2)
      fl_to_nf4(row, &codes, &scales, row.count)
      return withUnsafeBytes(of: fl_nf4_values) { raw in
        let table = raw.bindMemory(to: Float.self)
        return row.indices.map { scales[$0 / 64] * table[Int(codes[$0 / 2] >> (4 * UInt8($0 % 2))) & 15] }
      }
    }
  }

  /// An encoder and a decoder; `more` are further decoders, such as one whose weights stand as inputs × outputs.
  private static func oracles(_ more: String...) throws -> [OracleFolder] {
    let decoders = try (["llama"] + more).map { name in
      try #require(DecoderOracle.committed.first { $0.description == name }).folder
    }
    return try [#require(OracleFolder.committed.first)] + decoders
  }

  @Test(
    "is that of a model of floats with the same rounded matrices",
    arguments: [BasePrecision.bf16, .int8, .nf4]
  )
  func exact(_ precision: BasePrecision) async throws {
    for oracle in try Self.oracles("gpt2", "phi3", "gemma2") {
      let folder = try Self.widened(oracle, precision)
      defer { try? FileManager.default.removeItem(at: folder) }
      let wanted = try await Self.outcome(folder, .f32)
      let found = try await Self.outcome(oracle.url.appendingPathComponent("model"), precision, hasBF16: false)
      #expect(abs(found.loss - wanted.loss) < 1e-6 * wanted.loss)
      let distance = Self.distance(wanted.gradient, found.gradient)
      #expect(distance < 1e-5, "\(oracle.url.path): \(distance)")
      // The processor's own instructions round the other factor too; how far that leads depends on the random model.
      let fast = try await Self.outcome(oracle.url.appendingPathComponent("model"), precision)
      #expect(abs(fast.loss - wanted.loss) < 0.01 * wanted.loss)
      let roundedDistance = Self.distance(wanted.gradient, fast.gradient)
      #expect(roundedDistance < 0.1, "\(oracle.url.path): \(roundedDistance)")
    }
  }

  @Test(
    "stays near float32",
    arguments: [(BasePrecision.bf16, 0.02), (.int8, 0.05), (.nf4, 0.7)]
  )
  func near(_ precision: BasePrecision, _ bound: Double) async throws {
    for oracle in try Self.oracles() {
      let folder = oracle.url.appendingPathComponent("model")
      let exact = try await Self.outcome(folder, .f32)
      let found = try await Self.outcome(folder, precision, hasBF16: false)
      let distance = Self.distance(exact.gradient, found.gradient)
      #expect(distance < bound && distance > 0, "\(oracle.url.path): \(distance)")
    }
  }

  @Test("does not change a model's fingerprint")
  func fingerprint() throws {
    let folder = try #require(OracleFolder.committed.first).url.appendingPathComponent("model")
    let prints = try BasePrecision.allCases.map { try FrozenModel(folder: folder, precision: $0).fingerprint }
    #expect(Set(prints).count == 1)
  }
}
