import FedLoRADP
import Foundation
import Synchronization
import Testing

/// A folder that goes with the test.
final class LedgerFolder {
  let url = FileManager.default.temporaryDirectory.appendingPathComponent("ledger-\(UUID().uuidString)")
  var file: URL { url.appendingPathComponent("data.ledger") }

  init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(at: url) }

  func open(
    dataset: String = "abc123",
    relation: NeighbouringRelation = .addOrRemoveOne,
    otherDataset: PrivacyLedger.OtherDataset = .refuse,
    system: LedgerSystem = .real
  ) throws -> PrivacyLedger {
    try PrivacyLedger(
      at: file,
      dataset: dataset,
      relation: relation,
      otherDataset: otherDataset,
      clock: { Date(timeIntervalSince1970: 1_700_000_000) },
      system: system
    )
  }

  /// A ledger with charges for rounds 0 ..< `rounds`, closed, and its bytes.
  func filled(rounds: Int) throws -> [UInt8] {
    let ledger = try open()
    for round in 0..<rounds { try ledger.charge(try makeCharge(round: round)) }
    ledger.close()
    return Array(try Data(contentsOf: file))
  }
}

func makeCharge(
  run: String = "run-1",
  round: Int,
  rate: Double = 0.01,
  sigma: Double = 0.8,
  steps: Int = 10,
  seeded: Bool = false
) throws -> LedgerCharge {
  LedgerCharge(
    runID: run,
    client: "hospital/A \"north\"",
    round: round,
    phase: try PrivatePhase(sampling: .poisson(rate: rate), noiseMultiplier: sigma, steps: steps),
    clippingNorm: 0.1,
    strategy: "fedsvd",
    seeded: seeded,
    note: round == 1 ? "zwei\nZeilen ü" : nil
  )
}

@Suite("Privacy ledger")
struct PrivacyLedgerTests {
  @Test("What was charged is there again after re-opening, and costs the same")
  func cumulative() throws {
    let folder = try LedgerFolder()
    var last = 0.0
    var heads = [LedgerHead]()
    for opening in 0..<3 {
      let ledger = try folder.open()
      #expect(ledger.recoveredTornLine == nil)
      for round in 0..<2 {
        try ledger.charge(try makeCharge(run: "run-\(opening)", round: round, sigma: opening == 2 ? 0.9 : 0.8))
        let spent = try ledger.spent(delta: 1e-5).epsilon
        #expect(spent > last)
        last = spent
        heads.append(ledger.head)
      }
      ledger.close()
    }
    let ledger = try folder.open()
    #expect(try ledger.spent(delta: 1e-5).epsilon == last)
    #expect(ledger.phases.map(\.steps) == [40, 20])
    #expect(ledger.phases.map(\.noiseMultiplier) == [0.8, 0.9])
    let accountant = PrivacyAccountant(relation: .addOrRemoveOne)
    #expect(try accountant.epsilon(of: ledger.phases, delta: 1e-5).epsilon == last)
    #expect(ledger.contents.runs == ["run-0", "run-1", "run-2"])
    #expect(heads.allSatisfy { ledger.contents.contains($0) })
    #expect(ledger.contents.charges[1] == (try makeCharge(run: "run-0", round: 1)))
  }

  @Test("Asking changes nothing, and the budget check sees what a phase would cost")
  func asking() throws {
    let folder = try LedgerFolder()
    let ledger = try folder.open()
    #expect(try ledger.spent(delta: 1e-5).epsilon == 0)
    let charge = try makeCharge(round: 0)
    let would = try ledger.wouldSpend(after: charge.phase, delta: 1e-5).epsilon
    let before = try Data(contentsOf: folder.file)
    #expect(try ledger.fits(charge.phase, epsilon: would, delta: 1e-5))
    #expect(try !ledger.fits(charge.phase, epsilon: would.nextDown, delta: 1e-5))
    #expect(try Data(contentsOf: folder.file) == before)
    #expect(ledger.phases.isEmpty)
    try ledger.charge(charge)
    #expect(try ledger.spent(delta: 1e-5).epsilon == would)
    #expect(try ledger.wouldSpend(after: charge.phase, delta: 1e-5).epsilon > would)
    #expect(throws: PrivacyParameterError.self) { try ledger.spent(delta: 0) }
  }

