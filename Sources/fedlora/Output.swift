import ArgumentParser
import FedLoRACheckpoint
import FedLoRAClient
import FedLoRAConfiguration
import FedLoRACoordinator
import FedLoRADP
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAObservability
import FedLoRAProtocol
import FedLoRASimulation
import Foundation
import Logging
import Synchronization

/// How data are printed.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
  case text
  case json
}

/// The documented exit codes.
enum ExitStatus: Int32 {
  case done = 0
  case failed = 1
  case usage = 64
  case badData = 65
  case unavailable = 69
  case diskFailed = 74
  case runFailed = 75
  case interrupted = 130

  init(_ error: any Error) {
    switch error {
    case let error as CommandFailure: self = error.status
    case is CancellationError: self = .interrupted
    case SimulationError.federationFailed: self = .runFailed
    case RunStoreError.unwritable, is DurableFileError: self = .diskFailed
    case is ConfigurationError, is ModelError, is SafetensorsError, is PEFTError, is TokenizerError, is DatasetError,
      is ConversationError,
      is PartitionError, is StrategyError, is SimulationError, is IdentityError, is RoundPolicyError,
      is CoordinatorError, is RunStoreError, is ManifestRefusal, is LedgerError, is PrivacyParameterError,
      is PrivacyAccountingError, is GenerationError, is TemplateError, ClientError.corruptState, ClientError.stateInUse:
      self = .badData
    case ClientError.unreachable, ClientError.replaced: self = .unavailable
    case is TransportError, is MetricsServerError: self = .unavailable
    case is ValidationError: self = .usage
    default: self = FedLoRA.exitCode(for: error) == .validationFailure ? .usage : .failed
    }
  }

  /// Whether the parser only wants to print help or the version.
  static func isHelp(_ error: any Error) -> Bool { FedLoRA.exitCode(for: error) == .success }

  /// Words for the JSON envelope.
  var word: String {
    switch self {
    case .done: "ok"
    case .failed: "failed"
    case .usage: "usage"
    case .badData: "bad-data"
    case .unavailable: "unavailable"
    case .diskFailed: "disk-failed"
    case .runFailed: "run-failed"
    case .interrupted: "interrupted"
    }
  }
}

/// A verb's own failure with its exit status.
struct CommandFailure: Error, CustomStringConvertible {
  let status: ExitStatus
  let description: String
  /// Whether standard output has the failure already, with the data that show it.
  var isPrinted = false
}

/// Standard output is data, standard error is for people.
enum Output {
  static let isTerminal = isatty(STDERR_FILENO) == 1

  /// How notes are written: where standard error is a log of JSON lines, they are such lines too, with these fields.
  static let noteStyle = Mutex((format: LogFormat.text, fields: Logger.Metadata()))

  /// Tells people something.
  static func note(_ line: String, level: Logger.Level = .notice) {
    let (format, fields) = noteStyle.withLock { $0 }
    guard format == .json else { return writeError(line) }
    let message = line.trimmingCharacters(in: .newlines)
    writeError(LogLine(time: Date(), level: level, label: "fedlora", message: message, metadata: fields).text(.json))
  }

  static func writeError(_ line: String) { FileHandle.standardError.write(Data((line + "\n").utf8)) }

  static func write(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }

  /// Prints `data` in the envelope `{schema_version, status, exit_code, data}`.
  static func printJSON(_ data: some Encodable, status: ExitStatus = .done) throws {
    let envelope = Envelope(status: status.word, exit_code: status.rawValue, data: data)
    write(String(decoding: try encoder.encode(envelope), as: UTF8.self))
  }

  private struct Envelope<T: Encodable>: Encodable {
    let schema_version = 1
    let status: String
    let exit_code: Int32
    let data: T
  }

  static func printFailure(status: ExitStatus, message: String) {
    struct FailureEnvelope: Encodable {
      struct Failure: Encodable { let message: String }
      let schema_version = 1
      let status: String
      let exit_code: Int32
      let error: Failure
    }
    let envelope = FailureEnvelope(status: status.word, exit_code: status.rawValue, error: .init(message: message))
    if let data = try? encoder.encode(envelope) { write(String(decoding: data, as: UTF8.self)) }
  }

  static func message(for error: any Error) -> String {
    switch error {
    case is CancellationError: "interrupted"
    case let error as any CustomStringConvertible: error.description
    default: error.localizedDescription
    }
  }

  private static var encoder: JSONEncoder {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return encoder
  }
}
