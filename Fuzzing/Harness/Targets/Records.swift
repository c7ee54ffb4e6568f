import Crypto
import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRADP
import FedLoRAFederation
import Foundation

extension FuzzTarget {
  /// A privacy ledger. The repair makes its chain of hashes whole, as somebody who rewrites a ledger would.
  static let ledger = FuzzTarget(
    name: "ledger",
    about: "a privacy ledger",
    limits: FuzzLimits(memory: 64 << 20, memoryPerByte: 512, milliseconds: 10_000),
    dictionary: [
      "{\"chain\":\"", "\",\"entry\":{", "\"sequence\":", "\"time\":", "\"format\":\"fedlora-privacy-ledger\"",
      "\"version\":1",
      "\"dataset\":", "\"relation\":\"replace-one\"", "\"charge\":{", "\"successor\":", "\"phase\":{", "\"steps\":",
      "\"noiseMultiplier\":", "\"poisson\":{\"rate\":", "\"fixedSize\":{\"rate\":", "\"sampling\":",
      "\"clippingNorm\":", "\n", "}",
      "1e-300", "1000000000000", "\0",
    ],
    seeds: { try RecordSamples.ledgers() },
    repair: RecordSamples.chained
  ) { bytes, scratch in
    let file = try scratch.file("ledger", bytes)
    let contents = try LedgerContents(readingFrom: file)
    try FuzzFailure.unless(contents.contains(contents.head), "a ledger does not contain its own last line")
    try FuzzFailure.unless(
      contents.records.enumerated().allSatisfy { $0.offset == $0.element.sequence },
      "a ledger is accepted with a line out of order"
    )
    let report = try? PrivacyReport(contents, delta: 1e-5, budget: 3)
    if let report { _ = try FuzzFailure.onError("a report cannot be written") { try JSONEncoder().encode(report) } }
    // Opening for spending takes a torn line off the end, and reads the same.
    let opened = try FuzzFailure.onError("a ledger that can be read cannot be opened") { () throws -> PrivacyLedger? in
      do {
        return try PrivacyLedger(at: file, dataset: contents.dataset, relation: contents.relation)
      } catch LedgerError.badFingerprint { return nil }
    }
    guard let opened else { return }
    try FuzzFailure.unless(opened.contents.records == contents.records, "a ledger changes when it is opened")
    opened.close()
    let again = try FuzzFailure.onError("a ledger that was opened cannot be read") {
      try LedgerContents(readingFrom: file)
    }
    try FuzzFailure.unless(again.head == contents.head && again.tornLine == nil, "a ledger changes when it is opened")
  }

  /// A run's event log, read whole and while it grows.
  static let runLog = FuzzTarget(
    name: "run-log",
    about: "a run's event log",
    limits: FuzzLimits(memory: 2 << 20, memoryPerByte: 256, length: 1 << 16),
    dictionary: [
      "{", "}", "\n", "\"at\":", "\"run\":", "\"event\":", "\"round-committed\"", "\"round\":", "\"counts\":{",
      "\"metrics\":{",
      "\"loss\":", "\"cohort\":[", "1e999", "null", "\"epsilon\":", "\\ud800", "\n\n\n\n",
    ],
    seeds: {
      [
        """
        {"at":"2026-01-01T10:00:00.000Z","event":"coordinator-started","reason":"process 7 serves port 7443","run":"r"}
        {"at":"2026-01-01T10:00:01.000Z","attempt":1,"cohort":["a","b"],"event":"round-opened","round":1,"run":"r"}
        {"at":"2026-01-01T10:00:02.000Z","client":"a","event":"update-accepted","metrics":{"loss":0.5},"round":1,"run":"r"}
        {"at":"2026-01-01T10:00:03.000Z","bytes_sent":9,"count":2,"counts":{"late":1},"epsilon":1.5,"event":"round-committed",\
        "loss":0.4,"round":1,"run":"r"}

        """, "{\"at\":\"\",\"run\":\"\",\"event\":\"x\"}\n{\"at\":\"", String(repeating: "\n", count: 40_000),
      ].map { Array($0.utf8) }
    }
  ) { bytes, scratch in
    _ = try scratch.file(RunLog.name, bytes)
    var whole = RunLogReader(folder: scratch.folder)
    let entries = whole.next()
    _ = try scratch.file(RunLog.name, bytes.prefix(bytes.count / 2))
    var growing = RunLogReader(folder: scratch.folder)
    let first = growing.next()
    _ = try scratch.file(RunLog.name, bytes)
    try FuzzFailure.unless(first + growing.next() == entries, "a log reads otherwise while it grows")
    for entry in entries {
      _ = entry.text
      let again = try FuzzFailure.onError("an entry does not survive") {
        try JSONDecoder().decode(RunLogEntry.self, from: JSONEncoder().encode(entry))
      }
      try FuzzFailure.unless(again == entry, "an entry changes when it is written")
    }
    if entries.isEmpty { throw CocoaError(.fileReadCorruptFile) }
  }

