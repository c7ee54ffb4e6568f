import FedLoRACheckpoint
import Foundation

/// Where the files of a run lie.
///
///     RUN/run.sqlite
///     RUN/lock
///     RUN/events.jsonl                       what happened, for people (`RunLog`)
///     RUN/operator.sock                      where a coordinator listens for its operator
///     RUN/state/round-000012.safetensors     the state after round 12; round 0 is the start
///     RUN/updates/000012/NAME.safetensors    the updates of round 12, until it is committed
///
/// The folders are the owner's alone to read: single updates are nobody else's business.
struct RunFiles: Sendable {
  let directory: URL

  var database: URL { directory.appendingPathComponent("run.sqlite") }
  var lock: URL { directory.appendingPathComponent("lock") }
  var states: URL { directory.appendingPathComponent("state", isDirectory: true) }
  var allUpdates: URL { directory.appendingPathComponent("updates", isDirectory: true) }

  func state(afterRound round: Int) -> URL {
    states.appendingPathComponent("round-\(RunFiles.padded(round)).safetensors")
  }

  func updates(round: Int) -> URL {
    allUpdates.appendingPathComponent(RunFiles.padded(round), isDirectory: true)
  }

  /// Letters, digits, `-`, `_` and inner dots stay as they are; other bytes become `%XX`, so that different names have
  /// different files and none leaves the folder.
  func update(round: Int, name: String) throws -> URL {
    guard (1...80).contains(name.utf8.count) else { throw RunStoreError.unusableName(name) }
    var file = ""
    for (index, byte) in name.utf8.enumerated() {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
        file.unicodeScalars.append(Unicode.Scalar(byte))
      case UInt8(ascii: ".") where index > 0: file += "."
      default: file += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
      }
    }
    return updates(round: round).appendingPathComponent("\(file).safetensors")
  }

  /// Mode of the folders.
  static let permissions: mode_t = 0o700

  /// Makes the folders, and everything that is in them durable: a coordinator that was killed may not have waited for that.
  /// What it left half-written is removed, and so are updates of rounds that are committed.
  func settle(lastCommittedRound: Int, on disk: any FileSystem) throws {
    for folder in [directory, states, allUpdates] {
      try DurableFile.makeDirectory(folder, permissions: RunFiles.permissions, on: disk)
    }
    for name in try disk.names(in: allUpdates) {
      let folder = allUpdates.appendingPathComponent(name, isDirectory: true)
      if let round = Int(name), round <= lastCommittedRound {
        try? disk.remove(folder)
      } else {
        clear(folder, on: disk)
        try? disk.syncDirectory(folder)
      }
    }
    for folder in [directory, states, allUpdates] {
      clear(folder, on: disk)
      try disk.syncDirectory(folder)
    }
  }

  /// Removes the files that were being written aside (`DurableFile`) by a process that was killed.
  private func clear(_ folder: URL, on disk: any FileSystem) {
    for name in (try? disk.names(in: folder)) ?? [] where name.hasPrefix(".") && name.hasSuffix(".tmp") {
      try? disk.remove(folder.appendingPathComponent(name))
    }
  }

  private static func padded(_ round: Int) -> String {
    let digits = String(round)
    return String(repeating: "0", count: max(0, 6 - digits.count)) + digits
  }
}
