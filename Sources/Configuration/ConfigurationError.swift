/// A configuration file or a `--set` that cannot be used.
public struct ConfigurationError: Error, Equatable, CustomStringConvertible {
  /// Where: a file's path, or `--set`.
  public let source: String
  /// The key's path, such as `training.batch_size`; empty for the whole file.
  public let key: String
  /// What was found, what was expected, and what to do.
  public let reason: String

  /// Describes a fault at `key` of `source`.
  public init(source: String, key: String = "", reason: String) {
    self.source = source
    self.key = key
    self.reason = reason
  }

  /// One sentence for people.
  public var description: String { key.isEmpty ? "\(source): \(reason)" : "\(source): '\(key)': \(reason)" }
}
