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

  /// A positive whole number.
  public func count(_ key: String) throws -> Int {
    guard let number = number(key), let value = Int(exactly: number), value > 0 else {
      throw bad(key, "a positive whole number")
    }
    return value
  }

  /// A positive whole number, or `fallback` where the key is absent or null.
  public func count(_ key: String, default fallback: Int) throws -> Int {
    isAbsent(key) ? fallback : try count(key)
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

  /// True or false; false where the key is absent or null.
  public func flag(_ key: String) throws -> Bool {
    if isAbsent(key) { return false }
    guard let value = values[key] as? NSNumber, value.objCType.pointee == CChar(0x63) else {
      throw bad(key, "true or false")
    }
    return value.boolValue
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
