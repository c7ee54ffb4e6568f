import Foundation

/// The tensors of a model folder: one `model.safetensors`, or shards under a `model.safetensors.index.json`.
public struct CheckpointFolder: Sendable {
  /// The folder, for messages.
  public let path: String
  /// Every tensor's file.
  private let files: [String: SafetensorsFile]

  /// Opens and checks all files of `folder`.
  /// - Throws: `SafetensorsError`.
  public init(_ folder: URL) throws {
    path = folder.path
    let single = folder.appendingPathComponent("model.safetensors")
    let index = folder.appendingPathComponent("model.safetensors.index.json")
    var files: [String: SafetensorsFile] = [:]
    if FileManager.default.fileExists(atPath: single.path) {
      let file = try SafetensorsFile(opening: single)
      for name in file.names { files[name] = file }
    } else if FileManager.default.fileExists(atPath: index.path) {
      files = try CheckpointFolder.openShards(index, in: folder)
    } else {
      throw SafetensorsError(
        .unreadable,
        file: folder.path,
        reason: "holds neither model.safetensors nor model.safetensors.index.json"
      )
    }
    self.files = files
  }

  /// Names of all tensors in ascending order.
  public var names: [String] { files.keys.sorted(by: TensorSet.precedes) }

  /// The file that holds `name`, or nil.
  public func file(holding name: String) -> SafetensorsFile? { files[name] }

  private struct Index: Decodable { let weight_map: [String: String] }

  private static func openShards(_ index: URL, in folder: URL) throws -> [String: SafetensorsFile] {
    guard let data = try? Data(contentsOf: index), let map = try? JSONDecoder().decode(Index.self, from: data) else {
      throw SafetensorsError(
        .malformedIndex,
        file: index.path,
        reason: "is not JSON with a weight_map from tensor names to file names"
      )
    }
    var shards: [String: SafetensorsFile] = [:]
    var result: [String: SafetensorsFile] = [:]
    for (tensor, name) in map.weight_map {
      guard !name.contains("/"), !name.hasPrefix(".") else {
        throw SafetensorsError(
          .malformedIndex,
          file: index.path,
          tensor: tensor,
          reason: "its shard '\(name)' is not a file of this folder"
        )
      }
      let shard: SafetensorsFile
      if let open = shards[name] {
        shard = open
      } else {
        shard = try SafetensorsFile(opening: folder.appendingPathComponent(name))
        shards[name] = shard
      }
      guard shard.entry(tensor) != nil else {
        throw SafetensorsError(
          .missingTensor,
          file: shard.path,
          tensor: tensor,
          reason: "the index says that it is here"
        )
      }
      result[tensor] = shard
    }
    return result
  }
}
