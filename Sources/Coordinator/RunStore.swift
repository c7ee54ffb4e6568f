import FedLoRACheckpoint
import Foundation
import GRDB
import Synchronization

/// Everything that must outlive the coordinator: SQLite in WAL mode with full synchronisation, and tensors as safetensors
/// files beside it.
///
/// **Order of writes.** A file is written aside, synced and renamed before the row that names it is committed. So after a
/// crash at any instruction each row has its file; a file without a row is from a write that nobody was told of, and
/// the next write of the same thing replaces it.
///
/// One coordinator at a time holds a run (`RunStoreError.inUse`). All methods may be called from any thread; they block.
public final class RunStore: Sendable {
  /// What a run is, fixed when it is created.
  public struct Description: Sendable, Equatable {
    /// The run's identifier.
    public let runID: String
    /// Seeds the choice of cohorts.
    public let seed: UInt64
    /// The manifest that clients pin, byte for byte.
    public let manifest: Data

    /// Describes a run.
    public init(runID: String, seed: UInt64, manifest: Data) {
      self.runID = runID
      self.seed = seed
      self.manifest = manifest
    }
  }

  /// The folder of the run.
  public var directory: URL { files.directory }
  /// What the run is.
  public let run: Description

  let files: RunFiles
  let database: DatabasePool
  /// Two updates of one client must not race for one file. Holds the round whose folder is known to be durable.
  let updateLock = Mutex<Int?>(nil)
  /// Where everything but the database lies.
  let baseDisk: any FileSystem
  private let grouping = Grouping()
  private let lock: any FileLock
  private let clock: @Sendable () -> Date

  /// Begins a run in a new or empty folder.
  /// - Parameters:
  ///   - directory: made where it does not exist.
  ///   - run: what the run is.
  ///   - initialState: the tensors that round 1 sends.
  ///   - disk: where the folder lies. The database is SQLite's to write; a disk that is not this machine's needs a SQLite
  ///     file system (VFS) that leads to it.
  ///   - clock: the time of day, for the records.
  /// - Throws: `RunStoreError`, `DurableFileError`.
  public static func create(
    at directory: URL,
    run: Description,
    initialState: TensorSet,
    on disk: any FileSystem = LocalFileSystem(),
    clock: @escaping @Sendable () -> Date = { Date() }
  ) throws -> RunStore {
    let files = RunFiles(directory: directory)
    do {
      try DurableFile.makeDirectory(directory, permissions: RunFiles.permissions, on: disk)
    } catch {
      throw RunStoreError.cannotOpen(path: directory.path, reason: "\(error)")
    }
    return try naming(directory) { try create(files, run: run, initialState: initialState, on: disk, clock: clock) }
  }

  private static func create(
    _ files: RunFiles,
    run: Description,
    initialState: TensorSet,
    on disk: any FileSystem,
    clock: @escaping @Sendable () -> Date
  ) throws -> RunStore {
    let directory = files.directory
    let lock = try takeLock(files, on: disk)
    let database = try openDatabase(files)
    // A crash while a run was being created leaves a database without a run: that is as good as none.
    guard try database.read({ try Row.fetchOne($0, sql: "SELECT 1 FROM run") }) == nil else {
      throw RunStoreError.runExists(path: directory.path)
    }
    try files.settle(lastCommittedRound: 0, on: disk)
    try SafetensorsFile.write(initialState, to: files.state(afterRound: 0), metadata: ["round": "0"], on: disk)
    try database.write { db in
      try db.execute(
        sql: "INSERT INTO run (id, runID, seed, manifest, createdAt) VALUES (1, ?, ?, ?, ?)",
        arguments: [run.runID, Int64(bitPattern: run.seed), run.manifest, RunStore.text(clock())]
      )
    }
    return RunStore(files: files, run: run, database: database, disk: disk, lock: lock, clock: clock)
  }

  /// Opens the run in a folder, to go on with it.
  /// - Throws: `RunStoreError`.
  public static func open(
    at directory: URL,
    on disk: any FileSystem = LocalFileSystem(),
    clock: @escaping @Sendable () -> Date = { Date() }
  ) throws -> RunStore {
    let files = RunFiles(directory: directory)
    guard disk.exists(files.database) else { throw RunStoreError.noRun(path: directory.path) }
    return try naming(directory) { try open(files, on: disk, clock: clock) }
  }

