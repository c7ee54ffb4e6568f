import FedLoRACheckpoint
import Foundation
import GRDB

/// How a run stands by what is durable in its folder: read without changing anything, also while a coordinator serves it.
public struct RunOverview: Codable, Sendable, Equatable {
  /// Where a run is in its life.
  public enum State: String, Codable, Sendable, CaseIterable {
    /// Created, and no client was ever ready.
    case pending
    /// Clients are ready or expected; no round was opened yet.
    case starting
    /// A coordinator serves it.
    case running
    /// Every round is committed.
    case completed = "finished:completed"
    /// It cannot go on.
    case failed = "finished:failed"
    /// No coordinator serves it, or it ended before its last round. Where `isResumable`, it can be gone on with.
    case stopped = "finished:stopped"
  }

  /// The run's identifier.
  public let run: String
  /// The run's folder.
  public let directory: String
  /// Where it is in its life.
  public let state: State
  /// Why it ended; empty while it has not.
  public let reason: String
  /// Whether a coordinator that is started on it goes on.
  public let isResumable: Bool
  /// Whether a coordinator holds it now.
  public let isServed: Bool
  /// Committed rounds.
  public let rounds: Int
  /// Clients that were ready at some time.
  public let clients: Int
  /// Clients that are not asked again.
  public let retired: Int
  /// Updates in the last committed round.
  public let lastUpdates: Int?
  /// When the run was created.
  public let createdAt: String
  /// When the last round was committed.
  public let committedAt: String?
  /// Private releases that were charged, where clients are the unit of privacy.
  public let releases: Int

  enum CodingKeys: String, CodingKey {
    case run, directory, state, reason, rounds, clients, retired, releases
    case isResumable = "resumable"
    case isServed = "served"
    case lastUpdates = "last_updates"
    case createdAt = "created_at"
    case committedAt = "committed_at"
  }

  /// Reads the run in a folder.
  /// - Throws: `RunStoreError.noRun` where there is none, `.newerVersion`, or `.cannotOpen`.
  public init(reading directory: URL) throws {
    let files = RunFiles(directory: directory)
    let path = directory.path
    guard FileManager.default.fileExists(atPath: files.database.path) else { throw RunStoreError.noRun(path: path) }
    let isServed = LocalFileSystem().isLocked(files.lock)
    do {
      var configuration = Configuration()
      configuration.readonly = true
      configuration.busyMode = .timeout(5)
      let database = try DatabaseQueue(path: files.database.path, configuration: configuration)
      self = try database.read { db in
        guard try !RunSchema.migrator.hasBeenSuperseded(db) else { throw RunStoreError.newerVersion(path: path) }
        return try RunOverview(db, directory: directory, isServed: isServed)
      }
    } catch let error as DatabaseError {
      throw RunStoreError.cannotOpen(path: path, reason: error.message ?? "SQLite error \(error.resultCode.rawValue)")
    }
  }

  private init(_ db: Database, directory: URL, isServed: Bool) throws {
    guard try db.tableExists("run"), let row = try Row.fetchOne(db, sql: "SELECT * FROM run") else {
      throw RunStoreError.noRun(path: directory.path)
    }
    let opened = try Int.fetchOne(db, sql: "SELECT count(*) FROM round") ?? 0
    let last = try Row.fetchOne(
      db,
      sql: "SELECT number, updates, committedAt FROM round WHERE committedAt IS NOT NULL ORDER BY number DESC LIMIT 1"
    )
    run = row["runID"]
    self.directory = directory.path
    self.isServed = isServed
    createdAt = row["createdAt"]
    rounds = last?["number"] ?? 0
    lastUpdates = last?["updates"]
    committedAt = last?["committedAt"]
    clients = try Int.fetchOne(db, sql: "SELECT count(*) FROM client") ?? 0
    // An older coordinator's database has neither table.
    let hasPrivacy = try db.tableExists("retired")
    retired = hasPrivacy ? try Int.fetchOne(db, sql: "SELECT count(*) FROM retired") ?? 0 : 0
    releases = hasPrivacy ? try Int.fetchOne(db, sql: "SELECT count(*) FROM release") ?? 0 : 0
    switch row["outcome"] as String? {
    case "completed"?: state = .completed
    case "failed"?: state = .failed
    case .some: state = .stopped
    case nil:
      state = isServed ? (opened > 0 ? .running : clients > 0 ? .starting : .pending) : opened > 0 ? .stopped : .pending
    }
    isResumable = row["outcome"] as String? == nil
    let stopped = try String.fetchOne(
      db,
      sql: "SELECT reason FROM audit WHERE round = 0 AND code = 'stopped' ORDER BY id DESC LIMIT 1"
    )
    reason = row["reason"] as String? ?? (state == .stopped ? stopped ?? "the coordinator ended without a word" : "")
  }
}
