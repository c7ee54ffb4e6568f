/// Why a safetensors file, or one tensor in it, cannot be used. Every case names the file.
public struct SafetensorsError: Error, Equatable, CustomStringConvertible {
  /// The kind of fault, stable for programs and tests.
  public enum Code: String, Sendable {
    /// The file cannot be opened or mapped.
    case unreadable
    /// The file ends before its header or its data do.
    case truncated
    /// The header's length is absurd.
    case headerLength = "header-length"
    /// The header is not the JSON that the format asks for.
    case malformedHeader = "malformed-header"
    /// The data type is not one that fedlora reads.
    case unsupportedType = "unsupported-type"
    /// Offsets leave the data, overlap, leave a hole, or do not fit shape and type.
    case badOffsets = "bad-offsets"
    /// A tensor that is needed is not there.
    case missingTensor = "missing-tensor"
    /// A tensor has another shape than is needed.
    case wrongShape = "wrong-shape"
    /// A sharded checkpoint's index is at fault.
    case malformedIndex = "malformed-index"
  }

  /// The kind of fault.
  public let code: Code
  /// Path of the file.
  public let file: String
  /// The tensor concerned, where it is one.
  public let tensor: String?
  /// What was found and what was expected, as a clause.
  public let reason: String

  /// Describes a fault in `file`.
  public init(_ code: Code, file: String, tensor: String? = nil, reason: String) {
    self.code = code
    self.file = file
    self.tensor = tensor
    self.reason = reason
  }

  /// One sentence for people.
  public var description: String {
    if let tensor { "\(file): tensor '\(tensor)': \(reason)" } else { "\(file): \(reason)" }
  }
}
