import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Testing

/// The real MiniLM checkpoint, where it exists beside the checkout.
@Suite struct RealMiniLMTests {
  static let shared = OracleFolder.packageRoot.deletingLastPathComponent().appendingPathComponent("shared")
  static let oracle = OracleFolder(url: shared.appendingPathComponent("oracle/minilm_real"))
  static let model = shared.appendingPathComponent("models/minilm-l6-f16")
  static let isHere =
    FileManager.default.fileExists(atPath: oracle.url.path) && FileManager.default.fileExists(atPath: model.path)

  /// The expectations are of the F32 checkpoint, the model here is its F16 form: half precision bounds the agreement.
  @Test(.enabled(if: isHere, "needs ../shared/oracle/minilm_real and ../shared/models"))
  func embeddingsLogitsAndGradientsMatch() throws {
    let (model, parameters) = try Self.oracle.load(model: Self.model)
    let expected = try Self.oracle.expected()
    let (batch, _) = try Self.oracle.batch(0)
    let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 2))
    defer { runner.pool.shutDown() }
    #expect(
      largestDifference(try runner.logits(batch, parameters: parameters), try expected.floats("lora.logits")) < 2e-3
    )
    var gradient = [Float](repeating: 0, count: model.layout.count)
    _ = try runner.gradient(of: batch, parameters: parameters, trained: .all, dropoutKey: nil, into: &gradient)
    var checked = 0
    for entry in model.layout.entries where expected.entry("grad.\(entry.name)") != nil {
      let difference = relativeDifference(Array(gradient[entry.range]), try expected.floats("grad.\(entry.name)"))
      #expect(difference < 1e-2, "\(entry.name)")
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
      #expect(largestDifference(vector.map { $0 / norm }, Array(wanted[row * hidden..<(row + 1) * hidden])) < 1e-3)
    }
  }
}
