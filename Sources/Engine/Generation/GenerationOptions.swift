import Foundation

/// How a text is gone on with.
public struct GenerationOptions: Sendable, Equatable {
  /// Most new tokens of a prompt, at least 1.
  public let maximumNewTokens: Int
  /// How a token is chosen.
  public let sampling: Sampling
  /// Tokens after which a text is over; the token itself is still part of the result.
  public let stopTokens: Set<Int32>
  /// What the draws follow from: each prompt has a stream of its own.
  public let seed: UInt64

  /// Checks the range.
  /// - Throws: `GenerationError.badOption`.
  public init(
    maximumNewTokens: Int,
    sampling: Sampling = .greedy,
    stopTokens: Set<Int32> = [],
    seed: UInt64 = 0
  ) throws(GenerationError) {
    guard maximumNewTokens >= 1 else {
      throw .badOption(name: "max-new-tokens", found: "\(maximumNewTokens)", expected: "1 or more")
    }
    self.maximumNewTokens = maximumNewTokens
    self.sampling = sampling
    self.stopTokens = stopTokens
    self.seed = seed
  }

  /// The stop tokens of a model folder: `eos_token_id` of `generation_config.json`, or else of `config.json`; one or a list.
  /// - Throws: `GenerationError.badFile`.
  public static func stopTokens(of folder: URL) throws(GenerationError) -> Set<Int32> {
    for name in ["generation_config.json", "config.json"] {
      let url = folder.appendingPathComponent(name)
      guard FileManager.default.fileExists(atPath: url.path) else { continue }
      guard let data = try? Data(contentsOf: url), let node = try? JSONNode(parsing: Array(data)) else {
        throw .badFile(file: url.path, reason: "is not JSON")
      }
      let nodes: [JSONNode]
      switch node["eos_token_id"] {
      case .none, .null: continue
      case .array(let list): nodes = list
      case .some(let single): nodes = [single]
      }
      var tokens: Set<Int32> = []
      for node in nodes {
        guard case .integer(let value) = node, let token = Int32(exactly: value), token >= 0 else {
          throw .badFile(
            file: url.path,
            reason: "'eos_token_id' holds \(node.kind), expected one token's number or a list"
          )
        }
        tokens.insert(token)
      }
      return tokens
    }
    return []
  }
}

/// What became of a prompt.
public struct GeneratedTokens: Sendable, Equatable {
  /// Why a text ended.
  public enum End: String, Sendable, Equatable {
    /// With a stop token.
    case stopToken = "stop-token"
    /// It has as many new tokens as were asked for.
    case length
    /// It fills the model's positions.
    case context
    /// The caller wanted no more.
    case cancelled
  }

  /// The new tokens, a stop token included.
  public var tokens: [Int32]
  /// Why there are no more.
  public var end: End
}
