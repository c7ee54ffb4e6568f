import Dispatch
import Foundation
import Logging
import Synchronization

/// A run's event log: `events.jsonl` in its folder, one JSON object a line, only ever appended to.
///
/// It is for people and their tools; nothing is recovered from it, so it is not synced line by line. Writing happens on a
/// queue of its own, in the order of `append`; a full disk loses lines and says so once, and stops no run.
public final class RunLog: Sendable {
  /// The log's name in the run's folder.
  public static let name = "events.jsonl"

  private let queue = DispatchQueue(label: "fedlora.run-log")
  private let file: Mutex<File>
  private let run: String
  private let logger: Logger

  private struct File {
    /// Nil once closed.
    var descriptor: Int32?
    var hasFailed = false
    /// Whether the last line was not written whole, so that the next begins with an end of line.
    var endsInPart = false
  }

  /// Opens the log of the run in `folder`. A line that a killed process left unfinished is ended, so that it spoils none.
  /// - Throws: `RunStoreError.cannotOpen`.
  init(folder: URL, run: String, logger: Logger) throws {
    let path = folder.appendingPathComponent(RunLog.name).path
    let descriptor = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw RunStoreError.cannotOpen(path: path, reason: String(cString: strerror(errno)))
    }
    self.run = run
    self.logger = logger
    let size = lseek(descriptor, 0, SEEK_END)
    var last: UInt8 = 10
    if size > 0, pread(descriptor, &last, 1, size - 1) != 1 { last = 10 }
    file = Mutex(File(descriptor: descriptor, endsInPart: last != 10))
  }

  deinit { file.withLock { if let descriptor = $0.descriptor { Glibc.close(descriptor) } } }

  /// Adds what was reported.
  func append(_ event: CoordinatorEvent) { append(RunLogEntry(event, at: RunLog.now, run: run)) }

  /// Adds that a coordinator begins to serve the run.
  func appendStart(port: Int) {
    var entry = RunLogEntry(at: RunLog.now, run: run, event: "coordinator-started")
    entry.reason = "process \(getpid()) serves port \(port)"
    append(entry)
  }

  private func append(_ entry: RunLogEntry) {
    queue.async { [self] in
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      guard let line = try? encoder.encode(entry) else { return }
      write(line + Data([10]))
    }
  }

  /// Writes what is queued, makes it durable and closes the log.
  func close() {
    queue.sync {
      file.withLock { file in
        guard let descriptor = file.descriptor else { return }
        fsync(descriptor)
        Glibc.close(descriptor)
        file.descriptor = nil
      }
    }
  }

  private func write(_ line: Data) {
    file.withLock { file in
      guard let descriptor = file.descriptor else { return }
      let data = file.endsInPart ? Data([10]) + line : line
      let written = data.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if written == data.count {
        file.endsInPart = false
        return
      }
      if written > 0 { file.endsInPart = true }
      guard !file.hasFailed else { return }
      file.hasFailed = true
      logger.error("the event log is not complete", metadata: ["reason": .string(String(cString: strerror(errno)))])
    }
  }

  private static var now: String {
    Date().formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true).timeZone(separator: .omitted))
  }
}
