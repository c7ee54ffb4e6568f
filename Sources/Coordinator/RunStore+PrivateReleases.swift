import GRDB

/// What must be durable about private releases.
///
/// **One version of a round.** The noised state of a round is made durable before anybody is sent it, and the next round
/// starts only then. A coordinator that is killed between the noise and the commit has sent nothing; after the restart it
/// folds the stored updates again, with fresh noise. As the first version may have reached the disk, both count: each is
/// charged before its noise is drawn, so after such a crash a round costs two releases. A charge is never taken back.
extension RunStore {
  /// Charges a release of this round, durably. To be called before its noise is drawn.
  public func chargeRelease(round: Int) throws {
    try write { db in
      try db.execute(sql: "INSERT INTO release (round, at) VALUES (?, ?)", arguments: [round, now])
    }
  }

  /// How many releases were charged over the whole run.
  public func chargedReleases() throws -> Int {
    try read { db in try Int.fetchOne(db, sql: "SELECT count(*) FROM release") ?? 0 }
  }

  /// The clipping norm of this round; nil where it is still that of the terms.
  public func clippingNorm(round: Int) throws -> Double? {
    try read { db in
      try Double.fetchOne(db, sql: "SELECT norm FROM clipping WHERE afterRound = ?", arguments: [round - 1])
    }
  }
}
