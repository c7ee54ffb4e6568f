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

/// What a run says about how records are read.
public struct RecordTerms: Sendable, Equatable {
  /// What is learnt.
  public let task: TaskKind
  /// Longest sequence in tokens.
  public let maxLength: Int
  /// How a prompt and its response become one text; of no use to a classifier.
  public let promptFormat: PromptFormat

  /// Takes all parts.
  public init(task: TaskKind, maxLength: Int, promptFormat: PromptFormat = .plain) {
    self.task = task
    self.maxLength = maxLength
    self.promptFormat = promptFormat
  }
}

/// Data that are read when a run's terms have been found acceptable, not before, and the ledger of what was spent on them.
public actor LocalData {
  private let load: @Sendable (RecordTerms) async throws -> ClientRecords
  private var loading: (terms: RecordTerms, task: Task<ClientRecords, any Error>)?
  private var openLedger: PrivacyLedger?

  /// - Parameter load: reads the data as a run's terms say; called at most once at a time for the same terms, and again
  ///   only after it failed.
  public init(_ load: @escaping @Sendable (RecordTerms) async throws -> ClientRecords) { self.load = load }

  /// Data that are in memory already.
  public init(_ records: ClientRecords) { load = { _ in records } }

  /// The records, read as `terms` say.
  /// - Throws: what reading them throws.
  public func records(_ terms: RecordTerms) async throws -> ClientRecords {
    if let loading, loading.terms == terms { return try await value(of: loading.task, terms) }
    let task = Task { [load] in try await load(terms) }
    loading = (terms, task)
    return try await value(of: task, terms)
  }

  private func value(of task: Task<ClientRecords, any Error>, _ terms: RecordTerms) async throws -> ClientRecords {
    do { return try await task.value } catch {
      if loading?.terms == terms { loading = nil }
      throw error
    }
  }

  /// The ledger of this data set, opened once and kept until the process ends, so that no other process spends from it.
  /// - Throws: `LedgerError` where it is damaged, in use, or about another relation or data set.
  package func ledger(
    _ privacy: ClientPrivacy,
    relation: NeighbouringRelation,
    terms: RecordTerms
  ) async throws -> PrivacyLedger {
    let fingerprint = try await records(terms).fingerprint
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
