import Foundation
import Synchronization

/// What one data set has spent of its privacy, over all runs: a file that only grows.
///
/// A charge is on the disk before `charge(_:)` returns, and noise is drawn after that. So whenever a process is killed, every
/// step that may have been released was paid for; a round that was interrupted is paid for again when it is begun again.
///
/// The file has one JSON object a line, each with a number and the SHA-256 of its entry and the hash before it, so an edit, a
/// removal or another order is found and named (`LedgerContents`). A part of a line at the end, left by a process that was
/// killed while it appended, was never acted on: it goes to `FILE.torn`, is reported as `recoveredTornLine`, and the rest
/// stands. Any other fault is an error and changes nothing.
///
/// One process holds a ledger at a time, by an advisory lock (`flock`) that the system lets go of however it ends. Reports need
/// no lock: they read with `LedgerContents(readingFrom:)`.
public final class PrivacyLedger: Sendable {
  /// The file.
  public let url: URL
  /// The end of a line that an earlier process could not finish, if there was one; now in `FILE.torn`.
  public let recoveredTornLine: [UInt8]?

  private struct State: ~Copyable {
    /// nil after a failed write, or when closed.
    var file: LedgerFile?
    var contents: LedgerContents
  }
  private let state: Mutex<State>
  private let clock: @Sendable () -> Date

  /// What to do when a ledger's fingerprint is not that of the data.
  public enum OtherDataset: Sendable, Equatable {
    /// An error, as the ledger is probably the wrong one.
    case refuse
    /// The data changed (it grew, or examples were corrected): record the new fingerprint; all spending stays.
    case recordSuccessor(note: String?)
  }

  /// Opens the ledger of a data set for spending, and begins one when there is no file.
  /// - Parameters:
  ///   - url: the file; its folder exists.
  ///   - dataset: the data's fingerprint in hexadecimal digits.
  ///   - relation: which data sets count as neighbours; a ledger has one.
  ///   - otherDataset: what to do when the ledger is of data with another fingerprint.
  ///   - clock: the time that lines are stamped with.
  /// - Throws: `LedgerError` when it is in use, damaged, or of other data or neighbours.
  public convenience init(
    at url: URL,
    dataset: String,
    relation: NeighbouringRelation,
    otherDataset: OtherDataset = .refuse,
    clock: @escaping @Sendable () -> Date = { Date() }
  ) throws {
    try self.init(
      at: url,
      dataset: dataset,
      relation: relation,
      otherDataset: otherDataset,
      clock: clock,
      system: .real
    )
  }

  package init(
    at url: URL,
    dataset: String,
    relation: NeighbouringRelation,
    otherDataset: OtherDataset = .refuse,
    clock: @escaping @Sendable () -> Date = { Date() },
    system: LedgerSystem
  ) throws {
    try Self.check(fingerprint: dataset)
    if access(url.path, F_OK) != 0, errno == ENOENT {
      let header = LedgerRecord(
        sequence: 0,
        time: Self.stamp(clock()),
        content: .header(dataset: dataset, relation: relation)
      )
      try LedgerFile.create(try LedgerLine.encode(header, after: LedgerLine.origin).bytes, at: url, system: system)
    }
    // Read after locking: nobody else appends any more.
    var file = try LedgerFile(opening: url, system: system)
    let data = try file.read()
    var contents = try LedgerContents(data, path: url.path)
    guard contents.relation == relation else {
      throw LedgerError.otherRelation(path: url.path, found: contents.relation, expected: relation)
    }
    if contents.dataset != dataset, otherDataset == .refuse {
      throw LedgerError.otherDataset(path: url.path, found: contents.dataset, expected: dataset)
    }
    let torn = contents.takeTornLine()
    if let torn { try file.removeEnd(torn) }
    self.url = url
    self.clock = clock
    recoveredTornLine = torn
    state = Mutex(State(file: file, contents: contents))
    if contents.dataset != dataset, case .recordSuccessor(let note) = otherDataset {
      try append(.successor(dataset: dataset, note: note))
    }
  }

  // MARK: Spending

  /// Pays for private steps. When it returns, the charge is on the disk; only then may their noise be drawn.
  /// - Throws: `PrivacyParameterError` for steps that no ledger of this relation can have; `LedgerError` when the charge could
  ///   not be made durable, after which the steps must not run and this ledger refuses all else until opened again.
  public func charge(_ charge: LedgerCharge) throws {
    try charge.check(relation: contents.relation)
    try append(.charge(charge))
  }

  /// Records that the data changed to one with another fingerprint, such as by new examples. What was spent stays spent.
  /// - Throws: `LedgerError` as `charge(_:)`, and when `dataset` is no fingerprint.
  public func recordSuccessor(dataset: String, note: String? = nil) throws {
    try Self.check(fingerprint: dataset)
    try append(.successor(dataset: dataset, note: note))
  }

  /// Lets go of the file. Doing so again does nothing.
  public func close() { state.withLock { $0.file = nil } }

  private func append(_ content: LedgerRecord.Content) throws {
    let time = Self.stamp(clock())
    try state.withLock { state in
      let record = LedgerRecord(sequence: state.contents.records.count, time: time, content: content)
      let (bytes, chain) = try LedgerLine.encode(record, after: state.contents.lastChain)
      guard var file = state.file.take() else { throw LedgerError.closed(path: url.path) }
      // A failure leaves the file let go of: it may now end in a part of the line, or in a line that is not safe.
      try file.append(bytes)
      state.file = consume file
      state.contents.append(record, chain: chain)
    }
  }

  // MARK: Asking

  /// All that the ledger says at this moment. Asking changes nothing.
  public var contents: LedgerContents { state.withLock { $0.contents } }

  /// Equal phases of all charges together.
  public var phases: [PrivatePhase] { contents.phases }
  /// Whether any charge's noise came from a known seed.
  public var hasSeededNoise: Bool { contents.hasSeededNoise }
  /// The last line, to be kept elsewhere.
  public var head: LedgerHead { contents.head }

  /// The rounds of a run that were charged, and how often the data took part.
  public func rounds(ofRun runID: String) -> (rounds: Set<Int>, participations: Int) { contents.rounds(ofRun: runID) }

  /// What all charges cost together.
  public func spent(delta: Double) throws -> CertifiedEpsilon { try contents.spent(delta: delta) }

  /// What all charges and `phase` would cost together.
  public func wouldSpend(after phase: PrivatePhase, delta: Double) throws -> CertifiedEpsilon {
    try contents.wouldSpend(after: phase, delta: delta)
  }

  /// Whether `phase` on top of all charges stays within (ε, δ).
  public func fits(_ phase: PrivatePhase, epsilon: Double, delta: Double) throws -> Bool {
    try contents.fits(phase, epsilon: epsilon, delta: delta)
  }

  // MARK: Details

  private static func check(fingerprint: String) throws {
    guard !fingerprint.isEmpty, fingerprint.allSatisfy({ $0.isASCII && $0.isHexDigit }) else {
      throw LedgerError.badFingerprint(fingerprint)
    }
  }

  private static func stamp(_ date: Date) -> String { date.formatted(.iso8601) }
}
