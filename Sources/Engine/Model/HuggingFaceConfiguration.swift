import Foundation

/// A Hugging Face `config.json`, read key by key with errors that name file and key.
public struct HuggingFaceConfiguration {
  /// Path of the file, for messages.
  public let file: String
  private let values: [String: Any]
  /// What stands before a key in messages: the sections that it is in.
  private let path: String

  /// Reads `config.json` of `folder`.
  /// - Throws: `ModelError`.
  public init(folder: URL) throws {
    let url = folder.appendingPathComponent("config.json")
    file = url.path
    let data: Data
    do { data = try Data(contentsOf: url) } catch {
      throw ModelError.unreadable(file: url.path, reason: "cannot be read; a model folder needs a config.json")
    }
    guard let object = try? JSONSerialization.jsonObject(with: data) as? [String: Any] else {
      throw ModelError.unreadable(file: url.path, reason: "is not a JSON object")
    }
    values = object
    path = ""
  }

  private init(file: String, path: String, values: [String: Any]) {
    (self.file, self.path, self.values) = (file, path, values)
  }

  /// The object under `key`; nil where it is absent or null.
  public func section(_ key: String) throws -> HuggingFaceConfiguration? {
    if isAbsent(key) { return nil }
    guard let object = values[key] as? [String: Any] else { throw bad(key, "an object") }
    return HuggingFaceConfiguration(file: file, path: "\(path)\(key).", values: object)
  }

  /// Whether `key` has a value.
  public func has(_ key: String) -> Bool { !isAbsent(key) }

  /// The largest count that is taken: three products of two such still fit an `Int`.
  private static let largestCount = 1 << 30

  /// A positive whole number, at most 2³⁰.
  public func count(_ key: String) throws -> Int {
    guard let number = number(key), let value = Int(exactly: number), value > 0, value <= Self.largestCount else {
      throw bad(key, "a positive whole number of at most \(Self.largestCount)")
    }
    return value
  }

  /// A positive whole number, or `fallback` where the key is absent or null.
  public func count(_ key: String, default fallback: Int) throws -> Int {
    isAbsent(key) ? fallback : try count(key)
  }

  /// A positive whole number; nil where the key is null, `fallback` where it is absent.
  func countOrNull(_ key: String, default fallback: Int?) throws -> Int? {
    states(key) ? (isAbsent(key) ? nil : try count(key)) : fallback
  }

  /// A positive number; nil where the key is null, `fallback` where it is absent.
  func positiveOrNull(_ key: String, default fallback: Double?) throws -> Double? {
    guard states(key) else { return fallback }
    if isAbsent(key) { return nil }
    guard let value = number(key), value > 0, value.isFinite else { throw bad(key, "a positive number or null") }
    return value
  }

  /// A whole number that is not negative, or `fallback` where the key is absent or null.
  public func index(_ key: String, default fallback: Int) throws -> Int {
    if isAbsent(key) { return fallback }
    guard let number = number(key), let value = Int(exactly: number), value >= 0 else {
      throw bad(key, "a whole number that is not negative")
    }
    return value
  }

  /// A finite number.
  public func number(_ key: String, default fallback: Double) throws -> Double {
    if isAbsent(key) { return fallback }
    guard let number = number(key), number.isFinite else { throw bad(key, "a number") }
    return number
  }

  /// The number under `key`; Foundation reads true as a number too, of a character's type.
  private func number(_ key: String) -> Double? {
    guard let number = values[key] as? NSNumber, number.objCType.pointee != CChar(0x63) else { return nil }
    return number.doubleValue
  }

  /// A text, or `fallback` where the key is absent or null.
  public func text(_ key: String, default fallback: String) throws -> String {
    if isAbsent(key) { return fallback }
    guard let text = values[key] as? String else { throw bad(key, "a text") }
    return text
  }

  /// Refuses the file unless `key` is absent or one of `supported`.
  public func require(_ key: String, oneOf supported: [String], default fallback: String) throws -> String {
    let found = try text(key, default: fallback)
    guard supported.contains(found) else {
      throw ModelError.unsupported(
        file: file,
        key: path + key,
        found: "'\(found)'",
        supported: supported.joined(separator: ", ")
      )
    }
    return found
  }

  /// Whether `key` is there, if only as null.
  public func states(_ key: String) -> Bool { values[key] != nil }

  /// A list of finite numbers; nil where the key is absent or null.
  public func numbers(_ key: String) throws -> [Double]? {
    if isAbsent(key) { return nil }
    guard let list = values[key] as? [NSNumber], list.allSatisfy({ $0.doubleValue.isFinite }) else {
      throw bad(key, "a list of numbers")
    }
    return list.map(\.doubleValue)
  }

  /// A list of texts; nil where the key is absent or null.
  public func texts(_ key: String) throws -> [String]? {
    if isAbsent(key) { return nil }
    guard let list = values[key] as? [String] else { throw bad(key, "a list of texts") }
    return list
  }

  /// True or false, or `fallback` where the key is absent or null.
  public func flag(_ key: String, default fallback: Bool = false) throws -> Bool {
    if isAbsent(key) { return fallback }
    guard let value = values[key] as? NSNumber, value.objCType.pointee == CChar(0x63) else {
      throw bad(key, "true or false")
    }
    return value.boolValue
  }

  /// The activation under `key`.
  /// - Throws: `ModelError.unsupported` for one that fedlora does not have.
  func activation(_ key: String, default fallback: String) throws -> Activation {
    let known = Activation.names.keys.sorted()
    return Activation.names[try require(key, oneOf: known, default: fallback)] ?? .gelu
  }

  /// Width of a head, from `head_dim` or a share of the hidden size.
  func headSize(hidden: Int, heads: Int) throws -> Int {
    let size = try count("head_dim", default: max(1, hidden / heads))
    guard size % 2 == 0 else { throw bad("head_dim", "an even number") }
    return size
  }

  /// Heads of keys and values, which must divide those of queries.
  func keyValueHeads(heads: Int, default fallback: Int) throws -> Int {
    let count = try count("num_key_value_heads", default: fallback)
    guard heads % count == 0 else { throw bad("num_key_value_heads", "a divisor of num_attention_heads \(heads)") }
    return count
  }

  /// The layers that `layer_types` calls `sliding_attention`; nil where it is absent.
  func windowedLayers() throws -> LayerChoice? {
    guard let types = try texts("layer_types") else { return nil }
    if let other = types.first(where: { $0 != "sliding_attention" && $0 != "full_attention" }) {
      throw ModelError.unsupported(
        file: file,
        key: path + "layer_types",
        found: "'\(other)'",
        supported: "full_attention, sliding_attention"
      )
    }
    return .listed(types.map { $0 == "sliding_attention" })
  }

  /// Refuses the file where a switch that fedlora does not have is on.
  public func refuseIfTrue(_ key: String, supported: String) throws {
    if (values[key] as? NSNumber)?.boolValue == true {
      throw ModelError.unsupported(file: file, key: path + key, found: "true", supported: supported)
    }
  }

  private func isAbsent(_ key: String) -> Bool { values[key] == nil || values[key] is NSNull }

  /// The value under `key` is not what was expected.
  public func bad(_ key: String, _ expected: String) -> ModelError {
    let found = values[key].map { "\($0)" } ?? "missing"
    return .badConfiguration(file: file, key: path + key, expected: expected, found: String(found.prefix(80)))
  }
}
