import Foundation

/// What a process of this machine takes, from `/proc`.
struct ProcessUsage {
  /// Resident memory that is no file's, in MiB.
  let memory: Double
  /// The most memory that was resident at a time, in MiB.
  let peakMemory: Double
  /// Seconds of processor time so far.
  let processorSeconds: Double
  /// Open file descriptors.
  let descriptors: Int

  /// - Parameter process: its number; nil where it has ended.
  init?(of process: Int32) {
    guard let status = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8),
      let stat = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
    else { return nil }
    // One that has ended and was not waited for has no memory any more.
    guard status.contains("VmHWM:") else { return nil }
    func mebibytes(_ key: String) -> Double {
      let line = status.split(separator: "\n").first { $0.hasPrefix("\(key):") } ?? ""
      return Double(line.split(whereSeparator: \.isWhitespace).dropFirst().first ?? "").map { $0 / 1024 } ?? 0
    }
    memory = mebibytes("RssAnon")
    peakMemory = mebibytes("VmHWM")
    // The name in brackets may hold blanks; user and system time are the 12th and 13th fields after it.
    let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
    let ticks = [11, 12].compactMap { $0 < fields.count ? Double(fields[$0]) : nil }.reduce(0, +)
    processorSeconds = ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
    descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/fd").count) ?? 0
  }
}

/// A list of measured times.
struct Times {
  private var seconds: [Double] = []
  var count: Int { seconds.count }

  mutating func add(_ time: Duration) {
    seconds.append(Double(time.components.seconds) + Double(time.components.attoseconds) * 1e-18)
  }
  mutating func add(seconds value: Double) { seconds.append(value) }

  /// The time below which this share of all lies; 0 where there is none.
  func quantile(_ share: Double) -> Double {
    guard !seconds.isEmpty else { return 0 }
    let sorted = seconds.sorted()
    return sorted[min(sorted.count - 1, Int(share * Double(sorted.count)))]
  }
}
