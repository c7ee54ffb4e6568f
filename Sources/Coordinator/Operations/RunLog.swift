import Dispatch
import Foundation
import Logging

/// A run's event log: `events.jsonl` in its folder, one JSON object a line, only ever appended to.
///
/// It is for people and their tools; nothing is recovered from it, so it is not synced line by line. Writing happens on a
/// queue of its own, in the order of `append`; a full disk loses lines and says so once, and stops no run.
public final class RunLog: Sendable {
  /// The log's name in the run's folder.
  public static let name = "events.jsonl"

  private let queue = DispatchQueue(label: "fedlora.run-log")
  private let descriptor: Int32
  private let run: String
  private let logger: Logger
  private nonisolated(unsafe) var hasFailed = false
  private nonisolated(unsafe) var isOpen = true

  /// Opens the log of the run in `folder`. A line that a killed process left unfinished is ended, so that it spoils none.
  /// - Throws: `RunStoreError.cannotOpen`.
  init(folder: URL, run: String, logger: Logger) throws {
    let path = folder.appendingPathComponent(RunLog.name).path
    descriptor = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw RunStoreError.cannotOpen(path: path, reason: String(cString: strerror(errno)))
    }
    self.run = run
    self.logger = logger
    let size = lseek(descriptor, 0, SEEK_END)
    var last: UInt8 = 10
    if size > 0, pread(descriptor, &last, 1, size - 1) == 1, last != 10 { write(Data([10])) }
  }

  deinit { if isOpen { Glibc.close(descriptor) } }

  /// Adds what was reported.
  func append(_ event: CoordinatorEvent) { append(RunLogEntry(event, at: RunLog.now, run: run)) }

  /// Adds that a coordinator begins to serve the run.
  func appendStart(port: Int) {
    var entry = RunLogEntry(at: RunLog.now, run: run, event: "coordinator-started")
    entry.count = nil
    entry.reason = "process \(getpid()) serves port \(port)"
    append(entry)
  }

  private func append(_ entry: RunLogEntry) {
    queue.async { [self] in
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      guard isOpen, let line = try? encoder.encode(entry) else { return }
      write(line + Data([10]))
    }
  }

  /// Writes what is queued, makes it durable and closes the log.
  func close() {
    queue.sync {
      guard isOpen else { return }
      fsync(descriptor)
      Glibc.close(descriptor)
      isOpen = false
    }
  }

  private func write(_ data: Data) {
    let written = data.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
    guard written != data.count, !hasFailed else { return }
    hasFailed = true
    logger.error("the event log is not complete", metadata: ["reason": .string(String(cString: strerror(errno)))])
  }

  private static var now: String {
    Date().formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true).timeZone(separator: .omitted))
  }
}

/// Reads a run's event log, also while a coordinator writes it.
public struct RunLogReader: Sendable {
  private let file: URL
  private var offset: UInt64 = 0
  private var rest = Data()

  /// Reads from the beginning of the log in a run's folder.
  public init(folder: URL) { file = folder.appendingPathComponent(RunLog.name) }

  /// The whole lines that were added since the last call. Lines that are no entry, such as one that a killed process left
  /// unfinished, are left out.
  public mutating func next() -> [RunLogEntry] {
    guard let handle = try? FileHandle(forReadingFrom: file) else { return [] }
    defer { try? handle.close() }
    guard (try? handle.seek(toOffset: offset)) != nil, let data = try? handle.readToEnd() else { return [] }
    offset += UInt64(data.count)
    rest.append(data)
    var entries: [RunLogEntry] = []
    let decoder = JSONDecoder()
    while let end = rest.firstIndex(of: 10) {
      if let entry = try? decoder.decode(RunLogEntry.self, from: rest[rest.startIndex..<end]) { entries.append(entry) }
      rest = Data(rest[rest.index(after: end)...])
    }
    return entries
  }
}
