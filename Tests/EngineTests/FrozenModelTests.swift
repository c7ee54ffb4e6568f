import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Testing

/// Model folders that are not what they should be.
@Suite struct FrozenModelTests {
  /// A copy of a fixture's model that a test may spoil.
  private func copy() throws -> URL {
    let oracle = try #require(OracleFolder.committed.first { $0.url.lastPathComponent == "prefixed" })
    let target = FileManager.default.temporaryDirectory.appendingPathComponent("fedlora-\(UUID().uuidString)")
    try FileManager.default.copyItem(at: oracle.url.appendingPathComponent("model"), to: target)
    return target
  }

  private func edit(_ folder: URL, _ change: (inout [String: Any]) -> Void) throws {
    let url = folder.appendingPathComponent("config.json")
    var object = try #require(JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
    change(&object)
    try JSONSerialization.data(withJSONObject: object).write(to: url)
  }

  static let spoiled: [(key: String, value: String)] = [
    ("model_type", "t5"), ("hidden_act", "mish"), ("position_embedding_type", "relative_key"),
    ("hidden_size", "-3"), ("num_attention_heads", "5"), ("vocab_size", "many"),
  ]

  @Test(arguments: spoiled)
  func aConfigurationThatCannotBeUsedIsRefusedByItsKey(key: String, value: String) throws {
    let folder = try copy()
    defer { try? FileManager.default.removeItem(at: folder) }
    try edit(folder) { $0[key] = Int(value).map { $0 as Any } ?? value }
    let error = #expect(throws: ModelError.self) { try FrozenModel(folder: folder) }
    #expect(error?.description.contains(key) == true)
    #expect(error?.description.contains("config.json") == true)
  }

  @Test func aTensorThatIsMissingOrMisshapenIsNamed() throws {
    let folder = try copy()
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = folder.appendingPathComponent("model.safetensors")
    let whole = try SafetensorsFile.read(file)
    let name = "bert.encoder.layer.1.output.dense.weight"
    var lacking = whole
    lacking[name] = nil
    try SafetensorsFile.write(lacking, to: file)
    let missing = #expect(throws: SafetensorsError.self) { try FrozenModel(folder: folder) }
    #expect(missing?.code == .missingTensor)
    #expect(missing?.tensor == name)
    var misshapen = whole
    misshapen[name] = Tensor(zeros: [3, 3])
    try SafetensorsFile.write(misshapen, to: file)
    let error = #expect(throws: ModelError.self) { try FrozenModel(folder: folder) }
    #expect(error?.description.contains(name) == true)
  }

  @Test func foldersWithoutTheirFilesAreNamed() throws {
    let folder = try copy()
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.removeItem(at: folder.appendingPathComponent("model.safetensors"))
    #expect(throws: SafetensorsError.self) { try FrozenModel(folder: folder) }
    try Data("{".utf8).write(to: folder.appendingPathComponent("config.json"))
    #expect(throws: ModelError.self) { try FrozenModel(folder: folder) }
    #expect(throws: ModelError.self) { try FrozenModel(folder: folder.appendingPathComponent("nowhere")) }
  }

  @Test func theFingerprintFollowsTheTensorsAndNothingElse() throws {
    let (one, two) = (try copy(), try copy())
    defer {
      try? FileManager.default.removeItem(at: one)
      try? FileManager.default.removeItem(at: two)
    }
    #expect(try FrozenModel(folder: one).fingerprint == FrozenModel(folder: two).fingerprint)
    let file = two.appendingPathComponent("model.safetensors")
    var tensors = try SafetensorsFile.read(file)
    // The same tensors in another file layout are the same model.
    try SafetensorsFile.write(tensors, to: file, metadata: ["note": "rewritten"])
    #expect(try FrozenModel(folder: one).fingerprint == FrozenModel(folder: two).fingerprint)
    let name = try #require(tensors.names.first)
    tensors[name]?.values[0] += 1
    try SafetensorsFile.write(tensors, to: file)
    #expect(try FrozenModel(folder: one).fingerprint != FrozenModel(folder: two).fingerprint)
  }

  @Test func theFingerprintIsThatOfEveryVersion() throws {
    let oracle = try #require(OracleFolder.committed.first { $0.url.path.hasSuffix("bert/long") })
    // By Python's hashlib: for each tensor by name "name\ntype\n[shape]\n", as in "[2, 3]", and its bytes.
    #expect(
      try FrozenModel(folder: oracle.url.appendingPathComponent("model")).fingerprintText
        == "6a706061cd033f3065b4ab4e09254308bee50e80b7a5c9c5c97fafd0743d83c4"
    )
  }

  @Test func aHeadThatTheCheckpointCannotFeedIsRefused() throws {
    let folder = try copy()
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = folder.appendingPathComponent("model.safetensors")
    try SafetensorsFile.write(SafetensorsFile.read(file).filter { !$0.contains("pooler") }, to: file)
    let base = try FrozenModel(folder: folder)
    let adapter = try LoRAConfiguration(rank: 1, alpha: 1, targets: .suffixes(["query"]))
    #expect(throws: ModelError.self) {
      try AdaptedModel(base: base, adapter: adapter, head: ClassificationHead(labelCount: 2, pooling: .pooler))
    }
    #expect(throws: ModelError.self) {
      try AdaptedModel(base: base, adapter: adapter, head: ClassificationHead(labelCount: 1, pooling: .mean))
    }
  }
}
