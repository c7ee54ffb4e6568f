import Foundation

/// All that a ledger says, as a value: for reports, and for deciding before anything is spent.
///
/// The chain of hashes finds any edit, reordering or removal of lines before the last. Lines removed at the end leave a
/// shorter ledger that is valid in itself; only who kept a `head` can tell, by `contains(_:)`.
public struct LedgerContents: Sendable, Equatable {
  /// The fingerprint of the data as it is now.
  public private(set) var dataset: String
  /// All fingerprints, the oldest first.
  public private(set) var datasets: [String]
  /// Which data sets count as neighbours.
  public let relation: NeighbouringRelation
  /// When the ledger was begun.
  public let created: String
  /// Every line in order; the header is the first.
  public private(set) var records: [LedgerRecord]
  /// Charges in order.
  public private(set) var charges: [LedgerCharge] = []
  /// A part of a line at the end of the file, from a process that was killed while it appended. Such a line was not synced,
  /// so its steps never ran; it counts for nothing.
  public private(set) var tornLine: [UInt8]?

  /// Equal phases together: their steps added up, in order of first appearance. (The order of steps does not matter to what
  /// they cost together.)
  public private(set) var phases: [PrivatePhase] = []
  private var phaseIndices: [PhaseKey: Int] = [:]
  private var chains: [[UInt8]]

  private struct PhaseKey: Hashable {
    let sampling: ExampleSampling
    let noiseMultiplier: Double
  }

  /// Reads a ledger without its lock and without changing anything.
  /// - Throws: `LedgerError` when it cannot be read or a line is damaged.
  public init(readingFrom url: URL) throws {
    let data: Data
    do {
      data = try Data(contentsOf: url)
    } catch let error as CocoaError {
      let underlying = error.underlying as? POSIXError
      let code = underlying?.code.rawValue ?? (error.code == .fileReadNoSuchFile ? ENOENT : EIO)
      throw LedgerError.system(path: url.path, operation: "read", code: code)
    }
    try self.init(data, path: url.path)
  }

  /// - Parameter path: for errors.
  init(_ data: Data, path: String) throws {
    var lines = data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    // After the last newline comes nothing, or a torn line.
    let rest = lines.removeLast()
    var torn = rest.isEmpty ? nil : Array(rest)
    // Pages of one write may reach the disk in any order: an unsynced last line may have holes, which read as zeros.
    if torn == nil, lines.count > 1, let last = lines.last, last.contains(0) {
      torn = Array(last) + [UInt8(ascii: "\n")]
      lines.removeLast()
    }
    guard let first = lines.first else {
      throw LedgerError.damaged(path: path, line: 1, reason: "the file ends before the header does")
    }
    func decode(_ line: Data, _ number: Int, after chain: [UInt8]) throws -> (record: LedgerRecord, chain: [UInt8]) {
      do throws(LedgerLineError) {
        let found = try LedgerLine.decode(line, after: chain)
        guard found.record.sequence == number - 1 else {
          throw LedgerLineError(reason: "its number is \(found.record.sequence), expected \(number - 1)")
        }
        return found
      } catch {
        throw LedgerError.damaged(path: path, line: number, reason: error.reason)
      }
    }
    let (header, chain) = try decode(first, 1, after: LedgerLine.origin)
    guard case .header(let dataset, let relation) = header.content else {
      throw LedgerError.damaged(path: path, line: 1, reason: "it is not a header")
    }
    self.init(header: header, dataset: dataset, relation: relation, chain: chain)
    for (index, line) in lines.enumerated().dropFirst() {
      let (record, chain) = try decode(line, index + 1, after: lastChain)
      if case .header = record.content {
        throw LedgerError.damaged(path: path, line: index + 1, reason: "it is a second header")
      }
      if case .charge(let charge) = record.content {
        do {
          try charge.check(relation: relation)
        } catch {
          throw LedgerError.damaged(path: path, line: index + 1, reason: "\(error)")
        }
      }
      append(record, chain: chain)
    }
    tornLine = torn
  }

  /// A ledger with its first line alone.
  init(header: LedgerRecord, dataset: String, relation: NeighbouringRelation, chain: [UInt8]) {
    self.dataset = dataset
    datasets = [dataset]
    self.relation = relation
    created = header.time
    records = [header]
    chains = [chain]
  }

  mutating func append(_ record: LedgerRecord, chain: [UInt8]) {
    records.append(record)
    chains.append(chain)
    switch record.content {
    case .header: break
    case .successor(let dataset, _):
      self.dataset = dataset
      datasets.append(dataset)
    case .charge(let charge):
      charges.append(charge)
      add(charge.phase)
    }
  }

  private mutating func add(_ phase: PrivatePhase) {
    let key = PhaseKey(sampling: phase.sampling, noiseMultiplier: phase.noiseMultiplier)
    if let index = phaseIndices[key] {
      let (steps, overflow) = phases[index].steps.addingReportingOverflow(phase.steps)
      phases[index].steps = overflow ? .max : steps
    } else {
      phaseIndices[key] = phases.count
      phases.append(phase)
    }
  }

  // MARK: Lines

  mutating func takeTornLine() -> [UInt8]? {
    defer { tornLine = nil }
    return tornLine
  }

  var lastChain: [UInt8] { chains[chains.count - 1] }

  /// The last line, to be kept elsewhere.
  public var head: LedgerHead {
    LedgerHead(sequence: records.count - 1, chain: LedgerLine.hexadecimal(lastChain))
  }

  /// Whether the ledger has the line of a head that was kept, so that nothing up to there was lost or changed.
  public func contains(_ head: LedgerHead) -> Bool {
    chains.indices.contains(head.sequence) && LedgerLine.hexadecimal(chains[head.sequence]) == head.chain
  }

  // MARK: What was spent

  /// Whether any charge's noise came from a known seed: such steps protected nobody, whatever their ε says.
  public var hasSeededNoise: Bool { charges.contains { $0.seeded } }

  /// The runs that were charged, in order of first appearance.
  public var runs: [String] {
    var seen = Set<String>()
    return charges.map(\.runID).filter { seen.insert($0).inserted }
  }

  /// The rounds of a run that were charged, and how often the data took part: more often than there are rounds when a round
  /// was begun again, as each attempt draws noise of its own and is paid for.
  public func rounds(ofRun runID: String) -> (rounds: Set<Int>, participations: Int) {
    let charged = charges.filter { $0.runID == runID }
    return (Set(charged.map(\.round)), charged.count)
  }

  /// What all charges cost together.
  /// - Throws: what `PrivacyAccountant` throws, for a δ outside (0, 1).
  public func spent(delta: Double) throws -> CertifiedEpsilon {
    try PrivacyAccountant(relation: relation).epsilon(of: phases, delta: delta)
  }

  /// What all charges and `phase` would cost together. Spends nothing.
  public func wouldSpend(after phase: PrivatePhase, delta: Double) throws -> CertifiedEpsilon {
    var copy = self
    copy.add(phase)
    return try copy.spent(delta: delta)
  }

  /// Whether `phase` on top of all charges stays within (ε, δ). Spends nothing.
  public func fits(_ phase: PrivatePhase, epsilon: Double, delta: Double) throws -> Bool {
    try wouldSpend(after: phase, delta: delta).epsilon <= epsilon
  }
}
