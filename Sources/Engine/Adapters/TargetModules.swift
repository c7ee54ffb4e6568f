/// Which linear modules get an adapter, with PEFT's meaning of `target_modules`.
public enum TargetModules: Sendable, Equatable {
  /// A module is taken when its path equals one of these or ends in `.` and one of these.
  case suffixes([String])
  /// A module is taken when the whole path matches this regular expression.
  case pattern(String)

  /// Whether the module at `path` is taken.
  /// - Throws: `ModelError.badOption` when the pattern is not a regular expression.
  public func matches(_ path: String) throws -> Bool {
    switch self {
    case .suffixes(let names): return names.contains { path == $0 || path.hasSuffix("." + $0) }
    case .pattern(let text):
      do { return try Regex(text).wholeMatch(in: path) != nil } catch {
        throw ModelError.badOption(name: "target_modules", found: "'\(text)'", expected: "a regular expression")
      }
    }
  }

  /// The names as they were given.
  public var texts: [String] {
    switch self {
    case .suffixes(let names): names
    case .pattern(let text): [text]
    }
  }
}
