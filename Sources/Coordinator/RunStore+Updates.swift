import FedLoRACheckpoint
import Foundation
import GRDB
import Synchronization

/// What the store did with an update.
public enum StoredUpdate: Sendable, Equatable {
  /// It is durable now.
  case stored
  /// The same update was durable before.
  case duplicate
  /// Another update of this client and round is durable; this one was not kept.
  case conflict
}

extension RunStore {
  /// Makes a verified update durable: its file first, then its row. Only then may it be acknowledged.
  /// - Parameters:
  ///   - digest: identifies the update's bytes; the same digest again is recognised as the same update.
  ///   - start: in an asynchronous run, the round whose state it started from.
  /// - Throws: `RunStoreError`, `DurableFileError`, `DatabaseError`.
  public func storeUpdate(
    round: Int,
    name: String,
    examples: Int,
    metrics: [String: Double],
    digest: String,
    tensors: TensorSet,
    start: Int? = nil
  ) throws -> StoredUpdate {
    if let metric = metrics.first(where: { !$0.value.isFinite }) {
      throw RunStoreError.metricNotFinite(name: name, metric: metric.key)
    }
    let file = try files.update(round: round, name: name)
    return try updateLock.withLock { settledRound in
      let known = try read { db in
        try String.fetchOne(
          db,
          sql: "SELECT digest FROM \"update\" WHERE round = ? AND name = ?",
          arguments: [round, name]
        )
      }
      if let known { return known == digest ? .duplicate : .conflict }
      if settledRound != round {
        try DurableFile.makeDirectory(files.updates(round: round), permissions: RunFiles.permissions, on: disk)
        settledRound = round
      }
      try SafetensorsFile.write(
        tensors,
        to: file,
        metadata: ["round": String(round), "client": name, "examples": String(examples), "digest": digest],
        on: disk
      )
      try write { db in
        if start != nil {
          // Who is at work may be done before the next round is opened: too few others may be there.
          try db.execute(
            sql: "INSERT OR IGNORE INTO round (number, attempt, openedAt) VALUES (?, 0, ?)",
            arguments: [round, now]
          )
        }
        try db.execute(
          sql: "INSERT INTO \"update\" (round, name, examples, digest, storedAt, start) VALUES (?, ?, ?, ?, ?, ?)",
          arguments: [round, name, examples, digest, now, start]
        )
        for (metric, value) in metrics {
          try db.execute(
            sql: "INSERT OR REPLACE INTO metric (round, name, metric, value) VALUES (?, ?, ?, ?)",
            arguments: [round, name, metric, value]
          )
        }
      }
      return .stored
    }
  }

  /// Keeps that the operator sent a client away, in one transaction; see `RunEffect.sendAway`.
  public func sendAway(name: String, round: Int, code: String, reason: String, discards: Bool) throws {
    let file = try files.update(round: round, name: name)
    try updateLock.withLock { _ in
      try write { db in
        try db.execute(
          sql: "INSERT OR REPLACE INTO retired (name, code, at) VALUES (?, ?, ?)",
          arguments: [name, code, now]
        )
        try db.execute(
          sql: "INSERT INTO audit (at, round, name, code, reason) VALUES (?, ?, ?, ?, ?)",
          arguments: [now, round, name, code, reason]
        )
        guard discards else { return }
        for table in ["\"update\"", "metric"] {
          try db.execute(sql: "DELETE FROM \(table) WHERE round = ? AND name = ?", arguments: [round, name])
        }
        try db.execute(
          sql: "UPDATE participant SET status = 'declined' WHERE round = ? AND name = ?",
          arguments: [round, name]
        )
      }
      if discards { removeUnnamed(file) }
    }
  }

  /// The tensors of a stored update of a round that is not committed yet.
  public func update(round: Int, name: String) throws -> TensorSet {
    try SafetensorsFile.read(files.update(round: round, name: name), on: disk)
  }

  /// The metrics of a round by client.
  public func metrics(round: Int) throws -> [String: [String: Double]] {
    try read { db in
      var result: [String: [String: Double]] = [:]
      for row in try Row.fetchAll(
        db,
        sql: "SELECT name, metric, value FROM metric WHERE round = ?",
        arguments: [round]
      ) {
        result[row["name"], default: [:]][row["metric"]] = row["value"]
      }
      return result
    }
  }
}
