/// A base model folder, adapter or head that cannot be used.
public enum ModelError: Error, Equatable, CustomStringConvertible {
  /// A file of the folder cannot be read.
  case unreadable(file: String, reason: String)
  /// `config.json` lacks a key or holds a value of another kind.
  case badConfiguration(file: String, key: String, expected: String, found: String)
  /// `config.json` asks for something that fedlora does not have.
  case unsupported(file: String, key: String, found: String, supported: String)
  /// A tensor's shape does not fit the configuration.
  case wrongShape(file: String, tensor: String, expected: [Int], found: [Int])
  /// No module of the model has one of the target names.
  case noSuchModule(targets: [String], available: [String])
  /// An adapter or head option is out of its range.
  case badOption(name: String, found: String, expected: String)
  /// Given parameters do not fit the adapter and head of this model.
  case wrongParameter(name: String, reason: String)
  /// A batch does not fit the model.
  case badBatch(reason: String)

  /// What was wrong, where, and what was expected.
  public var description: String {
    switch self {
    case .unreadable(let file, let reason): "\(file): \(reason)"
    case .badConfiguration(let file, let key, let expected, let found):
      "\(file): '\(key)' is \(found), expected \(expected)"
    case .unsupported(let file, let key, let found, let supported):
      "\(file): '\(key)' is \(found), which is not supported; supported: \(supported)"
    case .wrongShape(let file, let tensor, let expected, let found):
      "\(file): tensor '\(tensor)' has shape \(found), expected \(expected)"
    case .noSuchModule(let targets, let available):
      "target modules \(targets.joined(separator: ", ")) match no linear module; the model has "
        + available.joined(separator: ", ")
    case .badOption(let name, let found, let expected): "'\(name)' is \(found), expected \(expected)"
    case .wrongParameter(let name, let reason): "parameter '\(name)': \(reason)"
    case .badBatch(let reason): "the batch cannot be run: \(reason)"
    }
  }
}
