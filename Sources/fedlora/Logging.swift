import Foundation
import Logging

/// Logs to standard error, one line each: time, level, message, fields.
struct StandardErrorLogHandler: LogHandler {
  let label: String
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let fields = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
      .map { " \($0.key)=\($0.value)" }.joined()
    let time = Date().formatted(.iso8601)
    Output.note("\(time) \(event.level.rawValue.uppercased()) \(event.message)\(fields)")
  }
}

extension Logger {
  /// The command line's logger.
  /// - Parameter level: what is shown where not everything is.
  static func command(_ label: String, verbose: Bool, level: Level = .warning) -> Logger {
    Logger(label: label) { StandardErrorLogHandler(label: $0, logLevel: verbose ? .debug : level) }
  }
}
