import FedLoRACheckpoint
import Foundation
import GRDB

extension RunStore {
  /// What is needed to go on after a restart. Who was at work counts as training; who has a durable update counts as
  /// accepted, whether or not it was told so.
  /// - Parameter isBuffered: whether work goes over from one round into the next (`RoundPolicy.buffer`).
  /// - Throws: `RunStoreError.damaged` when a file that must be there is missing, or is no safetensors file.
  public func recover(isBuffered: Bool = false) throws -> RecoveredRun {
    let recovered = try read { db in
      let last = try Int.fetchOne(db, sql: "SELECT max(number) FROM round WHERE committedAt IS NOT NULL") ?? 0
      let next = last + 1
      var members: [String: RunState.MemberStatus] = [:]
      var starts: [String: Int] = [:]
      for row in try isBuffered ? RunStore.unfinished(db, round: next) : RunStore.asked(db, round: next) {
        let name: String = row["name"]
        if isBuffered { starts[name] = row["round"] }
        members[name] =
          switch row["status"] as String {
          case "lost": .lost
          case "declined": .declined
          case "refused": .refused
          default: .training
          }
      }
      for update in try RunStore.contributions(db, round: next) {
        members[update.name] = .accepted(examples: update.examples, digest: update.digest)
        starts[update.name] = update.start
      }
      let attempt = try Int.fetchOne(db, sql: "SELECT attempt FROM round WHERE number = ?", arguments: [next]) ?? 0
      return RecoveredRun(
        lastCommittedRound: last,
        lastContributions: try RunStore.contributions(db, round: last),
        attempt: attempt,
        members: members,
        outcome: try RunStore.outcome(db),
        roster: try String.fetchAll(db, sql: "SELECT name FROM client WHERE isReady ORDER BY name"),
        known: try String.fetchSet(db, sql: "SELECT name FROM client"),
        retired: try String.fetchSet(db, sql: "SELECT name FROM retired"),
        dismissed: try RunStore.dismissed(db),
        participations: Dictionary(
          uniqueKeysWithValues: try Row.fetchAll(db, sql: "SELECT name, count(*) FROM participant GROUP BY name")
            .map { ($0[0], $0[1]) }
        ),
        attemptWasGiven: try Row.fetchOne(
          db,
          sql: "SELECT 1 FROM participant WHERE round = ? AND attempt = ?",
          arguments: [next, attempt]
        ) != nil,
        starts: starts,
        settled: isBuffered ? try RunStore.lastContributions(db, until: last) : []
      )
    }
    try requireFile(files.state(afterRound: recovered.lastCommittedRound))
    for (name, status) in recovered.members {
      guard case .accepted = status else { continue }
      try requireFile(files.update(round: recovered.lastCommittedRound + 1, name: name))
    }
    return recovered
  }

  private static func asked(_ db: Database, round: Int) throws -> [Row] {
    try Row.fetchAll(db, sql: "SELECT name, round, status FROM participant WHERE round = ?", arguments: [round])
  }

  /// The newest start of each client of an asynchronous run, where it is of this round, or was never finished.
  private static func unfinished(_ db: Database, round: Int) throws -> [Row] {
    try Row.fetchAll(
      db,
      sql: """
        SELECT name, last AS round, status FROM
          (SELECT name, status, max(round) AS last FROM participant GROUP BY name) AS newest
        WHERE (last = ? OR status IN ('training', 'lost'))
          AND NOT EXISTS (
            SELECT 1 FROM "update" WHERE "update".name = newest.name AND "update".start = newest.last
          )
        """,
      arguments: [round]
    )
  }

  private static func contributions(_ db: Database, round: Int) throws -> [Contribution] {
    try Row.fetchAll(
      db,
      sql: "SELECT name, examples, digest, start FROM \"update\" WHERE round = ? ORDER BY name",
      arguments: [round]
    ).map(RunStore.contribution)
  }

  /// What each client contributed last to the rounds until this one.
  private static func lastContributions(_ db: Database, until round: Int) throws -> [Contribution] {
    try Row.fetchAll(
      db,
      sql: "SELECT name, examples, digest, start, max(round) FROM \"update\" WHERE round <= ? GROUP BY name",
      arguments: [round]
    ).map(RunStore.contribution)
  }

  private static func contribution(_ row: Row) -> Contribution {
    Contribution(name: row["name"], examples: row["examples"], digest: row["digest"], start: row["start"])
  }

  /// Whom the operator sent away; why, the audit's last word on it says.
  private static func dismissed(_ db: Database) throws -> [String: Dismissal] {
    let rows = try Row.fetchAll(
      db,
      sql: """
        SELECT retired.name, retired.code, audit.reason FROM retired
        JOIN audit ON audit.name = retired.name AND audit.code = retired.code
        WHERE retired.code IN (?, ?) ORDER BY audit.id
        """,
      arguments: [ReasonCode.drained, ReasonCode.removed]
    )
    return Dictionary(
      rows.map { row in
        let dismissal = Dismissal(reason: row["reason"], isRemoval: row["code"] == ReasonCode.removed)
        return (row["name"], dismissal)
      },
      uniquingKeysWith: { $1 }
    )
  }

  private static func outcome(_ db: Database) throws -> RunOutcome? {
    guard let row = try Row.fetchOne(db, sql: "SELECT outcome, reason FROM run") else { return nil }
    return switch row["outcome"] as String? {
    case "completed": .completed
    case "failed": .failed(reason: row["reason"])
    case "budget-spent": .budgetSpent(reason: row["reason"])
    default: nil
    }
  }

  private func requireFile(_ url: URL) throws {
    guard disk.exists(url) else {
      throw RunStoreError.damaged(path: directory.path, reason: "\(url.path) is missing")
    }
    do { _ = try SafetensorsFile(opening: url, on: disk) } catch let error as SafetensorsError {
      throw RunStoreError.damaged(path: directory.path, reason: "\(error)")
    }
  }
}
