import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Testing

/// The real MiniLM, where it exists beside the checkout.
///
/// The answers are of the F32 checkpoint. The folder beside the checkout holds its F16 form, which bounds the agreement;
/// `FEDLORA_MINILM_F32` may name a folder with the F32 one, and then the engine's own tolerances are demanded.
@Suite struct RealMiniLMTests {
  static let shared = OracleFolder.packageRoot.deletingLastPathComponent().appendingPathComponent("shared")
  static let oracle = OracleFolder(url: shared.appendingPathComponent("oracle/minilm_real"))
  static let full = ProcessInfo.processInfo.environment["FEDLORA_MINILM_F32"].map { URL(fileURLWithPath: $0) }
  static let model = full ?? shared.appendingPathComponent("models/minilm-l6-f16")
  static let isHere =
    FileManager.default.fileExists(atPath: oracle.url.path) && FileManager.default.fileExists(atPath: model.path)

  @Test(.enabled(if: isHere, "needs ../shared/oracle/minilm_real and ../shared/models"))
  func embeddingsLogitsAndGradientsMatch() throws {
    let tolerance: (logits: Float, gradients: Double, embedding: Float) =
      Self.full == nil ? (2e-3, 1e-2, 1e-3) : (1e-4, 1e-3, 1e-5)
    let (model, parameters) = try Self.oracle.load(model: Self.model)
    let expected = try Self.oracle.expected()
    let (batch, _) = try Self.oracle.batch(0)
    let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 2))
    defer { runner.pool.shutDown() }
    let logits = largestDifference(
      try runner.logits(batch, parameters: parameters),
      try expected.floats("lora.logits")
    )
    #expect(logits < tolerance.logits)
    var gradient = [Float](repeating: 0, count: model.layout.count)
    _ = try runner.gradient(of: batch, parameters: parameters, trained: .all, dropoutKey: nil, into: &gradient)
    var checked = 0
    for entry in model.layout.entries where expected.entry("grad.\(entry.name)") != nil {
      let difference = relativeDifference(Array(gradient[entry.range]), try expected.floats("grad.\(entry.name)"))
      #expect(difference < tolerance.gradients, "\(entry.name)")
      checked += 1
    }
    #expect(checked == 10)

    // Sentence embeddings: the normalised mean over the tokens, without the adapter.
    let mean = try AdaptedModel(
      base: model.base,
      adapter: model.adapter,
      head: ClassificationHead(labelCount: 2, pooling: .mean)
    )
    let means = ModelRunner(model: mean, pool: runner.pool)
    let vectors = try means.pooled(batch, parameters: [Float](repeating: 0, count: mean.layout.count))
    let hidden = model.base.spec.hiddenSize
    let wanted = try expected.floats("embedding")
    for row in 0..<batch.count {
      let vector = Array(vectors[row * hidden..<(row + 1) * hidden])
      let norm = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
      let difference = largestDifference(
        vector.map { $0 / norm },
        Array(wanted[row * hidden..<(row + 1) * hidden])
      )
      #expect(difference < tolerance.embedding)
    }
  }

  private struct Texts: Decodable { let texts: [String] }

  @Test(.enabled(if: isHere, "needs ../shared/oracle/minilm_real and ../shared/models"))
  func textsBecomeTheSameTokens() throws {
    let tokenizer = try Tokenizer.load(from: Self.model)
    let file = Self.oracle.url.appendingPathComponent("oracle.json")
    let texts = try JSONDecoder().decode(Texts.self, from: Data(contentsOf: file)).texts
    let (batch, _) = try Self.oracle.batch(0)
    for (index, text) in texts.enumerated() {
      let ids = try tokenizer.encodeIds(text).ids
      #expect(ids == Array(batch.tokens[batch.offsets[index]..<batch.offsets[index + 1]]), "\(text)")
    }
  }
}
