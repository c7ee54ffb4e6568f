import FedLoRADP
import Foundation
import Synchronization
import Testing

private let newline = UInt8(ascii: "\n")

@Suite("Damaged and interrupted ledgers")
struct LedgerDamageTests {
  /// As after SIGKILL or a power cut at any moment of an append.
  @Test("A ledger cut off at any byte opens with its whole lines, keeps the rest aside, and goes on")
  func truncation() throws {
    let folder = try LedgerFolder()
    let bytes = try folder.filled(rounds: 3)
    let ends = bytes.indices.filter { bytes[$0] == newline }.map { $0 + 1 }
    #expect(ends.count == 4)
    for length in 0..<bytes.count {
      let cut = try LedgerFolder()
      let prefix = Array(bytes[..<length])
      try Data(prefix).write(to: cut.file)
      let whole = ends.last { $0 <= length } ?? 0
      if length < ends[0] {
        // Headers appear whole, so this was no crash of ours: an error that changes nothing.
        let error = #expect(throws: LedgerError.self) { try cut.open() }
        guard case .damaged(_, 1, _) = error else {
          Issue.record("length \(length): \(String(describing: error))")
          continue
        }
        #expect(Array(try Data(contentsOf: cut.file)) == prefix)
        continue
      }
      let torn = Array(bytes[whole..<length])
      let report = try LedgerContents(readingFrom: cut.file)
      #expect(report.tornLine == (torn.isEmpty ? nil : torn))
      #expect(Array(try Data(contentsOf: cut.file)) == prefix, "reading changed the file at \(length)")
      let ledger = try cut.open()
      #expect(ledger.recoveredTornLine == (torn.isEmpty ? nil : torn))
      #expect(ledger.contents.charges.count == ends.count { $0 <= length } - 1)
      #expect(Array(try Data(contentsOf: cut.file)) == Array(bytes[..<whole]))
      let aside = try? Data(contentsOf: cut.file.appendingPathExtension("torn"))
      #expect(aside.map { Array($0) } == (torn.isEmpty ? nil : torn + [newline]))
      try ledger.charge(try makeCharge(round: 9))
      ledger.close()
      #expect(try cut.open().contents.charges.last?.round == 9)
    }
  }

  @Test("Any changed byte of any line is found, and its line named")
  func corruption() throws {
    let folder = try LedgerFolder()
    let bytes = try folder.filled(rounds: 3)
    var line = 1
    for index in bytes.indices {
      var changed = bytes
      changed[index] ^= 1
      if index == bytes.count - 1 {
        // Without its newline the last line is one that was never finished.
        try Data(changed).write(to: folder.file)
        #expect(try LedgerContents(readingFrom: folder.file).tornLine != nil)
        continue
      }
      try Data(changed).write(to: folder.file)
      let error = #expect(throws: LedgerError.self) { try folder.open() }
      guard case .damaged(_, let named, let reason) = error else {
        Issue.record("byte \(index): \(String(describing: error))")
        continue
      }
      #expect(named == line && !reason.isEmpty, "byte \(index)")
      #expect(Array(try Data(contentsOf: folder.file)) == changed, "opening changed the file")
      if bytes[index] == newline { line += 1 }
    }
  }

  @Test("A line removed, repeated, moved or inserted is found, and its line named")
  func rearrangement() throws {
    let folder = try LedgerFolder()
    let lines = try folder.filled(rounds: 4).split(separator: newline).map { Array($0) + [newline] }
    func damagedLine(_ lines: [[UInt8]]) throws -> Int? {
      try Data(lines.joined()).write(to: folder.file)
      do {
        _ = try folder.open()
        return nil
      } catch LedgerError.damaged(_, let line, _) { return line }
    }
    #expect(try damagedLine(lines) == nil)
    for removed in 0..<4 {
      var rest = lines
      rest.remove(at: removed)
      #expect(try damagedLine(rest) == removed + 1)
    }
    for index in 0..<4 {
      var swapped = lines
      swapped.swapAt(index, index + 1)
      #expect(try damagedLine(swapped) == index + 1)
      var repeated = lines
      repeated.insert(lines[index], at: index + 1)
      #expect(try damagedLine(repeated) == index + 2)
      var emptyLine = lines
      emptyLine.insert([newline], at: index + 1)
      #expect(try damagedLine(emptyLine) == index + 2)
    }
    // Two ledgers' lines do not mix, though they say the same.
    let other = try LedgerFolder()
    let ledger = try other.open(dataset: "dd")
    for round in 0..<4 { try ledger.charge(try makeCharge(round: round)) }
    let foreign = Array(try Data(contentsOf: other.file)).split(separator: newline).map { Array($0) + [newline] }
    #expect(try damagedLine(Array(lines[..<2]) + Array(foreign[2...])) == 3)
  }

  @Test("Lines removed at the end are found by whoever kept the head")
  func shortened() throws {
    let folder = try LedgerFolder()
    let ledger = try folder.open()
    try ledger.charge(try makeCharge(round: 0))
    let early = ledger.head
    try ledger.charge(try makeCharge(round: 1))
    let late = ledger.head
    ledger.close()
    let lines = Array(try Data(contentsOf: folder.file)).split(separator: newline).map { Array($0) + [newline] }
    try Data(lines.dropLast().joined()).write(to: folder.file)
    let contents = try LedgerContents(readingFrom: folder.file)
    #expect(contents.contains(early))
    #expect(!contents.contains(late))
  }

