import ArgumentParser
import FedLoRAConfiguration
import FedLoRACoordinator
import Foundation

/// Where a run is, as the verbs that look after runs take it: its folder, or the run file that names the folder.
enum RunLocation {
  static let help: ArgumentHelp = "The run file (YAML), or the run's folder."

  /// The run's folder.
  static func folder(_ path: String) throws -> URL {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw CommandFailure(
        status: .badData,
        description: "there is no '\(path)', expected a run file or a run's folder"
      )
    }
    if isFolder.boolValue { return URL(fileURLWithPath: path) }
    let (configuration, _) = try RunConfiguration.load(URL(fileURLWithPath: path), assignments: [])
    return URL(fileURLWithPath: configuration.directory)
  }
}
