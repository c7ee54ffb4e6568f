import Foundation

/// Element types of safetensors that fedlora can meet in a checkpoint.
public enum ElementType: String, Sendable, CaseIterable {
  case f32 = "F32"
  case f16 = "F16"
  case bf16 = "BF16"
  case f64 = "F64"
  case i64 = "I64"
  case i32 = "I32"
  case i16 = "I16"
  case i8 = "I8"
  case u8 = "U8"
  case bool = "BOOL"

  /// Bytes per element.
  public var byteCount: Int {
    switch self {
    case .f64, .i64: 8
    case .f32, .i32: 4
    case .f16, .bf16, .i16: 2
    case .i8, .u8, .bool: 1
    }
  }
}

/// Where one tensor lies in a safetensors file.
public struct SafetensorsEntry: Sendable, Equatable {
  /// Name of the tensor in the file.
  public let name: String
  /// Element type.
  public let type: ElementType
  /// Extents, slowest first.
  public let shape: [Int]
  /// Bytes from the start of the file.
  let range: Range<Int>
}

/// The checked header of a safetensors file.
///
/// The layout is: a little-endian `UInt64` header length, that many bytes of JSON
/// (name → `{dtype, shape, data_offsets}`, plus `__metadata__`), then the data without holes.
struct SafetensorsHeader {
  let entries: [String: SafetensorsEntry]
  let metadata: [String: String]

  /// Longest header that is believed; the format's own library has the same bound.
  static let longestHeader = 100_000_000

  init(_ bytes: UnsafeRawBufferPointer, file: String) throws {
    guard bytes.count >= 8 else {
      throw SafetensorsError(
        .truncated,
        file: file,
        reason: "has \(bytes.count) bytes; a safetensors file starts with 8 bytes of length"
      )
    }
    let declared = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
    guard declared <= UInt64(SafetensorsHeader.longestHeader) else {
      throw SafetensorsError(
        .headerLength,
        file: file,
        reason: "declares a header of \(declared) bytes; at most \(SafetensorsHeader.longestHeader) are believed. "
          + "Is this a safetensors file?"
      )
    }
    let length = Int(declared)
    guard length >= 2 else {
      throw SafetensorsError(
        .headerLength,
        file: file,
        reason: "declares a header of \(length) bytes, too few for JSON"
      )
    }
    guard bytes.count - 8 >= length else {
      throw SafetensorsError(
        .truncated,
        file: file,
        reason: "declares a header of \(length) bytes but only \(bytes.count - 8) follow; the file is cut short"
      )
    }
    let json = Data(bytes[8..<(8 + length)])
    let object: [String: RawValue]
    do { object = try JSONDecoder().decode([String: RawValue].self, from: json) } catch {
      throw SafetensorsError(.malformedHeader, file: file, reason: "its header is not a JSON object of tensors")
    }
    var entries: [String: SafetensorsEntry] = [:]
    var metadata: [String: String] = [:]
    for (name, value) in object {
      switch value {
      case .text(let pairs) where name == "__metadata__": metadata = pairs
      case .tensor(let raw) where name != "__metadata__":
        entries[name] = try SafetensorsHeader.entry(
          name,
          raw,
          dataStart: 8 + length,
          dataCount: bytes.count - 8 - length,
          file: file
        )
      default:
        let expected = name == "__metadata__" ? "text mapped to text" : "dtype, shape and data_offsets of whole numbers"
        throw SafetensorsError(
          .malformedHeader,
          file: file,
          tensor: name,
          reason: "its header entry is not \(expected)"
        )
      }
    }
    try SafetensorsHeader.checkCoverage(entries, dataStart: 8 + length, dataEnd: bytes.count, file: file)
    self.entries = entries
    self.metadata = metadata
  }

  private static func entry(
    _ name: String,
    _ raw: RawEntry,
    dataStart: Int,
    dataCount: Int,
    file: String
  ) throws -> SafetensorsEntry {
    func fault(_ code: SafetensorsError.Code, _ reason: String) -> SafetensorsError {
      SafetensorsError(code, file: file, tensor: name, reason: reason)
    }
    let typeName = raw.dtype
    guard let type = ElementType(rawValue: typeName) else {
      throw fault(
        .unsupportedType,
        "has dtype \(typeName); known are \(ElementType.allCases.map(\.rawValue).joined(separator: ", "))"
      )
    }
    let (shape, offsets) = (raw.shape, raw.data_offsets)
    guard shape.allSatisfy({ $0 >= 0 }) else {
      throw fault(.malformedHeader, "its shape \(shape) has a negative extent")
    }
    guard offsets.count == 2, offsets[0] >= 0 else {
      throw fault(.malformedHeader, "its data_offsets \(offsets) are not two non-negative integers")
    }
    guard offsets[0] <= offsets[1] else {
      throw fault(.badOffsets, "ends at \(offsets[1]) before it starts at \(offsets[0])")
    }
    guard offsets[1] <= dataCount else {
      throw fault(
        .truncated,
        "ends at byte \(offsets[1]) of the data, but the file holds only \(dataCount); the file is cut short"
      )
    }
    guard let count = Tensor.count(of: shape), !count.multipliedReportingOverflow(by: type.byteCount).overflow else {
      throw fault(.badOffsets, "its shape \(shape) is too large to count")
    }
    guard count * type.byteCount == offsets[1] - offsets[0] else {
      throw fault(
        .badOffsets,
        "shape \(shape) of \(typeName) needs \(count * type.byteCount) bytes, its offsets span \(offsets[1] - offsets[0])"
      )
    }
    return SafetensorsEntry(
      name: name,
      type: type,
      shape: shape,
      range: (dataStart + offsets[0])..<(dataStart + offsets[1])
    )
  }

  /// Data must be covered exactly once: an overlap or a hole means that the header lies about something.
  private static func checkCoverage(
    _ entries: [String: SafetensorsEntry],
    dataStart: Int,
    dataEnd: Int,
    file: String
  ) throws {
    var position = dataStart
    let ordered = entries.values.sorted {
      ($0.range.lowerBound, $0.range.upperBound, $0.name) < ($1.range.lowerBound, $1.range.upperBound, $1.name)
    }
    for entry in ordered {
      guard entry.range.lowerBound == position else {
        let what = entry.range.lowerBound < position ? "overlaps the tensor before it" : "leaves a hole before it"
        throw SafetensorsError(
          .badOffsets,
          file: file,
          tensor: entry.name,
          reason: "\(what): starts at byte \(entry.range.lowerBound - dataStart), expected \(position - dataStart)"
        )
      }
      position = entry.range.upperBound
    }
    guard position == dataEnd else {
      throw SafetensorsError(
        .badOffsets,
        file: file,
        reason: "\(dataEnd - position) bytes after the last tensor belong to none"
      )
    }
  }

  /// One value of the header's object; decoding never throws, so that the fault can be reported with its name.
  private enum RawValue: Decodable {
    case tensor(RawEntry)
    case text([String: String])
    case malformed

    init(from decoder: any Decoder) {
      if let entry = try? RawEntry(from: decoder) {
        self = .tensor(entry)
      } else if let pairs = try? [String: String](from: decoder) {
        self = .text(pairs)
      } else {
        self = .malformed
      }
    }
  }

  private struct RawEntry: Decodable {
    let dtype: String
    let shape: [Int]
    let data_offsets: [Int]
  }
}
