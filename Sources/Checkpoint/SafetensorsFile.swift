import Foundation

/// A safetensors file, memory-mapped and checked once when it is opened.
public final class SafetensorsFile: Sendable {
  /// The path, for messages.
  public let path: String
  /// Free text of the file's `__metadata__`.
  public let metadata: [String: String]
  private let entries: [String: SafetensorsEntry]
  private let file: MappedFile

  /// Maps `url` and checks its header.
  /// - Throws: `SafetensorsError`.
  public init(opening url: URL, on files: any FileSystem = LocalFileSystem()) throws {
    file = try files.map(url)
    path = url.path
    let header = try SafetensorsHeader(file.bytes, file: url.path)
    entries = header.entries
    metadata = header.metadata
  }

  /// Names of all tensors in ascending order.
  public var names: [String] { entries.keys.sorted(by: TensorSet.precedes) }

  /// Type, shape and place of a tensor, or nil.
  public func entry(_ name: String) -> SafetensorsEntry? { entries[name] }

  /// The raw little-endian bytes of a tensor. They stay valid as long as this object lives.
  /// - Throws: `SafetensorsError` with code `missingTensor`.
  public func bytes(of name: String) throws -> UnsafeRawBufferPointer {
    guard let entry = entries[name] else { throw missing(name) }
    return UnsafeRawBufferPointer(rebasing: file.bytes[entry.range])
  }

  /// Lets go of the memory that holds a tensor's bytes, which stay valid: they are read from the file again when they are
  /// needed.
  public func release(_ name: String) {
    if let entry = entries[name] { file.release(entry.range) }
  }

  /// A floating-point tensor's values as `Float`: F32 as they are, F16, BF16 and F64 converted.
  /// - Throws: `SafetensorsError` when there is no such tensor or it does not hold floating-point numbers.
  public func floats(_ name: String) throws -> [Float] {
    guard let entry = entries[name] else { throw missing(name) }
    let raw = try bytes(of: name)
    let count = Tensor.count(of: entry.shape) ?? 0
    switch entry.type {
    case .f32:
      return [Float](unsafeUninitializedCapacity: count) { target, written in
        if let source = raw.baseAddress, let start = target.baseAddress { memcpy(start, source, count * 4) }
        written = count
      }
    case .f16:
      return (0..<count).map { HalfPrecision.float(raw.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)) }
    case .bf16:
      return (0..<count).map {
        Float(bitPattern: UInt32(raw.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)) << 16)
      }
    case .f64:
      return (0..<count).map {
        Float(Double(bitPattern: raw.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self)))
      }
    default:
      throw SafetensorsError(
        .unsupportedType,
        file: path,
        tensor: name,
        reason: "has dtype \(entry.type.rawValue); expected F32, F16, BF16 or F64"
      )
    }
  }

  /// A floating-point tensor with its shape.
  public func tensor(_ name: String) throws -> Tensor {
    guard let entry = entries[name] else { throw missing(name) }
    return try Tensor(shape: entry.shape, values: floats(name))
  }

  /// An integer tensor's values, from I64, I32, I16, I8 or U8.
  /// - Throws: `SafetensorsError` when there is no such tensor or it does not hold integers.
  public func integers(_ name: String) throws -> [Int] {
    guard let entry = entries[name] else { throw missing(name) }
    let raw = try bytes(of: name)
    let count = Tensor.count(of: entry.shape) ?? 0
    switch entry.type {
    case .i64: return (0..<count).map { Int(raw.loadUnaligned(fromByteOffset: 8 * $0, as: Int64.self)) }
    case .i32: return (0..<count).map { Int(raw.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self)) }
    case .i16: return (0..<count).map { Int(raw.loadUnaligned(fromByteOffset: 2 * $0, as: Int16.self)) }
    case .i8: return (0..<count).map { Int(raw.loadUnaligned(fromByteOffset: $0, as: Int8.self)) }
    case .u8: return (0..<count).map { Int(raw.loadUnaligned(fromByteOffset: $0, as: UInt8.self)) }
    default:
      throw SafetensorsError(
        .unsupportedType,
        file: path,
        tensor: name,
        reason: "has dtype \(entry.type.rawValue); expected integers"
      )
    }
  }

  /// Reads every tensor of a file of floating-point tensors.
  public static func read(_ url: URL, on files: any FileSystem = LocalFileSystem()) throws -> TensorSet {
    let file = try SafetensorsFile(opening: url, on: files)
    return try TensorSet(file.names.map { ($0, try file.tensor($0)) })
  }

  private func missing(_ name: String) -> SafetensorsError {
    let near = names.prefix(6).joined(separator: ", ")
    return SafetensorsError(
      .missingTensor,
      file: path,
      tensor: name,
      reason: "is not in the file, which holds \(entries.count) tensors (\(near)\(entries.count > 6 ? ", …" : ""))"
    )
  }
}

extension SafetensorsFile {
  /// The bytes of a safetensors file that holds `tensors` as F32 in name order.
  ///
  /// The same set and metadata always give the same bytes.
  public static func serialize(_ tensors: TensorSet, metadata: [String: String] = [:]) throws -> Data {
    var header = "{"
    if !metadata.isEmpty {
      let pairs = try metadata.sorted { TensorSet.precedes($0.key, $1.key) }
        .map { "\(try quoted($0.key)):\(try quoted($0.value))" }
      header += "\"__metadata__\":{\(pairs.joined(separator: ","))}"
    }
    var offset = 0
    for entry in tensors.entries {
      let end = offset + entry.tensor.values.count * 4
      if header.count > 1 { header += "," }
      header += "\(try quoted(entry.name)):{\"dtype\":\"F32\",\"shape\":["
      header += entry.tensor.shape.map(String.init).joined(separator: ",")
      header += "],\"data_offsets\":[\(offset),\(end)]}"
      offset = end
    }
    header += "}"
    var headerBytes = Array(header.utf8)
    // Data starts on a multiple of 8, as the format's own writer does it, so that readers can map it in place.
    while headerBytes.count % 8 != 0 { headerBytes.append(UInt8(ascii: " ")) }
    var data = Data(capacity: 8 + headerBytes.count + offset)
    withUnsafeBytes(of: UInt64(headerBytes.count).littleEndian) { data.append(contentsOf: $0) }
    data.append(contentsOf: headerBytes)
    for entry in tensors.entries { entry.tensor.values.withUnsafeBytes { data.append(contentsOf: $0) } }
    return data
  }

  /// Writes `tensors` to `url` aside, synced and renamed.
  /// - Throws: `DurableFileError`.
  public static func write(
    _ tensors: TensorSet,
    to url: URL,
    metadata: [String: String] = [:],
    on files: any FileSystem = LocalFileSystem()
  ) throws {
    try DurableFile.write(serialize(tensors, metadata: metadata), to: url, on: files)
  }

  private static func quoted(_ text: String) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    return String(decoding: try encoder.encode(text), as: UTF8.self)
  }
}
