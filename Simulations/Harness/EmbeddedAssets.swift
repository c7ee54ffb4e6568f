import Foundation

/// The small pretrained encoder and the text-classification set that come with fedlora.
public enum EmbeddedAssets {
  /// The word that stands for them in configuration files.
  public static let word = "embedded"

  /// Folder of the encoder, in the Hugging Face layout.
  public static var encoder: URL { get throws { try locate("Embedded/encoder") } }
  /// Training examples.
  public static var train: URL { get throws { try locate("Embedded/data/train.tsv") } }
  /// Held-out examples.
  public static var test: URL { get throws { try locate("Embedded/data/test.tsv") } }
  /// Folder of ready-made scenarios.
  public static var scenarios: URL { get throws { try locate("Scenarios") } }

  private static func locate(_ path: String) throws -> URL {
    let url = Bundle.module.bundleURL.appendingPathComponent(path)
    guard FileManager.default.fileExists(atPath: url.path) else { throw SimulationError.missingAsset(url.path) }
    return url
  }
}

/// A simulation that cannot be run.
public enum SimulationError: Error, Equatable, CustomStringConvertible {
  /// A file that comes with fedlora is not beside the program.
  case missingAsset(String)
  /// The data leave a client or a test set empty.
  case emptyShare(client: String, role: String)
  /// A federation did not complete.
  case federationFailed(strategy: String, reason: String)

  /// What went wrong and what to do.
  public var description: String {
    switch self {
    case .missingAsset(let path):
      "\(path) is missing; keep the folder fedlora_FedLoRASimulation.resources beside the fedlora program"
    case .emptyShare(let client, let role):
      "client \(client) has no \(role) example; use fewer clients, a larger dirichlet_alpha or more data"
    case .federationFailed(let strategy, let reason): "the \(strategy) federation did not complete: \(reason)"
    }
  }
}
