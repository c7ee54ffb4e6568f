import Foundation

/// What this process and this machine take.
enum SystemUsage {
  /// Processor seconds of this process so far, user and system.
  static var processorSeconds: Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) * 1e-6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }

  /// The most memory that was resident at a time, in MiB.
  static var peakMegabytes: Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return Double(usage.ru_maxrss) / 1024
  }

  /// Processes that wanted a core, in the mean over the last minute, 5 and 15 minutes.
  static var load: [Double] {
    var load = [Double](repeating: 0, count: 3)
    let count = getloadavg(&load, 3)
    return Array(load.prefix(max(0, Int(count))))
  }
}
