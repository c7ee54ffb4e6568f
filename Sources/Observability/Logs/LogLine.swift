import Foundation
import Logging

/// How log lines are written.
public enum LogFormat: String, Sendable, CaseIterable {
  /// Time, level, message, fields: for people.
  case text
  /// One JSON object a line, with `time`, `level`, `label`, `message` and `metadata`.
  case json
}

/// One line of a log. Whatever a message holds, it stays one line.
public struct LogLine: Sendable {
  let time: Date
  let level: Logger.Level
  let label: String
  let message: String
  let metadata: Logger.Metadata

  /// - Parameter label: what speaks: `fedlora.coordinator`.
  public init(time: Date, level: Logger.Level, label: String, message: String, metadata: Logger.Metadata = [:]) {
    self.time = time
    self.level = level
    self.label = label
    self.message = message
    self.metadata = metadata
  }

  /// The line without its end.
  public func text(_ format: LogFormat) -> String {
    switch format {
    case .text:
      let fields = metadata.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
      return LogLine.withoutControls("\(timestamp) \(level.rawValue.uppercased()) \(message)\(fields)")
    case .json:
      return "{\"time\":\"\(timestamp)\",\"level\":\"\(level.rawValue)\",\"label\":\(LogLine.quoted(label)),"
        + "\"message\":\(LogLine.quoted(message)),\"metadata\":\(LogLine.json(.dictionary(metadata)))}"
    }
  }

  /// RFC 3339 with milliseconds, UTC.
  private var timestamp: String {
    time.formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true).timeZone(separator: .omitted))
  }

  private static func json(_ value: Logger.MetadataValue) -> String {
    switch value {
    case .string(let text): return quoted(text)
    case .stringConvertible(let value):
      switch value {
      case let number as Int: return "\(number)"
      case let number as UInt64: return "\(number)"
      case let number as Double where number.isFinite: return "\(number)"
      case let flag as Bool: return "\(flag)"
      default: return quoted("\(value)")
      }
    case .array(let values): return "[" + values.map(json).joined(separator: ",") + "]"
    case .dictionary(let values):
      let fields = values.sorted { $0.key < $1.key }.map { "\(quoted($0.key)):\(json($0.value))" }
      return "{" + fields.joined(separator: ",") + "}"
    }
  }

  /// RFC 8259, section 7.
  private static func quoted(_ text: String) -> String {
    var result = "\""
    for character in text.unicodeScalars {
      switch character {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case _ where character.value < 0x20 || character.value == 0x7F:
        let digits = String(character.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(character)
      }
    }
    return result + "\""
  }

  /// Peers choose some of the words: none of them may end a line or steer a terminal.
  private static func withoutControls(_ text: String) -> String {
    var result = ""
    for character in text.unicodeScalars {
      if character.properties.generalCategory == .control {
        result += "\\u{" + String(character.value, radix: 16) + "}"
      } else {
        result.unicodeScalars.append(character)
      }
    }
    return result
  }
}