  @Test("A last line with holes, as an unsynced write may leave, counts as never finished")
  func holes() throws {
    let folder = try LedgerFolder()
    var bytes = try folder.filled(rounds: 2)
    let start = try #require(bytes.dropLast().lastIndex(of: newline)) + 1
    for index in start..<(start + 50) { bytes[index] = 0 }
    try Data(bytes).write(to: folder.file)
    let ledger = try folder.open()
    #expect(ledger.contents.charges.count == 1)
    #expect(ledger.recoveredTornLine == Array(bytes[start...]))
    #expect(Array(try Data(contentsOf: folder.file)) == Array(bytes[..<start]))
  }

  @Test(
    "A file that is no ledger is left alone",
    arguments: ["", "hello", "hello\n", "{\"a\":1}\n{\"b\":2}\n", "\0\0\n\n"]
  )
  func otherFiles(text: String) throws {
    let folder = try LedgerFolder()
    try Data(text.utf8).write(to: folder.file)
    let error = #expect(throws: LedgerError.self) { try folder.open() }
    #expect(error?.description.contains("line 1") == true)
    #expect(try Data(contentsOf: folder.file) == Data(text.utf8))
  }

  // MARK: Failing disks

  private final class Recorder: Sendable {
    let events = Mutex<[String]>([])
    let failing = Mutex<String?>(nil)

    var system: LedgerSystem {
      LedgerSystem(
        write: { descriptor, bytes in
          self.events.withLock { $0.append("write") }
          if self.failing.withLock({ $0 }) == "write" {
            // A full disk takes a part first.
            if bytes.count > 10 {
              return LedgerSystem.real.write(descriptor, UnsafeRawBufferPointer(rebasing: bytes[..<10]))
            }
            errno = ENOSPC
            return -1
          }
          return LedgerSystem.real.write(descriptor, bytes)
        },
        sync: { descriptor in
          var status = stat()
          fstat(descriptor, &status)
          let isFolder = status.st_mode & S_IFMT == S_IFDIR
          self.events.withLock { $0.append(isFolder ? "sync folder" : "sync") }
          if self.failing.withLock({ $0 }) == "sync" {
            errno = EIO
            return -1
          }
          return LedgerSystem.real.sync(descriptor)
        }
      )
    }
    func take() -> [String] {
      events.withLock { events in
        defer { events = [] }
        return events
      }
    }
  }

  @Test("A new ledger syncs file and folder; a charge is written and then synced before it returns")
  func order() throws {
    let folder = try LedgerFolder()
    let recorder = Recorder()
    let ledger = try folder.open(system: recorder.system)
    #expect(recorder.take() == ["write", "sync", "sync folder"])
    try ledger.charge(try makeCharge(round: 0))
    #expect(recorder.take() == ["write", "sync"])
    _ = try ledger.spent(delta: 1e-5)
    #expect(recorder.take() == [])
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path) == ["data.ledger"])
  }

  @Test("A charge that could not be made durable throws, and the ledger refuses all else until opened again")
  func failures() throws {
    let folder = try LedgerFolder()
    let recorder = Recorder()
    let ledger = try folder.open(system: recorder.system)
    try ledger.charge(try makeCharge(round: 0))
    recorder.failing.withLock { $0 = "sync" }
    #expect(throws: LedgerError.system(path: folder.file.path, operation: "sync", code: EIO)) {
      try ledger.charge(try makeCharge(round: 1))
    }
    recorder.failing.withLock { $0 = nil }
    #expect(throws: LedgerError.closed(path: folder.file.path)) { try ledger.charge(try makeCharge(round: 2)) }
    #expect(ledger.contents.charges.count == 1)
    // The line may be there all the same; then it counts, to be safe.
    let second = try folder.open(system: recorder.system)
    #expect(second.contents.charges.map(\.round) == [0, 1])
    recorder.failing.withLock { $0 = "write" }
    #expect(throws: LedgerError.system(path: folder.file.path, operation: "write", code: ENOSPC)) {
      try second.charge(try makeCharge(round: 3))
    }
    let third = try folder.open()
    #expect(third.recoveredTornLine != nil)
    #expect(third.contents.charges.map(\.round) == [0, 1])
  }

  @Test("A file replaced, removed or appended to by somebody else is noticed before anything is spent")
  func replaced() throws {
    for meddle in 0..<3 {
      let folder = try LedgerFolder()
      let ledger = try folder.open()
      try ledger.charge(try makeCharge(round: 0))
      let bytes = try Data(contentsOf: folder.file)
      switch meddle {
      case 0: try bytes.write(to: folder.file, options: .atomic)
      case 1: try FileManager.default.removeItem(at: folder.file)
      default:
        let handle = try FileHandle(forWritingTo: folder.file)
        try handle.seekToEnd()
        try handle.write(contentsOf: Data("x".utf8))
        try handle.close()
      }
      #expect(throws: LedgerError.changed(path: folder.file.path)) { try ledger.charge(try makeCharge(round: 1)) }
    }
  }

  @Test("A missing folder or file is named with the system's reason")
  func missing() throws {
    let folder = try LedgerFolder()
    let nowhere = folder.url.appendingPathComponent("none/data.ledger")
    #expect(throws: LedgerError.system(path: nowhere.path, operation: "create", code: ENOENT)) {
      try PrivacyLedger(at: nowhere, dataset: "ab", relation: .zeroOut)
    }
    #expect(throws: LedgerError.system(path: folder.file.path, operation: "read", code: ENOENT)) {
      try LedgerContents(readingFrom: folder.file)
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path).isEmpty)
  }
}
