/// What a store remembers of a run, enough to go on.
public struct RecoveredRun: Sendable, Equatable {
  /// 0 before the first commit.
  public let lastCommittedRound: Int
  /// Who contributed to that round.
  public let lastContributions: [Contribution]
  /// The attempt at the next round that was open, or 0.
  public let attempt: Int
  /// In an asynchronous run: from which round's state each member started.
  public let starts: [String: Int]
  /// In an asynchronous run: what each client contributed last to a committed round.
  public let settled: [Contribution]
  /// Whether that attempt was given to anybody; otherwise it is a wait for clients.
  public let attemptWasGiven: Bool
  /// The members of that round; who was at work on it counts as training.
  public let members: [String: RunState.MemberStatus]
  /// How the run ended, where it did.
  public let outcome: RunOutcome?
  /// The clients that were ready.
  public let roster: [String]
  /// Every client that was ready at some time.
  public let known: Set<String>
  /// The clients that are not to be asked again.
  public let retired: Set<String>
  /// Those among them whom the operator sent away.
  public let dismissed: [String: Dismissal]
  /// In how many rounds each client was asked, the open one included.
  public let participations: [String: Int]

  /// States what was found.
  public init(
    lastCommittedRound: Int,
    lastContributions: [Contribution],
    attempt: Int,
    members: [String: RunState.MemberStatus],
    outcome: RunOutcome?,
    roster: [String] = [],
    known: Set<String> = [],
    retired: Set<String> = [],
    dismissed: [String: Dismissal] = [:],
    participations: [String: Int] = [:],
    attemptWasGiven: Bool = false,
    starts: [String: Int] = [:],
    settled: [Contribution] = []
  ) {
    self.lastCommittedRound = lastCommittedRound
    self.lastContributions = lastContributions
    self.attempt = attempt
    self.attemptWasGiven = attemptWasGiven
    self.starts = starts
    self.settled = settled
    self.members = members
    self.outcome = outcome
    self.roster = roster
    self.known = known.union(roster)
    self.retired = retired
    self.dismissed = dismissed
    self.participations = participations
  }
}

/// How the operator sent a client away.
public struct Dismissal: Sendable, Equatable {
  /// What the client is told.
  public let reason: String
  /// Whether nothing more of it counts; else it may finish the open round.
  public let isRemoval: Bool

  /// Takes both.
  public init(reason: String, isRemoval: Bool) {
    self.reason = reason
    self.isRemoval = isRemoval
  }
}
