import Foundation

/// All tensors of a safetensors file of 32-bit floats as one row of numbers, in the order of their names, mapped and not read.
///
/// It keeps nothing of the file's header, so that many of them cost address space and no memory.
public final class MappedFloats: Sendable {
  /// Elements over all tensors.
  public let count: Int
  private let file: MappedFile
  private let dataStart: Int

  /// Maps `url` and holds its header against the tensors that it must have.
  /// - Parameters:
  ///   - expected: the names and shapes of all tensors; their values do not matter.
  ///   - files: where `url` is.
  /// - Throws: `SafetensorsError` for another file, other tensors, other shapes, another type than F32, and tensors that do not
  ///   follow one another in the order of their names.
  public init(opening url: URL, like expected: TensorSet, on files: any FileSystem = LocalFileSystem()) throws {
    file = try files.map(url)
    let header = try SafetensorsHeader(file.bytes, file: url.path)
    func fault(_ code: SafetensorsError.Code, _ tensor: String, _ reason: String) -> SafetensorsError {
      SafetensorsError(code, file: url.path, tensor: tensor, reason: reason)
    }
    var place: Int?
    for wanted in expected.entries {
      guard let entry = header.entries[wanted.name] else {
        throw fault(.missingTensor, wanted.name, "is not in the file")
      }
      guard entry.type == .f32, entry.shape == wanted.tensor.shape else {
        throw fault(
          .unsupportedType,
          wanted.name,
          "is \(entry.type.rawValue) of shape \(entry.shape), expected F32 of shape \(wanted.tensor.shape)"
        )
      }
      guard place == nil || place == entry.range.lowerBound else {
        throw fault(.badOffsets, wanted.name, "does not follow the tensor whose name comes before its own")
      }
      place = entry.range.upperBound
    }
    guard header.entries.count == expected.count else {
      let other = header.entries.keys.sorted(by: TensorSet.precedes).first { expected[$0] == nil } ?? ""
      throw fault(
        .missingTensor,
        other,
        "is in the file, but is none of the \(expected.count) tensors that are expected"
      )
    }
    count = expected.elementCount
    dataStart = (place ?? 0) - 4 * expected.elementCount
  }

  /// Copies the elements of `range` to `target`.
  /// - Precondition: `range` lies within 0..<count, and `target` has its length.
  public func copy(_ range: Range<Int>, to target: UnsafeMutableBufferPointer<Float>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= count && target.count == range.count, "out of range")
    withExtendedLifetime(file) {
      guard let source = file.bytes.baseAddress, let start = target.baseAddress, !range.isEmpty else { return }
      memcpy(start, source + dataStart + 4 * range.lowerBound, 4 * range.count)
    }
  }
}
