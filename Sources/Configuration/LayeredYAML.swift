import Foundation
import Yams

/// A YAML document over defaults: the defaults name every key there is, so an unknown key is an error that suggests
/// the nearest one, and the merged tree is what `--print-config` shows.
public struct LayeredYAML {
  private var tree: [String: Any]
  private let schema: [String: Any]
  /// Keys under which any name is allowed (maps from names of the user's).
  private let openKeys: Set<String>

  /// Starts from the defaults.
  /// - Parameters:
  ///   - defaults: YAML text that holds every key.
  ///   - openKeys: paths whose children are not checked.
  public init(defaults: String, openKeys: Set<String> = []) throws {
    tree = try LayeredYAML.parse(defaults, source: "built-in defaults")
    schema = tree
    self.openKeys = openKeys
  }

  /// Lays the document `text` over what is there.
  /// - Throws: `ConfigurationError` naming `source` and the key.
  public mutating func overlay(_ text: String, source: String) throws {
    let document = try LayeredYAML.parse(text, source: source)
    tree = try merge(document, over: tree, schema: schema, path: [], source: source)
  }

  /// Sets one key from the command line: `training.batch_size=16`. The value is read as YAML.
  /// - Throws: `ConfigurationError`.
  public mutating func set(_ assignment: String) throws {
    guard let equals = assignment.firstIndex(of: "=") else {
      throw ConfigurationError(source: "--set", reason: "'\(assignment)' is not of the form key=value")
    }
    let path = assignment[..<equals].split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    let text = String(assignment[assignment.index(after: equals)...])
    let value: Any
    do { value = try Yams.load(yaml: text) ?? NSNull() } catch {
      throw ConfigurationError(source: "--set", key: path.joined(separator: "."), reason: "'\(text)' is not YAML")
    }
    var nested: Any = value
    for part in path.reversed() { nested = [part: nested] }
    guard let document = nested as? [String: Any] else { return }
    tree = try merge(document, over: tree, schema: schema, path: [], source: "--set")
  }

  /// The merged document as YAML text with sorted keys.
  public func text() throws -> String { try Yams.dump(object: tree, sortKeys: true) }

  /// Decodes the merged document.
  /// - Throws: `ConfigurationError` with the key whose value has the wrong kind.
  public func decode<T: Decodable>(_ type: T.Type, source: String) throws -> T {
    do { return try YAMLDecoder().decode(T.self, from: text()) } catch let error as DecodingError {
      throw LayeredYAML.explain(error, source: source)
    }
  }

  private func merge(
    _ document: [String: Any], over base: [String: Any], schema: [String: Any], path: [String], source: String
  ) throws -> [String: Any] {
    var result = base
    for (key, value) in document {
      let here = path + [key]
      let isOpen = openKeys.contains(path.joined(separator: "."))
      guard isOpen || schema.keys.contains(key) else {
        throw ConfigurationError(
          source: source, key: here.joined(separator: "."), reason: LayeredYAML.suggestion(for: key, among: Array(schema.keys)))
      }
      if let child = schema[key] as? [String: Any], !openKeys.contains(here.joined(separator: ".")) {
        guard let section = value as? [String: Any] else {
          throw ConfigurationError(
            source: source, key: here.joined(separator: "."),
            reason: "is a single value; expected a section with \(child.keys.sorted().joined(separator: ", "))")
        }
        result[key] = try merge(
          section, over: base[key] as? [String: Any] ?? [:], schema: child, path: here, source: source)
      } else {
        result[key] = value
      }
    }
    return result
  }

  private static func parse(_ text: String, source: String) throws -> [String: Any] {
    do {
      switch try Yams.load(yaml: text) {
      case let tree as [String: Any]: return tree
      case nil: return [:]
      default: throw ConfigurationError(source: source, reason: "is not a YAML mapping of keys to values")
      }
    } catch let error as YamlError {
      throw ConfigurationError(source: source, reason: "is not valid YAML: \(error)")
    }
  }

  private static func suggestion(for key: String, among known: [String]) -> String {
    let nearest = known.min { (EditDistance.between(key, $0), $0) < (EditDistance.between(key, $1), $1) }
    if let nearest, EditDistance.between(key, nearest) <= max(2, key.count / 3) {
      return "unknown key; did you mean '\(nearest)'?"
    }
    return "unknown key; known here are \(known.sorted().joined(separator: ", "))"
  }

  private static func explain(_ error: DecodingError, source: String) -> ConfigurationError {
    func path(_ context: DecodingError.Context, _ extra: [any CodingKey] = []) -> String {
      (context.codingPath + extra).map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
    }
    switch error {
    case .typeMismatch(let type, let context):
      return ConfigurationError(source: source, key: path(context), reason: "has the wrong kind; expected \(name(of: type))")
    case .valueNotFound(let type, let context):
      return ConfigurationError(source: source, key: path(context), reason: "is empty; expected \(name(of: type))")
    case .keyNotFound(let key, let context):
      return ConfigurationError(source: source, key: path(context, [key]), reason: "is missing")
    case .dataCorrupted(let context):
      return ConfigurationError(source: source, key: path(context), reason: context.debugDescription)
    @unknown default:
      return ConfigurationError(source: source, reason: "\(error)")
    }
  }

  private static func name(of type: Any.Type) -> String {
    switch type {
    case is Int.Type, is UInt64.Type: "a whole number"
    case is Double.Type: "a number"
    case is Bool.Type: "true or false"
    case is String.Type: "a text"
    default: "a \(type)".lowercased()
    }
  }
}

/// Levenshtein's distance, for suggestions.
enum EditDistance {
  static func between(_ left: String, _ right: String) -> Int {
    let (a, b) = (Array(left.unicodeScalars), Array(right.unicodeScalars))
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, y) in b.enumerated() {
        let substituted = diagonal + (x == y ? 0 : 1)
        diagonal = row[j + 1]
        row[j + 1] = min(substituted, row[j] + 1, diagonal + 1)
      }
    }
    return row[b.count]
  }
}
