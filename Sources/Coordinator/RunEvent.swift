/// A point on the driver's monotonic clock, counted from an origin that only the driver knows.
public struct RunInstant: Sendable, Equatable, Comparable, Hashable {
  /// Time since the origin.
  public let sinceOrigin: Duration

  /// A point this long after the origin.
  public init(sinceOrigin: Duration) { self.sinceOrigin = sinceOrigin }

  /// The point `duration` later.
  public func advanced(by duration: Duration) -> RunInstant { RunInstant(sinceOrigin: sinceOrigin + duration) }

  /// Earlier is less.
  public static func < (left: RunInstant, right: RunInstant) -> Bool { left.sinceOrigin < right.sinceOrigin }
}

/// What happens to a run from outside.
public enum RunEvent: Sendable, Equatable {
  /// A client accepted the manifest on a new session. `pendingRound` is the round of a sealed update that it is about to
  /// send again.
  case clientReady(name: String, examples: Int, pendingRound: Int?)
  /// A client accepted the manifest and was asked to come back later. It is one of the run's from now on.
  case clientTurnedAway(name: String)
  /// A client's last session ended. Not to be reported where a newer session of the same name lives.
  case clientLost(name: String)
  /// A client does not take part in this round or, with round 0, in this run.
  case declined(name: String, round: Int, code: String, reason: String)
  /// An update was verified, and is durable in the store.
  case updateReceived(name: String, round: Int, examples: Int, digest: String)
  /// An update was found invalid.
  case updateRefused(name: String, round: Int, code: String, reason: String)
  /// Updates of this round are arriving from these clients, and made progress since they were last reported. To be
  /// reported before a deadline.
  case uploading(round: Int, names: Set<String>)
  /// The operator sends a client away for good. With `discards` its update of the open round does not count either.
  case dismissed(name: String, reason: String, discards: Bool)
  /// The cohort that `RunEffect.drawCohort` asked for.
  case cohortDrawn(round: Int, cohort: [String])
  /// The run's own privacy budget does not allow another release.
  case budgetSpent(reason: String)
  /// A timer fired; round and attempt are those of `RunEffect.armTimer`.
  case deadlinePassed(round: Int, attempt: Int)
  /// What `RunEffect.commit` asked for is durable.
  case roundCommitted(round: Int)
  /// A read or write that an effect asked for failed: a full disk, say. What is durable stands, so the run stops and can
  /// be resumed once there is room.
  case storeFailed(reason: String)
  /// What `RunEffect.commit` asked for cannot be computed, now or later.
  case commitFailed(reason: String)
  /// The operator stops the coordinator at once; the run can be resumed, and asks for the open round again then.
  case stop(reason: String)
  /// The operator stops the coordinator once the open round is committed; the run can be resumed.
  case stopAfterRound(reason: String)
  /// The operator ends the run for good.
  case abort(reason: String)
}

/// What the driver is to do, in the order given.
public enum RunEffect: Sendable, Equatable {
  /// Draw the cohort of a round among these clients, in ascending order, and report `cohortDrawn`; or report
  /// `budgetSpent`. A draw that was not made durable was not used, and is made anew after a restart.
  case drawCohort(round: Int, from: [String])
  /// Make the attempt and its cohort durable; everything after it in the list waits for that.
  case openAttempt(round: Int, attempt: Int, cohort: [String])
  /// Make durable that the open attempt was given to these clients too; everything after it in the list waits for that.
  case extendCohort(round: Int, attempt: Int, names: [String])
  /// Send the state of the round to these clients. In an asynchronous run it may be of an earlier round than the open one.
  case sendRound(to: [String], round: Int, attempt: Int, deadline: RunInstant)
  /// Report `deadlinePassed(round, attempt)` at this time. Round 0 is the wait for clients after a restart.
  case armTimer(round: Int, attempt: Int, at: RunInstant)
  /// Tell a client what became of its update.
  case ack(name: String, round: Int, status: AckOutcome, reason: String)
  /// Keep whether a client is among those of which cohorts are drawn.
  case roster(name: String, isReady: Bool)
  /// Keep that this client is not asked again in the run, because its own budget is spent; `code` is its reason.
  case retire(name: String, code: String)
  /// Keep, in one step, that the operator sent this client away; with `discards` its update of this round is forgotten.
  case sendAway(name: String, round: Int, code: String, reason: String, discards: Bool)
  /// Tell a client that it takes part no more, and end its connection.
  case dismiss(name: String, reason: String)
  /// Keep for the audit what became of a client in a round.
  case record(name: String, round: Int, code: String, reason: String)
  /// Aggregate these updates, make the next state durable and commit the round in one transaction, then report
  /// `roundCommitted`. The contributions are in ascending order of names.
  case commit(round: Int, contributions: [Contribution], counts: [String: Int])
  /// Tell these clients that the round is committed.
  case announceCommit(round: Int, to: [String], updates: Int)
  /// The run is over, or stopped.
  case finish(RunOutcome)
}

