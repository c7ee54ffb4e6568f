import FedLoRADP
import FedLoRAEngine
import Foundation

/// A client's training data as a run needs it.
public struct ClientRecords: Sendable {
  /// The encoded examples.
  public let examples: [EncodedExample]
  /// Class names in the order in which `examples` count them.
  public let labels: [String]
  /// Longest sequence to which the examples were truncated.
  public let maxLength: Int
  /// Identifies the data set whatever its order or file: see `DatasetFingerprint`.
  public let fingerprint: String

  /// Takes all parts.
  public init(examples: [EncodedExample], labels: [String], maxLength: Int, fingerprint: String) {
    self.examples = examples
    self.labels = labels
    self.maxLength = maxLength
    self.fingerprint = fingerprint
  }
}

/// Data that are read when a run's terms have been found acceptable, not before, and the ledger of what was spent on them.
public actor LocalData {
  private let load: @Sendable () async throws -> ClientRecords
  private var loading: Task<ClientRecords, any Error>?
  private var openLedger: PrivacyLedger?

  /// - Parameter load: reads the data; called at most once at a time, and again only after it failed.
  public init(_ load: @escaping @Sendable () async throws -> ClientRecords) { self.load = load }

  /// Data that are in memory already.
  public init(_ records: ClientRecords) { load = { records } }

  /// The records.
  /// - Throws: what reading them throws.
  public func records() async throws -> ClientRecords {
    let task = loading ?? Task { [load] in try await load() }
    loading = task
    do { return try await task.value } catch {
      loading = nil
      throw error
    }
  }

  /// The ledger of this data set, opened once and kept until the process ends, so that no other process spends from it.
  /// - Throws: `LedgerError` where it is damaged, in use, or about another relation or data set.
  package func ledger(_ privacy: ClientPrivacy, relation: NeighbouringRelation) async throws -> PrivacyLedger {
    let fingerprint = try await records().fingerprint
    if let openLedger {
      guard openLedger.contents.relation == relation else {
        throw LedgerError.otherRelation(
          path: openLedger.url.path,
          found: openLedger.contents.relation,
          expected: relation
        )
      }
      return openLedger
    }
    try FileManager.default.createDirectory(at: privacy.ledgerFolder, withIntermediateDirectories: true)
    let ledger = try PrivacyLedger(
      at: privacy.ledgerURL(fingerprint: fingerprint),
      dataset: fingerprint,
      relation: relation
    )
    openLedger = ledger
    return ledger
  }
}
