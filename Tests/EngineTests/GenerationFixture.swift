import FedLoRACheckpoint
import FedLoRAEngine
import Foundation

/// Answers of transformers about generation, made by Tests/Oracles/make_generation_fixtures.py.
enum GenerationFixture {
  static let folder = OracleFolder.packageRoot.appendingPathComponent("Tests/EngineTests/Fixtures/generation")
  static let tiny = folder.appendingPathComponent("tiny")
  /// A real model beside the checkout, which is not needed.
  static let stories = OracleFolder.packageRoot.deletingLastPathComponent().appendingPathComponent(
    "shared/models/stories260K"
  )

  struct Greedy: Decodable {
    let prompts: [[Int32]]
    let new_tokens: Int
    let base: [[Int32]]
    let lora: [[Int32]]
    let penalised: [[Int32]]
    let penalty: Double
  }

  struct Sample: Decodable {
    let logits: [Float]
    let temperature: Double
    let top_k: Int?
    let top_p: Double
    let penalty: Double
    let seen: [Int32]
    let probabilities: [Double]
  }

  struct Tiny: Decodable {
    struct Text: Decodable {
      let text: String
      let ids: [Int32]
      let adapter: Bool
      let tokens: [Int32]
    }
    struct Likelihood: Decodable {
      let context: String
      let ending: String
      let tokens: [Int32]
      let sum: Double
      let greedy: Bool
    }
    let texts: [Text]
    let likelihoods: [Likelihood]
  }

  struct Story: Decodable {
    let text: String
    let prompt: [Int32]
    let new_tokens: Int
    let tokens: [Int32]
  }

  struct Masked: Decodable {
    struct Text: Decodable {
      let tokens: [Int32]
      let place: Int
      let logits: [Float]
      let pseudo: Double
    }
    let mask: Int32
    let texts: [Text]
  }

  static func read<T: Decodable>(_ type: T.Type, _ name: String) throws -> T {
    try JSONDecoder().decode(type, from: Data(contentsOf: folder.appendingPathComponent(name)))
  }
}
