import Foundation
import Yams

/// A YAML document over defaults: the defaults name every key there is, so an unknown key is an error that suggests
/// the nearest one, and the merged tree is what `--print-config` shows.
public struct LayeredYAML {
  // Nodes rather than decoded values, so that a text such as `no` or `007` stays what was written.
  private var tree: Node
  private let schema: Node
  /// Sections under which any name is allowed, with the keys that each of its entries may have.
  private let openSections: [String: Node]

  /// Starts from the defaults.
  /// - Parameters:
  ///   - defaults: YAML text that holds every key.
  ///   - openSections: top-level maps from names of the user's to sections, with the keys of such a section.
  public init(defaults: String, openSections: [String: [String]] = [:]) throws {
    tree = try LayeredYAML.parse(defaults, source: "built-in defaults")
    schema = tree
    self.openSections = openSections.mapValues { keys in Node(keys.map { (Node($0), Node("")) }) }
  }

  /// Lays the document `text` over what is there.
  /// - Throws: `ConfigurationError` naming `source` and the key.
  public mutating func overlay(_ text: String, source: String) throws {
    let document = try LayeredYAML.parse(text, source: source)
    tree = try merge(document, over: tree, schema: schema, path: [], source: source)
  }

  /// Sets one key from the command line: `training.batch_size=16`. The value is read as YAML; nothing is the empty text.
  /// - Throws: `ConfigurationError`.
  public mutating func set(_ assignment: String) throws {
    guard let equals = assignment.firstIndex(of: "=") else {
      throw ConfigurationError(source: "--set", reason: "'\(assignment)' is not of the form key=value")
    }
    let path = assignment[..<equals].split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    let text = String(assignment[assignment.index(after: equals)...])
    var nested: Node
    if let fault = YAMLBounds.fault(in: text) {
      throw ConfigurationError(source: "--set", key: path.joined(separator: "."), reason: fault)
    }
    do { nested = try Yams.compose(yaml: text) ?? Node("", Tag(.str), .doubleQuoted) } catch {
      throw ConfigurationError(source: "--set", key: path.joined(separator: "."), reason: "'\(text)' is not YAML")
    }
    for part in path.reversed() { nested = Node([(Node(part), nested)]) }
    tree = try merge(nested, over: tree, schema: schema, path: [], source: "--set")
  }

  /// The merged document as YAML text with sorted keys.
  public func text() throws -> String { try Yams.serialize(node: tree, sortKeys: true) }

  /// Decodes the merged document.
  /// - Throws: `ConfigurationError` with the key whose value has the wrong kind.
  public func decode<T: Decodable>(_ type: T.Type, source: String) throws -> T {
    do { return try YAMLDecoder().decode(T.self, from: tree) } catch let error as DecodingError {
      throw LayeredYAML.explain(error, source: source)
    }
  }

  private func merge(_ document: Node, over base: Node, schema: Node, path: [String], source: String) throws -> Node {
    guard let entries = document.mapping, var result = base.mapping, let known = schema.mapping else { return document }
    for (keyNode, value) in entries {
      guard let key = keyNode.string else {
        throw ConfigurationError(source: source, key: path.joined(separator: "."), reason: "has a key that is no text")
      }
      let here = path + [key]
      let entrySchema = path.count == 1 ? openSections[path[0]] : nil
      guard let child = entrySchema ?? known[Node(key)] else {
        throw ConfigurationError(
          source: source,
          key: here.joined(separator: "."),
          reason: LayeredYAML.suggestion(for: key, among: known.keys.compactMap(\.string))
        )
      }
      guard let section = child.mapping else {
        result[Node(key)] = value
        continue
      }
      guard let own = value.mapping else {
        throw ConfigurationError(
          source: source,
          key: here.joined(separator: "."),
          reason: "is a single value; expected a section with "
            + section.keys.compactMap(\.string).sorted().joined(separator: ", ")
        )
      }
      if own.isEmpty, path.isEmpty, openSections[key] != nil {
        // `overrides: {}` takes back the entries that are there.
        result[Node(key)] = value
      } else {
        result[Node(key)] = try merge(
          value,
          over: result[Node(key)] ?? Node([(Node, Node)]()),
          schema: child,
          path: here,
          source: source
        )
      }
    }
    return .mapping(result)
  }

  private static func parse(_ text: String, source: String) throws -> Node {
    if let fault = YAMLBounds.fault(in: text) { throw ConfigurationError(source: source, reason: fault) }
    do {
      guard let node = try Yams.compose(yaml: text) else { return Node([(Node, Node)]()) }
      guard node.mapping != nil else {
        throw ConfigurationError(source: source, reason: "is not a YAML mapping of keys to values")
      }
      return node
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
      return ConfigurationError(
        source: source,
        key: path(context),
        reason: "has the wrong kind; expected \(name(of: type))"
      )
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
    case is any Collection.Type where !(type is String.Type): "a list"
    case is Int.Type, is UInt64.Type: "a whole number"
    case is Double.Type: "a number"
    case is Bool.Type: "true or false"
    case is String.Type: "a text"
    default: "\(type)" == "Scalar" ? "a single value" : "a \(type)".lowercased()
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
