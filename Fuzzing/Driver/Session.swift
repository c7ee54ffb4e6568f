import CMeter
import FedLoRAFuzzing
import Foundation

/// Runs inputs of one target in this process, each noted in the flight record before it runs and under its limits.
final class Session {
  let target: FuzzTarget
  private let scratch: FuzzScratch
  private let record: UnsafeMutablePointer<flight_record>?

  init(target: FuzzTarget, record: UnsafeMutablePointer<flight_record>?) throws {
    self.target = target
    self.record = record
    scratch = try FuzzScratch()
    // Depth is a cost too. Of the main thread; others keep the system's.
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_STACK.rawValue), &limit)
    limit.rlim_cur = min(limit.rlim_cur, Session.stack)
    setrlimit(__rlimit_resource_t(RLIMIT_STACK.rawValue), &limit)
  }

  /// Most stack of the thread that parses, in bytes.
  private static let stack: rlim_t = 1 << 20

  /// Runs the target's own seeds without a limit on memory, so that tables that are made once count for no input.
  func warmUp() throws {
    for bytes in try target.seeds() + [[]] {
      note(bytes, index: 0)
      meter_arm(record, 0, 120_000)
      defer { _ = meter_disarm() }
      _ = try target.accepts(bytes, scratch)
    }
  }

  /// Runs one input; where it passes a limit, the process ends.
  /// - Returns: whether it was accepted, and the most memory that it took.
  /// - Throws: `FuzzFailure`.
  func execute(_ bytes: [UInt8], index: UInt64) throws(FuzzFailure) -> (isAccepted: Bool, peak: UInt64) {
    note(bytes, index: index)
    meter_arm(record, UInt64(target.limits.memory(length: bytes.count)), UInt64(target.limits.milliseconds))
    let isAccepted: Bool
    do { isAccepted = try target.accepts(bytes, scratch) } catch {
      _ = meter_disarm()
      record?.pointee.cause = UInt32(METER_PROPERTY)
      throw error
    }
    let peak = meter_disarm()
    if let record {
      if isAccepted { record.pointee.accepted += 1 }
      record.pointee.peak = max(record.pointee.peak, peak)
    }
    return (isAccepted, peak)
  }

  private func note(_ bytes: [UInt8], index: UInt64) {
    guard let record else { return }
    flight_begin(record, index, bytes, UInt32(min(bytes.count, FlightRecord.capacity)))
  }
}

/// The file through which a child tells its parent what it was running when it died.
struct FlightRecord {
  /// Longest input that fits.
  static let capacity = 1 << 20
  private static let headerLength = 32

  let url: URL

  /// Makes an empty record.
  init(creating url: URL) throws {
    self.url = url
    try Data(count: FlightRecord.headerLength + FlightRecord.capacity).write(to: url)
  }

  /// Maps the record of a parent into this process, for as long as it lives.
  static func mapped(_ path: String) throws -> UnsafeMutablePointer<flight_record> {
    let descriptor = open(path, O_RDWR | O_CLOEXEC)
    let size = headerLength + capacity
    guard descriptor >= 0, let address = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0),
      address != MAP_FAILED
    else { throw FuzzFailure("cannot map \(path): \(String(cString: strerror(errno)))") }
    return address.assumingMemoryBound(to: flight_record.self)
  }

  /// What stands in it.
  struct Reading {
    let index: UInt64
    let accepted: UInt64
    let peak: UInt64
    let cause: UInt32
    let bytes: [UInt8]
  }

  func read() throws -> Reading {
    let data = try Data(contentsOf: url)
    return data.withUnsafeBytes { raw in
      let length = min(Int(raw.load(fromByteOffset: 28, as: UInt32.self)), FlightRecord.capacity)
      return Reading(
        index: raw.load(fromByteOffset: 0, as: UInt64.self),
        accepted: raw.load(fromByteOffset: 8, as: UInt64.self),
        peak: raw.load(fromByteOffset: 16, as: UInt64.self),
        cause: raw.load(fromByteOffset: 24, as: UInt32.self),
        bytes: Array(raw[FlightRecord.headerLength..<(FlightRecord.headerLength + length)])
      )
    }
  }
}
