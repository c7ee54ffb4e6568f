/// Which linear modules get an adapter, with PEFT's meaning of `target_modules`.
public enum TargetModules: Sendable, Equatable {
  /// A module is taken when its path equals one of these or ends in `.` and one of these.
  case suffixes([String])
  /// A module is taken when the whole path matches this regular expression.
  case pattern(String)

  /// Whether the module at `path` is taken.
  /// - Throws: `ModelError.badOption` when the pattern is not a regular expression, or one with more than `ModulePattern` has.
  public func matches(_ path: String) throws -> Bool {
    switch self {
    case .suffixes(let names): return names.contains { path == $0 || path.hasSuffix("." + $0) }
    case .pattern(let text):
      guard let pattern = ModulePattern(text) else {
        throw ModelError.badOption(
          name: "target_modules",
          found: "'\(text)'",
          expected: "a regular expression of characters, sets, groups, | and repetitions"
        )
      }
      return pattern.matches(path)
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
