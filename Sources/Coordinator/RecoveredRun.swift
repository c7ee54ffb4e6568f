/// What a store remembers of a run, enough to go on.
public struct RecoveredRun: Sendable, Equatable {
  /// 0 before the first commit.
  public let lastCommittedRound: Int
  /// Who contributed to that round.
  public let lastContributions: [Contribution]
  /// The attempt at the next round that was open, or 0.
  public let attempt: Int
  /// The members of that round; who was at work on it counts as training.
  public let members: [String: RunState.MemberStatus]
  /// How the run ended, where it did.
  public let outcome: RunOutcome?
  /// The clients that were ready.
  public let roster: [String]

  /// States what was found.
  public init(
    lastCommittedRound: Int,
    lastContributions: [Contribution],
    attempt: Int,
    members: [String: RunState.MemberStatus],
    outcome: RunOutcome?,
    roster: [String] = []
  ) {
    self.lastCommittedRound = lastCommittedRound
    self.lastContributions = lastContributions
    self.attempt = attempt
    self.members = members
    self.outcome = outcome
    self.roster = roster
  }
}
