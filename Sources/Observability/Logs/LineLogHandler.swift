import Foundation
import Logging

/// Writes each record as one line, in either format. Fields of the record count before those of its logger, and these
/// before those of the metadata provider.
public struct LineLogHandler: LogHandler {
  /// What is less severe is not written.
  public var logLevel: Logger.Level
  /// Fields of every line.
  public var metadata: Logger.Metadata = [:]
  /// Fields that follow from where the line is written.
  public var metadataProvider: Logger.MetadataProvider?

  private let label: String
  private let format: LogFormat
  private let clock: @Sendable () -> Date
  private let write: @Sendable (String) -> Void

  /// - Parameters:
  ///   - clock: what time it is.
  ///   - write: takes a line without its end; called from everywhere.
  public init(
    label: String,
    level: Logger.Level,
    format: LogFormat,
    clock: @escaping @Sendable () -> Date = { Date() },
    write: @escaping @Sendable (String) -> Void
  ) {
    self.label = label
    logLevel = level
    self.format = format
    self.clock = clock
    self.write = write
  }

  /// One field of every line.
  public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  /// Writes a record.
  public func log(event: LogEvent) {
    var fields = metadataProvider?.get() ?? [:]
    fields.merge(metadata) { $1 }
    fields.merge(event.metadata ?? [:]) { $1 }
    if let error = event.error { fields["error"] = .string("\(error)") }
    let line = LogLine(
      time: clock(),
      level: event.level,
      label: label,
      message: event.message.description,
      metadata: fields
    )
    write(line.text(format))
  }
}
