import FedLoRACheckpoint
import Foundation
import GRDB

/// Several changes that become durable at once.
///
/// A disk takes about as long to make one update durable as fifty: what is slow is to wait for it. So a coordinator that has
/// several updates at hand writes them all, lets the disk take the files at the same time, and commits one transaction. Files
/// are durable before the rows that name them, as ever; and files that rows of before still name are removed afterwards.
///
/// Nobody may be told of a change before its group is durable. A crash before that forgets the whole group.
extension RunStore {
  /// A group that is open on the thread that opened it.
  final class Group {
    let database: Database
    let disk: DeferredSyncs
    /// Why SQLite has given up the transaction, where it has.
    var failure: (any Error)?

    init(database: Database, disk: DeferredSyncs) {
      self.database = database
      self.disk = disk
    }
  }

  /// Makes everything that `body` changes in this store durable at once.
  /// - Throws: what the disk or the database throws at the end; then nothing of it has happened. A change that fails within
  ///   `body` throws there, and takes only itself back.
  package func together(_ body: () -> Void) throws {
    let deferred = DeferredSyncs(baseDisk)
    do {
      try database.writeWithoutTransaction { db in
        try db.inTransaction(.immediate) {
          let group = Group(database: db, disk: deferred)
          openGroup(group)
          defer { closeGroup() }
          body()
          if let failure = group.failure { throw failure }
          try deferred.settle()
          return .commit
        }
      }
    } catch {
      deferred.abandon()
      throw error
    }
    deferred.removeNow()
  }

  /// Changes the database, in the open group or in a transaction of its own.
  func write<T>(_ body: (Database) throws -> T) throws -> T {
    guard let group else { return try database.write(body) }
    if let failure = group.failure { throw failure }
    var result: T?
    do {
      try group.database.inSavepoint {
        result = try body(group.database)
        return .commit
      }
    } catch {
      // A full disk, for one, ends the whole transaction and not just this part.
      if !group.database.isInsideTransaction { group.failure = error }
      throw error
    }
    guard let result else { throw DatabaseError(resultCode: .SQLITE_INTERNAL) }
    return result
  }

  /// Reads the database as it is, with what the open group has changed.
  func read<T>(_ body: (Database) throws -> T) throws -> T {
    guard let group else { return try database.read(body) }
    if let failure = group.failure { throw failure }
    return try body(group.database)
  }

  /// Where files are written: with a group, without waiting for the disk.
  var disk: any FileSystem { group?.disk ?? baseDisk }

  /// Removes a file or folder that the database no longer names, once that is durable.
  func removeUnnamed(_ url: URL) {
    if let group { group.disk.removeLater(url) } else { try? baseDisk.remove(url) }
  }
}
