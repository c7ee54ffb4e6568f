import FedLoRACheckpoint
import Foundation
import Testing

@Suite struct PEFTAdapterFolderTests {
  private func sample() throws -> PEFTAdapterFolder {
    PEFTAdapterFolder(
      configuration: PEFTConfiguration(
        rank: 2,
        alpha: 4,
        dropout: 0.05,
        usesRSLoRA: true,
        targets: .suffixes(["query", "value"]),
        modulesToSave: ["classifier", "score"],
        baseModel: "minilm"
      ),
      tensors: try TensorSet([
        ("m.query.lora_A.weight", Tensor(shape: [2, 3], values: [1, 2, 3, 4, 5, 6])),
        ("classifier.bias", Tensor(shape: [2], values: [0.5, -1])),
      ])
    )
  }

  @Test func aFolderComesBackAsItWasWritten() throws {
    let folder = try TemporaryFolder()
    let written = try sample()
    try written.write(to: folder.file("adapter"))
    #expect(try PEFTAdapterFolder(reading: folder.file("adapter")) == written)
    let stored = try SafetensorsFile(opening: folder.file("adapter/adapter_model.safetensors"))
    #expect(stored.names == ["base_model.model.classifier.bias", "base_model.model.m.query.lora_A.weight"])
  }

  @Test func projectionsOfVeRAStandOnTheOuterWrapper() throws {
    let folder = try TemporaryFolder()
    var written = try sample()
    written.configuration.kind = .vera
    written.configuration.alpha = 1
    written.configuration.usesRSLoRA = false
    written.tensors = try TensorSet([
      ("m.query.vera_lambda_d", Tensor(shape: [2], values: [0.1, 0.1])),
      ("vera_A", Tensor(shape: [2, 3], values: [1, 2, 3, 4, 5, 6])),
    ])
    try written.write(to: folder.file("adapter"))
    #expect(try PEFTAdapterFolder(reading: folder.file("adapter")) == written)
    let stored = try SafetensorsFile(opening: folder.file("adapter/adapter_model.safetensors"))
    #expect(stored.names == ["base_model.model.m.query.vera_lambda_d", "base_model.vera_A"])
  }

  static let refusals: [(key: String, value: String)] = [
    ("peft_type", "\"IA3\""), ("use_dora", "true"), ("rank_pattern", "{\"a\": 4}"),
    ("bias", "\"all\""), ("r", "0"), ("r", "2.5"), ("r", "\"8\""), ("target_modules", "[]"), ("target_modules", "7"),
    ("layers_to_transform", "[0]"), ("lora_alpha", "null"),
  ]

  @Test(arguments: refusals)
  func whatFedloraLacksIsRefusedByItsKey(key: String, value: String) throws {
    let folder = try TemporaryFolder()
    try sample().write(to: folder.url)
    let config = folder.file("adapter_config.json")
    var object = try #require(JSONSerialization.jsonObject(with: Data(contentsOf: config)) as? [String: Any])
    object[key] = try JSONSerialization.jsonObject(with: Data(value.utf8), options: .fragmentsAllowed)
    try JSONSerialization.data(withJSONObject: object).write(to: config)
    let error = #expect(throws: PEFTError.self) { try PEFTAdapterFolder(reading: folder.url) }
    #expect(error?.key == key)
  }

  @Test func aFolderWithoutItsFilesIsNamed() throws {
    let folder = try TemporaryFolder()
    let error = #expect(throws: PEFTError.self) { try PEFTAdapterFolder(reading: folder.url) }
    #expect(error?.description.contains("adapter_config.json") == true)
    try sample().write(to: folder.url)
    try FileManager.default.removeItem(at: folder.file("adapter_model.safetensors"))
    #expect(throws: SafetensorsError.self) { try PEFTAdapterFolder(reading: folder.url) }
  }
}