  @Test("Rounds of a run are counted with every attempt; seeded noise is noticed")
  func rounds() throws {
    let folder = try LedgerFolder()
    let ledger = try folder.open()
    for round in [3, 1, 3, 7] { try ledger.charge(try makeCharge(round: round)) }
    #expect(!ledger.hasSeededNoise)
    try ledger.charge(try makeCharge(run: "other", round: 2, seeded: true))
    let (rounds, participations) = ledger.rounds(ofRun: "run-1")
    #expect(rounds == [1, 3, 7])
    #expect(participations == 4)
    #expect(ledger.rounds(ofRun: "none").participations == 0)
    #expect(ledger.hasSeededNoise)
    #expect(ledger.phases.map(\.steps) == [50])
  }

  @Test("A ledger is of one data set and one relation; changed data keeps what was spent")
  func binding() throws {
    let folder = try LedgerFolder()
    _ = try folder.filled(rounds: 2)
    #expect(throws: LedgerError.otherDataset(path: folder.file.path, found: "abc123", expected: "ff")) {
      try folder.open(dataset: "ff")
    }
    #expect(
      throws: LedgerError.otherRelation(path: folder.file.path, found: .addOrRemoveOne, expected: .replaceOne)
    ) { try folder.open(relation: .replaceOne) }
    for bad in ["", "xyz", "ab cd"] {
      #expect(throws: LedgerError.badFingerprint(bad)) { try folder.open(dataset: bad) }
    }
    let grown = try folder.open(dataset: "ff", otherDataset: .recordSuccessor(note: "May's patients"))
    #expect(grown.phases.map(\.steps) == [20])
    #expect(grown.contents.datasets == ["abc123", "ff"])
    try grown.recordSuccessor(dataset: "ee")
    grown.close()
    #expect(throws: LedgerError.self) { try folder.open(dataset: "abc123") }
    #expect(try folder.open(dataset: "ee").phases.map(\.steps) == [20])
  }

  @Test("Charges that no step can have are refused before anything is written")
  func refusals() throws {
    let folder = try LedgerFolder()
    let ledger = try folder.open()
    let before = try Data(contentsOf: folder.file)
    var charge = try makeCharge(round: 0)
    charge.clippingNorm = 0
    #expect(throws: PrivacyParameterError.self) { try ledger.charge(charge) }
    charge = try makeCharge(round: 0)
    charge.phase.noiseMultiplier = -1
    #expect(throws: PrivacyParameterError.self) { try ledger.charge(charge) }
    charge = try makeCharge(round: 0)
    charge.phase.sampling = .fixedSize(rate: 0.1)
    #expect(throws: PrivacyParameterError.self) { try ledger.charge(charge) }
    #expect(try Data(contentsOf: folder.file) == before)
    // A refusal is no failure: the ledger goes on.
    try ledger.charge(try makeCharge(round: 0))
  }

  // MARK: Sharing

  @Test("A second opening is refused by name while the first holds the lock, also for other processes; reports are not")
  func exclusive() throws {
    let folder = try LedgerFolder()
    let ledger = try folder.open()
    try ledger.charge(try makeCharge(round: 0))
    let error = #expect(throws: LedgerError.inUse(path: folder.file.path)) { try folder.open() }
    #expect(error?.description.contains(folder.file.path) == true)
    func statusOfOtherProcess() throws -> Int32 {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments = ["flock", "-n", folder.file.path, "true"]
      try process.run()
      process.waitUntilExit()
      return process.terminationStatus
    }
    #expect(try statusOfOtherProcess() == 1)
    #expect(try LedgerContents(readingFrom: folder.file).charges.count == 1)
    ledger.close()
    ledger.close()
    #expect(try statusOfOtherProcess() == 0)
    #expect(throws: LedgerError.closed(path: folder.file.path)) { try ledger.charge(try makeCharge(round: 1)) }
    try folder.open().charge(try makeCharge(round: 1))
    #expect(try LedgerContents(readingFrom: folder.file).charges.count == 2)
  }

  @Test("Charges from many threads all arrive, one line each")
  func threads() throws {
    let folder = try LedgerFolder()
    let ledger = try folder.open()
    let failures = Mutex(0)
    DispatchQueue.concurrentPerform(iterations: 200) { round in
      do { try ledger.charge(try makeCharge(round: round)) } catch { failures.withLock { $0 += 1 } }
    }
    #expect(failures.withLock { $0 } == 0)
    let contents = try LedgerContents(readingFrom: folder.file)
    #expect(contents == ledger.contents)
    #expect(contents.rounds(ofRun: "run-1").rounds == Set(0..<200))
  }
}
