import ArgumentParser
import FedLoRAObservability
import Logging
import Synchronization

extension LogFormat: ExpressibleByArgument {}

/// How severe a record must be to be logged.
enum LogLevel: String, ExpressibleByArgument, CaseIterable {
  case trace, debug, info, notice, warning, error, critical

  var level: Logger.Level { Logger.Level(rawValue: rawValue) ?? .warning }
}

/// What the verbs that serve and that take part have in common.
struct LogOptions: ParsableArguments {
  @Option(help: "How to log to standard error: text for people, or json, one object a line and nothing else.")
  var logFormat: LogFormat = .text
  @Option(help: "Log what is at least so severe; without it warning, and with --log-format json info.")
  var logLevel: LogLevel?
  @Flag(help: "Log every message to standard error, as --log-level debug does.")
  var verbose = false

  /// Whether standard error is for programs.
  var isJSON: Bool { logFormat == .json }

  /// A logger to standard error. To be asked for before anything is written there.
  /// - Parameters:
  ///   - level: what is shown as text where nothing is said.
  ///   - run: the run that is served, where it is known; a field of notes from then on.
  func logger(_ label: String, level: Logger.Level = .warning, run: String? = nil) -> Logger {
    Output.noteStyle.withLock {
      $0.format = logFormat
      if let run { $0.fields["run"] = .string(run) }
    }
    let least = logLevel?.level ?? (verbose ? .debug : isJSON ? min(level, .info) : level)
    return Logger(label: label) {
      LineLogHandler(label: $0, level: least, format: logFormat) { Output.writeError($0) }
    }
  }

  /// The options as they are written on a command line.
  var arguments: [String] {
    ["--log-format", logFormat.rawValue] + (logLevel.map { ["--log-level", $0.rawValue] } ?? [])
      + (verbose ? ["--verbose"] : [])
  }
}

extension Logger {
  /// The logger of verbs without options for it.
  /// - Parameter level: what is shown where not everything is.
  static func command(_ label: String, verbose: Bool, level: Level = .warning) -> Logger {
    Logger(label: label) {
      LineLogHandler(label: $0, level: verbose ? .debug : level, format: .text) { Output.writeError($0) }
    }
  }
}
