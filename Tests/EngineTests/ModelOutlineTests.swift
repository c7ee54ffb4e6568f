import FedLoRAEngine
import Foundation
import Testing

/// What is told of a model without its weights, against the model.
@Suite("Model outlines")
struct ModelOutlineTests {
  private static let folders =
    (DecoderOracle.committed.map(\.folder) + OracleFolder.committed + OracleFolder.classifyingDecoders)

  @Test("agree with the model and its adapters", arguments: folders)
  func agreement(_ oracle: OracleFolder) throws {
    let folder = oracle.url.appendingPathComponent("model")
    let outline = try ModelOutline(folder: folder)
    let base = try FrozenModel(folder: folder)
    #expect(outline.spec == base.spec)
    let expanded = outline.modules.flatMap { module in
      (0..<module.count).map { layer in
        let path = module.path.split(separator: ".").map { $0 == "*" ? "\(layer)" : String($0) }
        return "\(path.joined(separator: ".")) \(module.inputSize) \(module.outputSize)"
      }
    }
    #expect(expanded.sorted() == base.adaptableModules.map { "\($0.name) \($0.inputSize) \($0.outputSize)" }.sorted())
    // Decoders' folders hold what the model needs and nothing else.
    if DecoderOracle.committed.contains(where: { $0.description == oracle.description }) {
      #expect(outline.parameterCount == base.parameterCount && outline.hasLanguageHead)
      #expect(outline.storedTypes == ["F32"] && outline.storedBytes == 4 * base.parameterCount)
    } else {
      #expect(!outline.hasLanguageHead || outline.isTied)
      #expect(outline.parameterCount <= base.parameterCount)
    }
    let targets = ModelFamily.usualTargets(of: outline.spec.family)
    let taken = try outline.modules(taken: .suffixes(targets))
    let adapter = try LoRAConfiguration(rank: 2, alpha: 2, targets: .suffixes(targets))
    let model = try AdaptedModel(base: base, adapter: adapter, head: ClassificationHead(labelCount: 2, pooling: .last))
    let wanted = model.layout.entries.filter { $0.kind != .head }.reduce(0) { $0 + $1.count }
    #expect(taken.reduce(0) { $0 + $1.count * 2 * ($1.inputSize + $1.outputSize) } == wanted)
  }

  @Test("refuse targets that no module has")
  func noSuchModule() throws {
    let oracle = try #require(OracleFolder.committed.first)
    let outline = try ModelOutline(folder: oracle.url.appendingPathComponent("model"))
    #expect(throws: ModelError.self) { try outline.modules(taken: .suffixes(["c_attn"])) }
    let one = try outline.modules(taken: .suffixes(["layer.1.attention.self.query"]))
    #expect(one.map(\.count) == [1])
  }
}
