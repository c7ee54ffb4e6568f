import FedLoRACheckpoint
import Foundation
import GRDB

extension RunStore {
  /// What is known of one round.
  public struct RoundRecord: Sendable, Equatable {
    /// From 1.
    public let number: Int
    /// The last attempt at it.
    public let attempt: Int
    /// How many updates it was made of; nil while it is open.
    public let updates: Int?
    /// How often each reason code was met; empty while it is open.
    public let counts: [String: Int]
  }

  /// One line of the audit.
  public struct AuditRecord: Sendable, Equatable {
    /// The round, 0 for the run as a whole.
    public let round: Int
    /// The client.
    public let name: String
    /// The reason code.
    public let code: String
    /// In words.
    public let reason: String
  }

  /// Keeps that an attempt was given to these clients. To be durable before anybody is sent the round.
  public func openAttempt(round: Int, attempt: Int, cohort: [String]) throws {
    try write { db in
      try db.execute(
        sql: """
          INSERT INTO round (number, attempt, openedAt) VALUES (?, ?, ?)
          ON CONFLICT (number) DO UPDATE SET attempt = excluded.attempt
          """,
        arguments: [round, attempt, now]
      )
      for name in cohort {
        try db.execute(
          sql: """
            INSERT INTO participant (round, name, attempt, status) VALUES (?, ?, ?, 'training')
            ON CONFLICT (round, name) DO UPDATE SET attempt = excluded.attempt, status = 'training'
            """,
          arguments: [round, name, attempt]
        )
      }
    }
  }

  /// Keeps whether a client is ready; see `RunEffect.roster`.
  public func setRoster(name: String, isReady: Bool) throws {
    try write { db in
      try db.execute(
        sql:
          "INSERT INTO client (name, isReady) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET isReady = excluded.isReady",
        arguments: [name, isReady]
      )
    }
  }

  /// Keeps that a client is not to be asked again; see `RunEffect.retire`.
  public func retire(name: String, code: String) throws {
    try write { db in
      try db.execute(
        sql: "INSERT OR IGNORE INTO retired (name, code, at) VALUES (?, ?, ?)",
        arguments: [name, code, now]
      )
    }
  }

  /// Keeps what became of a client in a round, for the audit and for recovery.
  public func record(name: String, round: Int, code: String, reason: String) throws {
    // The last of these decides how the client is seen after a restart; being late or repeating itself changes nothing.
    let status: String? =
      switch code {
      case ReasonCode.lost, ReasonCode.declined: code
      case ReasonCode.returned: "training"
      default: ReasonCode.own.contains(code) ? nil : "refused"
      }
    try write { db in
      try db.execute(
        sql: "INSERT INTO audit (at, round, name, code, reason) VALUES (?, ?, ?, ?, ?)",
        arguments: [now, round, name, code, reason]
      )
      if let status {
        try db.execute(
          sql: "UPDATE participant SET status = ? WHERE round = ? AND name = ?",
          arguments: [status, round, name]
        )
      }
    }
  }

  /// Commits a round: the next state becomes a durable file, then one transaction makes the round committed. The updates'
  /// files are removed afterwards. Committing the same round again changes nothing.
  /// - Parameter nextClippingNorm: the clipping norm of the next round, where it adapts.
  /// - Throws: `RunStoreError.roundOutOfTurn` when an earlier round is not committed.
  public func commit(
    round: Int,
    contributions: [Contribution],
    counts: [String: Int],
    state: TensorSet,
    nextClippingNorm: Double? = nil
  ) throws {
    let last = try lastCommittedRound()
    if round == last { return }
    guard round == last + 1 else { throw RunStoreError.roundOutOfTurn(found: round, expected: last + 1) }
    try SafetensorsFile.write(state, to: files.state(afterRound: round), metadata: ["round": String(round)], on: disk)
    let names = Set(contributions.map(\.name))
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let countsText = String(decoding: try encoder.encode(counts), as: UTF8.self)
    try write { db in
      let stored = try String.fetchAll(db, sql: "SELECT name FROM \"update\" WHERE round = ?", arguments: [round])
      guard names.isSubset(of: stored) else {
        throw RunStoreError.damaged(
          path: directory.path,
          reason: "round \(round) counts updates that were never stored"
        )
      }
      for name in stored where !names.contains(name) {
        try db.execute(sql: "DELETE FROM \"update\" WHERE round = ? AND name = ?", arguments: [round, name])
      }
      try db.execute(
        sql: "UPDATE round SET committedAt = ?, updates = ?, counts = ? WHERE number = ?",
        arguments: [now, contributions.count, countsText, round]
      )
      if let nextClippingNorm {
        try db.execute(
          sql: "INSERT OR REPLACE INTO clipping (afterRound, norm) VALUES (?, ?)",
          arguments: [round, nextClippingNorm]
        )
      }
    }
    removeUnnamed(files.updates(round: round))
  }

  /// Keeps how the run ended; a stopped run is not over and keeps nothing but a line in the audit.
  public func finish(_ outcome: RunOutcome) throws {
    let (word, reason) = outcome.words
    try record(name: "", round: 0, code: word, reason: reason)
    if case .stopped = outcome { return }
    try write { db in
      try db.execute(sql: "UPDATE run SET outcome = ?, reason = ?", arguments: [word, reason])
    }
  }

  /// The number of the last committed round, 0 before the first.
  public func lastCommittedRound() throws -> Int {
    try read { db in
      try Int.fetchOne(db, sql: "SELECT max(number) FROM round WHERE committedAt IS NOT NULL") ?? 0
    }
  }

  /// The state after a committed round; 0 is the start.
  public func state(afterRound round: Int) throws -> TensorSet {
    try SafetensorsFile.read(files.state(afterRound: round), on: disk)
  }

  /// Every round so far, in order.
  public func rounds() throws -> [RoundRecord] {
    try read { db in
      try Row.fetchAll(db, sql: "SELECT number, attempt, updates, counts FROM round ORDER BY number").map { row in
        let counts: String? = row["counts"]
        return RoundRecord(
          number: row["number"],
          attempt: row["attempt"],
          updates: row["updates"],
          counts: try counts.map { try JSONDecoder().decode([String: Int].self, from: Data($0.utf8)) } ?? [:]
        )
      }
    }
  }

  /// Everybody to whom a round was given, in ascending order of names.
  public func participants(round: Int) throws -> [String] {
    try read { db in
      try String.fetchAll(db, sql: "SELECT name FROM participant WHERE round = ? ORDER BY name", arguments: [round])
    }
  }

  /// The audit in the order of its events.
  public func audit() throws -> [AuditRecord] {
    try read { db in
      try Row.fetchAll(db, sql: "SELECT round, name, code, reason FROM audit ORDER BY id").map { row in
        AuditRecord(round: row["round"], name: row["name"], code: row["code"], reason: row["reason"])
      }
    }
  }
}