/// What a client is told about its update.
public enum AckOutcome: String, Sendable, Equatable {
  /// Durable at the coordinator, and part of the round.
  case accepted
  /// The same update was accepted before.
  case duplicate
  /// The round is closed, or was never assigned to this client.
  case late
  /// The update is invalid.
  case refused
}

/// How a run ended.
public enum RunOutcome: Sendable, Equatable {
  /// Every round was committed.
  case completed
  /// It cannot go on.
  case failed(reason: String)
  /// It ended before its last round, because another one would pass the run's privacy budget. The state after the
  /// last committed round stands, and is sent.
  case budgetSpent(reason: String)
  /// It was stopped and can be resumed.
  case stopped(reason: String)

  /// Whether clients are owed the state after the last committed round.
  var sendsState: Bool {
    switch self {
    case .completed, .budgetSpent: true
    case .failed, .stopped: false
    }
  }
}

/// One update that counts in a round.
public struct Contribution: Sendable, Equatable {
  /// The client.
  public let name: String
  /// The examples that the client stated.
  public let examples: Int
  /// The digest of the update's bytes.
  public let digest: String
  /// In an asynchronous run, the round whose state the client started from; nil where that is the round in which it counts.
  public let start: Int?

  /// States who contributed what.
  public init(name: String, examples: Int, digest: String, start: Int? = nil) {
    self.name = name
    self.examples = examples
    self.digest = digest
    self.start = start
  }
}

/// Reason codes that the run itself gives; verification and clients add their own.
public enum ReasonCode {
  /// The session ended while the round was open.
  public static let lost = "lost"
  /// A client of the open round whose session had ended is back.
  public static let returned = "returned"
  /// No update came before the deadline.
  public static let deadline = "deadline"
  /// The client declined; its own code is in the record.
  public static let declined = "declined"
  /// The client declined because another round would pass its privacy budget: it is not asked again in the run.
  public static let budgetSpent = "budget-spent"
  /// The client declined because it took part in as many rounds as it agreed to: it is not asked again in the run.
  public static let participationsSpent = "participations-spent"
  /// The update started from a state that is too old to count.
  public static let stale = "stale"
  /// The round had enough updates before this client's came.
  public static let surplus = "surplus"
  /// The operator lets the client finish its round and asks it no more.
  public static let drained = "drained"
  /// The operator took the client, and its update of the open round, out of the run.
  public static let removed = "removed"
  /// The update counts.
  public static let accepted = "accepted"
  /// The same update came again.
  public static let duplicate = "duplicate"
  /// The update is of a round that is closed.
  public static let late = "late"
  /// The update is of the open round, which was not given to this client.
  public static let notAssigned = "not-assigned"
  /// The update is of a round that has not begun.
  public static let futureRound = "future-round"
  /// Another update of this client and round was accepted before.
  public static let conflict = "conflict"
  /// The client is not one of the population from which cohorts are drawn: it was complete before.
  public static let populationFull = "population-full"

  /// The reasons to decline a round that hold for every later round too.
  static let final: Set<String> = [budgetSpent, participationsSpent]

  /// The codes that are recorded with what became of a client. Every other code that is recorded says why an update was refused.
  static let own: Set<String> = [
    surplus, drained, removed, lost, returned, deadline, declined, accepted, duplicate, late, notAssigned, futureRound,
    conflict, populationFull, stale,
  ]
}