  /// A partial sum of updates.
  static let exactSum = FuzzTarget(
    name: "exact-sum",
    about: "a serialised exact sum",
    dictionary: ["FLSUM001", "a.lora_A.weight", "\u{1}\0\0\0", "\0\0\0\0\0\0\0\u{40}", "\0\0\0\0"],
    seeds: {
      var sum = ExactSum(layout: TensorLayout(of: WireSamples.tensors))
      let empty = sum.serialized()
      try sum.fold(WireSamples.tensors, weight: 3)
      try sum.fold(WireSamples.tensors, weight: 1 << 20)
      let scalar = ExactSum(layout: try TensorLayout([(name: "s", shape: [])]))
      return [empty, sum.serialized(), scalar.serialized()].map { [UInt8]($0) }
    }
  ) { bytes, _ in
    let sum = try ExactSum(serialized: Data(bytes))
    try FuzzFailure.unless(
      Array(sum.serialized()) == bytes || isReordered(sum, bytes),
      "a sum changes when it is written"
    )
    if let mean = try? sum.mean() {
      var folded = sum
      if mean.entries.allSatisfy(\.tensor.isFinite) { try? folded.fold(mean, weight: 1) }
    }
    var doubled = sum
    if (try? doubled.merge(sum)) != nil {
      let back = try FuzzFailure.onError("a merged sum cannot be read") {
        try ExactSum(serialized: doubled.serialized())
      }
      try FuzzFailure.unless(back == doubled, "a merged sum changes when it is written")
    }
  }

  /// Tensors may stand in any order in the bytes; written they stand in one.
  private static func isReordered(_ sum: ExactSum, _ bytes: [UInt8]) -> Bool {
    guard let again = try? ExactSum(serialized: sum.serialized()) else { return false }
    return again == sum && sum.serialized().count == bytes.count
  }
}

enum RecordSamples {
  static func ledgers() throws -> [[UInt8]] {
    try [NeighbouringRelation.addOrRemoveOne, .replaceOne].map { relation in
      let scratch = try FuzzScratch()
      let file = scratch.folder.appendingPathComponent("ledger")
      let start = Date(timeIntervalSince1970: 1_767_225_600)
      let ledger = try PrivacyLedger(at: file, dataset: "00ff", relation: relation, clock: { start })
      let sampling: ExampleSampling = relation == .replaceOne ? .fixedSize(rate: 0.02) : .poisson(rate: 0.01)
      for round in 1...2 {
        try ledger.charge(
          LedgerCharge(
            runID: "run",
            client: "a",
            round: round,
            phase: try PrivatePhase(sampling: sampling, noiseMultiplier: 1.1, steps: 10),
            clippingNorm: 1,
            strategy: "fedsa-lora",
            seeded: false
          )
        )
      }
      try ledger.recordSuccessor(dataset: "00fe", note: "more")
      ledger.close()
      let bytes = [UInt8](try Data(contentsOf: file))
      return relation == .replaceOne ? bytes + Array("{\"chain\":\"torn".utf8) : bytes
    }
  }

  /// Every line with the form of a ledger's gets the hash that it must have.
  @Sendable static func chained(_ bytes: [UInt8]) -> [UInt8] {
    let (opening, middle) = (Array(#"{"chain":""#.utf8), Array(#"","entry":"#.utf8))
    var chain = [UInt8](repeating: 0, count: 32)
    var lines: [[UInt8]] = []
    for line in bytes.split(separator: 10, omittingEmptySubsequences: false) {
      let start = opening.count + 64 + middle.count
      guard line.count > start + 2, line.starts(with: opening), line.last == UInt8(ascii: "}") else {
        lines.append(Array(line))
        continue
      }
      let entry = Array(Array(line)[start..<(line.count - 1)])
      chain = Array(SHA256.hash(data: chain + entry))
      let digits = chain.flatMap { Array(String($0 >> 4, radix: 16).utf8) + Array(String($0 & 15, radix: 16).utf8) }
      lines.append(opening + digits + middle + entry + [UInt8(ascii: "}")])
    }
    return Array(lines.joined(separator: [10]))
  }
}