  private static func open(
    _ files: RunFiles,
    on disk: any FileSystem,
    clock: @escaping @Sendable () -> Date
  ) throws -> RunStore {
    let directory = files.directory
    let lock = try takeLock(files, on: disk)
    let database = try openDatabase(files)
    guard let row = try database.read({ try Row.fetchOne($0, sql: "SELECT runID, seed, manifest FROM run") }) else {
      throw RunStoreError.noRun(path: directory.path)
    }
    // What a process that was killed has written can be seen here and be lost all the same: before anything is removed because
    // of it, the disk is waited for.
    _ = try database.writeWithoutTransaction { try $0.checkpoint(.full) }
    let last = try database.read { db in
      try Int.fetchOne(db, sql: "SELECT max(number) FROM round WHERE committedAt IS NOT NULL") ?? 0
    }
    try files.settle(lastCommittedRound: last, on: disk)
    let run = Description(
      runID: row["runID"],
      seed: UInt64(bitPattern: row["seed"] as Int64),
      manifest: row["manifest"]
    )
    return RunStore(files: files, run: run, database: database, disk: disk, lock: lock, clock: clock)
  }

  private init(
    files: RunFiles,
    run: Description,
    database: DatabasePool,
    disk: any FileSystem,
    lock: any FileLock,
    clock: @escaping @Sendable () -> Date
  ) {
    self.files = files
    self.run = run
    self.database = database
    baseDisk = disk
    self.lock = lock
    self.clock = clock
  }

  /// Closes the database and lets go of the folder, for the next coordinator; nothing else works any more.
  public func close() {
    try? database.close()
    lock.release()
  }

  /// The group that this thread has opened.
  var group: Group? { grouping.current }
  func openGroup(_ group: Group) { grouping.open(group) }
  func closeGroup() { grouping.close() }

  /// Which thread has a group open, if any.
  ///
  /// Unchecked, because a `Database` is bound to its thread and the compiler cannot see threads: `group` is read and written
  /// only by the thread that opened it, which `lock` holds and every other thread finds to be another.
  private final class Grouping: @unchecked Sendable {
    private let lock = Mutex<pthread_t?>(nil)
    private var group: Group?

    var current: Group? { lock.withLock { $0.map { pthread_equal($0, pthread_self()) != 0 } ?? false } ? group : nil }

    func open(_ group: Group) {
      self.group = group
      lock.withLock { $0 = pthread_self() }
    }

    func close() {
      lock.withLock { $0 = nil }
      group = nil
    }
  }

  var now: String { RunStore.text(clock()) }

  private static func text(_ date: Date) -> String {
    date.formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true).timeZone(separator: .omitted))
  }

  /// One coordinator at a time.
  private static func takeLock(_ files: RunFiles, on disk: any FileSystem) throws -> any FileLock {
    let path = files.directory.path
    let lock: (any FileLock)?
    lock = try disk.lock(files.lock)
    guard let lock else { throw RunStoreError.inUse(path: path) }
    return lock
  }

  private static func openDatabase(_ files: RunFiles) throws -> DatabasePool {
    let path = files.directory.path
    do {
      var configuration = Configuration()
      configuration.busyMode = .timeout(10)
      let pool = try DatabasePool(path: files.database.path, configuration: configuration)
      // A pool sets NORMAL, under which a commit can be lost with the machine's power.
      try pool.writeWithoutTransaction { db in try db.execute(sql: "PRAGMA synchronous = FULL") }
      guard try pool.read({ try !RunSchema.migrator.hasBeenSuperseded($0) }) else {
        throw RunStoreError.newerVersion(path: path)
      }
      try RunSchema.migrator.migrate(pool)
      return pool
    } catch let error as DatabaseError where !isOfTheDisk(error) {
      throw RunStoreError.cannotOpen(path: path, reason: error.message ?? "SQLite error \(error.resultCode.rawValue)")
    }
  }

  private static func isOfTheDisk(_ error: DatabaseError) -> Bool {
    [.SQLITE_FULL, .SQLITE_READONLY, .SQLITE_IOERR, .SQLITE_CANTOPEN].contains(error.resultCode.primaryResultCode)
  }

  /// Says of which run a disk's fault is.
  private static func naming<T>(_ directory: URL, _ body: () throws -> T) throws -> T {
    do { return try body() } catch let error as DatabaseError where isOfTheDisk(error) {
      throw RunStoreError.unwritable(path: directory.path, reason: error.message ?? "\(error.resultCode)")
    } catch let error as DurableFileError {
      throw RunStoreError.unwritable(path: directory.path, reason: error.description)
    }
  }
}

extension RunStore {
  /// A setting of the connection that writes.
  package func pragma(_ name: String) throws -> String? {
    try database.writeWithoutTransaction { try String.fetchOne($0, sql: "PRAGMA \(name)") }
  }
}
