import Foundation

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
    // Walked by index: taking each line off the front would copy the rest of the log for every line.
    var start = rest.startIndex
    while let end = rest[start...].firstIndex(of: 10) {
      if end > start, let entry = try? decoder.decode(RunLogEntry.self, from: rest[start..<end]) {
        entries.append(entry)
      }
      start = rest.index(after: end)
    }
    rest = Data(rest[start...])
    return entries
  }
}
