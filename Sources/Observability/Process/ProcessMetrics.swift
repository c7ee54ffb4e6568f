import CoreMetrics
import Foundation
import Synchronization

/// What the process costs, under the names that every Prometheus client library gives these numbers
/// (https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics).
public final class ProcessMetrics: Sendable {
  /// What is known of these metrics.
  public static let descriptions: [MetricDescription] = [
    .counter("process_cpu_seconds_total", "Processor time of the process, in user and system mode, in seconds."),
    .gauge("process_resident_memory_bytes", "Resident memory of the process, in bytes."),
    .gauge("process_open_fds", "Open file descriptors of the process."),
    .gauge("process_max_fds", "Most file descriptors that the process may have open."),
    .gauge("process_start_time_seconds", "When the process was started, in seconds since 1970."),
  ]

  private let processor: FloatingPointCounter
  private let memory: Meter
  private let files: Meter
  private let counted = Mutex(0.0)

  /// Makes the metrics; the start time is set at once.
  public init(_ factory: any MetricsFactory) {
    processor = FloatingPointCounter(label: "process_cpu_seconds_total", factory: factory)
    memory = Meter(label: "process_resident_memory_bytes", factory: factory)
    files = Meter(label: "process_open_fds", factory: factory)
    if let start = ProcessReadings.startTime {
      Meter(label: "process_start_time_seconds", factory: factory).set(start)
    }
    if let most = ProcessReadings.mostFiles { Meter(label: "process_max_fds", factory: factory).set(most) }
    sample()
  }

  /// Reads the numbers anew.
  public func sample() {
    if let now = ProcessReadings.processorSeconds {
      let more = counted.withLock { before in
        defer { before = max(before, now) }
        return now - before
      }
      if more > 0 { processor.increment(by: more) }
    }
    if let bytes = ProcessReadings.residentBytes { memory.set(bytes) }
    if let count = ProcessReadings.openFiles { files.set(count) }
  }
}

/// What Linux says about this process; see proc(5).
package enum ProcessReadings {
  /// Resident memory in bytes.
  package static var residentBytes: Int? {
    let fields = text("/proc/self/statm").split(separator: " ")
    guard fields.count > 1, let pages = Int(fields[1]) else { return nil }
    return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
  }

  /// Open file descriptors, without the one that counts them.
  package static var openFiles: Int? {
    guard let folder = opendir("/proc/self/fd") else { return nil }
    defer { closedir(folder) }
    var count = 0
    while let entry = readdir(folder) {
      if entry.pointee.d_name.0 != UInt8(ascii: ".") { count += 1 }
    }
    return count - 1
  }

  package static var mostFiles: Double? {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
    return limit.rlim_cur == rlim_t.max ? .infinity : Double(limit.rlim_cur)
  }

  /// Seconds since 1970, to a hundredth.
  package static var startTime: Double? {
    guard let fields = stat, let ticks = Double(fields[19]) else { return nil }
    for line in text("/proc/stat").split(separator: "\n") where line.hasPrefix("btime ") {
      return Double(line.dropFirst(6)).map { $0 + ticks / ticksPerSecond }
    }
    return nil
  }

  package static var processorSeconds: Double? {
    guard let fields = stat, let user = Double(fields[11]), let system = Double(fields[12]) else { return nil }
    return (user + system) / ticksPerSecond
  }

  private static var ticksPerSecond: Double { Double(max(1, sysconf(Int32(_SC_CLK_TCK)))) }

  /// The fields of /proc/self/stat from the third on: the second, the program's name, may hold anything.
  private static var stat: [Substring]? {
    let line = text("/proc/self/stat")
    guard let end = line.lastIndex(of: ")") else { return nil }
    let fields = line[line.index(after: end)...].split(separator: " ")
    return fields.count > 20 ? fields : nil
  }

  private static func text(_ path: String) -> String { (try? String(contentsOfFile: path, encoding: .utf8)) ?? "" }
}
