import FedLoRACheckpoint
import Foundation

/// A sum as bytes, so that a coordinator can put a partial sum on disk or send it to another.
///
/// Little-endian: `FLSUM001`; update count, total weight, bound (Int64 each); number of tensors (UInt32), for each its
/// name (UInt32 length, UTF-8), number of extents (UInt32) and extents (Int64 each); then the hi lanes and the lo lanes
/// (Int64 each), all carries taken. Equal sums have equal bytes.
extension ExactSum {
  private static let magic = Array("FLSUM001".utf8)

  /// The sum as bytes.
  public func serialized() -> Data {
    let sum = carried()
    var data = Data(Self.magic)
    data.reserveCapacity(64 + 16 * layout.elementCount)
    for value in [Int64(sum.updateCount), Int64(sum.totalWeight), sum.bound] { data.append(integer: value) }
    data.append(integer: UInt32(layout.entries.count))
    for entry in layout.entries {
      data.append(integer: UInt32(entry.name.utf8.count))
      data.append(contentsOf: entry.name.utf8)
      data.append(integer: UInt32(entry.shape.count))
      for extent in entry.shape { data.append(integer: Int64(extent)) }
    }
    for lanes in [sum.high, sum.low] {
      #if _endian(little)
        lanes.withUnsafeBytes { data.append(contentsOf: $0) }
      #else
        for lane in lanes { data.append(integer: lane) }
      #endif
    }
    return data
  }

  /// Reads what `serialized()` wrote.
  /// - Throws: `SumError.corrupt` for anything that it did not write, `LayoutError` for an impossible layout.
  public init(serialized data: Data) throws {
    var reader = Reader(data: data)
    guard try Array(reader.take(Self.magic.count)) == Self.magic else { throw SumError.corrupt("not a sum") }
    let updateCount = try reader.integer(Int64.self)
    let totalWeight = try reader.integer(Int64.self)
    let bound = try reader.integer(Int64.self)
    guard updateCount >= 0, totalWeight >= updateCount, (0...Self.largestBound).contains(bound) else {
      throw SumError.corrupt("counts out of range")
    }
    let tensorCount = try reader.integer(UInt32.self)
    var declarations: [(name: String, shape: [Int])] = []
    for _ in 0..<tensorCount {
      let nameBytes = try reader.take(Int(reader.integer(UInt32.self)))
      guard let name = String(bytes: nameBytes, encoding: .utf8) else { throw SumError.corrupt("a name is not UTF-8") }
      let extents = try reader.integer(UInt32.self)
      var shape: [Int] = []
      for _ in 0..<extents { shape.append(Int(try reader.integer(Int64.self))) }
      declarations.append((name, shape))
    }
    let layout = try TensorLayout(declarations)
    let (laneBytes, overflow) = layout.elementCount.multipliedReportingOverflow(by: 16)
    guard !overflow, reader.remaining == laneBytes else {
      throw SumError.corrupt("\(reader.remaining) bytes of lanes for \(layout.elementCount) elements")
    }
    let high = try reader.lanes(layout.elementCount)
    let low = try reader.lanes(layout.elementCount)
    // No element's sum exceeds the bound; what does would make a merged sum exceed its own.
    guard low.allSatisfy({ $0 >= 0 && $0 < 1 << Self.laneRatioBits }),
      zip(high, low).allSatisfy({ -bound <= $0 && ($0 < bound || ($0 == bound && $1 == 0)) })
    else { throw SumError.corrupt("a lane is out of range") }
    self.init(
      layout: layout,
      totalWeight: Int(totalWeight),
      updateCount: Int(updateCount),
      bound: bound,
      high: high,
      low: low
    )
  }
}

extension Data {
  fileprivate mutating func append<T: FixedWidthInteger>(integer: T) {
    Swift.withUnsafeBytes(of: integer.littleEndian) { append(contentsOf: $0) }
  }
}

/// Takes bytes from the front, never past the end.
private struct Reader {
  let data: Data
  var offset = 0

  init(data: Data) { self.data = data }

  var remaining: Int { data.count - offset }

  mutating func take(_ count: Int) throws -> Data {
    guard count >= 0, count <= remaining else { throw SumError.corrupt("it ends early, at byte \(data.count)") }
    defer { offset += count }
    return data.dropFirst(offset).prefix(count)
  }

  mutating func integer<T: FixedWidthInteger>(_ type: T.Type) throws -> T {
    T(littleEndian: try take(MemoryLayout<T>.size).withUnsafeBytes { $0.loadUnaligned(as: T.self) })
  }

  mutating func lanes(_ count: Int) throws -> [Int64] {
    try take(count * 8).withUnsafeBytes { bytes in
      (0..<count).map { Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self)) }
    }
  }
}
