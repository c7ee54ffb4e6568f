/// The life of a run as a pure value: events in, effects out. No socket, clock, file or source of randomness is inside.
///
/// **Phases.** A run waits for clients, has a round open, waits for a commit to become durable, or is finished. Where
/// the driver draws the cohorts, a run that waits for the draw is drawing.
///
///     waiting ──enough ready──▶ open ──all accounted for, or deadline, with quorum──▶ committing ──durable──▶ waiting
///        ▲                       │                                                                  (next round)
///        └──below quorum─────────┘  after `maxAttempts` failed attempts at one round: failed
///
/// **Starting.** Round 1 starts when `minClients` are ready, a later round when enough for the quorum are. The wait for a
/// first attempt has no end. The wait for a further attempt has: it is the attempt's deadline, and an attempt for which
/// nobody could be asked until then has failed.
///
/// **Attempts.** An attempt fails when everybody is accounted for, or the deadline passes, with fewer updates than the
/// quorum. What was accepted stays: it is acknowledged, hence durable, and nobody trains a round twice. The next
/// attempt asks as many others as `clientsPerRound` lacks updates. A client that is still training keeps its assignment
/// and is not asked again, so a round can end with more than `clientsPerRound` updates; one that declined the round or sent an invalid update is not asked again in this round. An update counts
/// if any attempt at the open round was given to its client.
///
/// **Returning.** A client of the open cohort that comes back is sent the round again, unless it holds a sealed update of
/// the round, which it sends instead, or its update was accepted.
///
/// **Durability.** `updateReceived` is applied after the store has the update durably; ask `admission` first, so that
/// nothing is stored for a closed round. In between the round may close: then the answer is LATE, and the stored update
/// is in no contribution list.
///
/// **Restart.** A cohort is drawn from the clients that are ready, so a coordinator that comes back must not draw before
/// they are back too: it would draw another cohort than the uninterrupted run. The roster of ready clients is kept
/// (`RunEffect.roster`), and after recovery no attempt starts until all of it is ready again, or one deadline has passed.
///
/// **Retiring.** A client that declines because its own privacy budget or its participations are spent is not asked again
/// in the run. When those who are left cannot make a quorum any more, the run fails at once.
///
/// **Secret cohorts** (`CohortDraw.secret`). Where clients are the unit of privacy, who is in a cohort is secret, decided
/// once for a round and for every client of the population alike. So the driver draws, over present and absent clients;
/// a round has one attempt; nobody is asked in the place of those who are away; and the round is committed when
/// everybody present is accounted for or the deadline has passed, with however few updates, also with none. The quorum
/// is only how many clients must be ready before the draw, so that an unattended run does not spend its budget. More
/// clients than the population are turned away.
///
/// **Over-selection** (`RoundPolicy.overSelected`). More clients are asked than the round needs, and it is committed with the
/// first `clientsPerRound` updates; who comes later is answered LATE. Which updates those are depends on time, so such a run
/// is not repeatable to the byte.
///
/// **Asynchronous runs** (`RoundPolicy.buffer`). Clients work at their own pace, `clientsPerRound` of them at the same time; see
/// `RunState+Buffered`.
///
/// **Slow lines** (`RoundPolicy.uploadGrace`). When the deadline passes while updates of the open round are arriving, it is
/// put off as long as they make progress, at most by the grace.
///
/// **Leaving.** The operator can drain a client, which then finishes the round that it is at work on, or remove it: its update
/// of the open round is taken out again. Neither is asked again in the run, also after a restart.
///
/// **Stopping.** A run can be stopped at once, which leaves the open round to be asked for again, or after the open
/// round. Neither is kept: a coordinator that is started again goes on.
///
/// **Bounds.** Memory is proportional to the clients, not to the rounds: only the open round and the contributions to
/// the last one are kept.
public struct RunState: Sendable, Equatable {
  /// What became of one client of the open round.
  public enum MemberStatus: Sendable, Equatable {
    /// The round was given to it, the update is awaited.
    case training
    /// Its session ended; it may come back.
    case lost
    /// It declined the round.
    case declined
    /// Its update was invalid.
    case refused
    /// Its update counts.
    case accepted(examples: Int, digest: String)
  }

  /// One round while it is open.
  public struct OpenRound: Sendable, Equatable {
    /// From 1.
    public let round: Int
    /// From 1; 0 before the first.
    public internal(set) var attempt: Int
    /// Everybody to whom any attempt at this round was given.
    public internal(set) var members: [String: MemberStatus]
    /// How often each reason code was met in this round.
    public internal(set) var counts: [String: Int]
    /// Until when the attempt, or the wait for one, lasts; nil before the first attempt.
    public internal(set) var deadline: RunInstant?
    /// Until when the deadline may be put off for updates that are arriving.
    var latestDeadline: RunInstant?
    /// In an asynchronous run: from which round's state each member started.
    var starts: [String: Int] = [:]
    /// In an asynchronous run: who was at work already when an attempt failed, and no longer takes another's place.
    var overdue: Set<String> = []

    init(round: Int, attempt: Int = 0, members: [String: MemberStatus] = [:]) {
      self.round = round
      self.attempt = attempt
      self.members = members
      counts = [:]
    }

    /// The accepted updates in ascending order of names.
    public var contributions: [Contribution] {
      members.compactMap { name, status in
        guard case .accepted(let examples, let digest) = status else { return nil }
        return Contribution(name: name, examples: examples, digest: digest, start: starts[name])
      }
      .sorted { CohortSelection.precedes($0.name, $1.name) }
    }

    var acceptedCount: Int {
      members.values.reduce(0) { if case .accepted = $1 { $0 + 1 } else { $0 } }
    }
    var trainingCount: Int { members.values.reduce(0) { $0 + ($1 == .training ? 1 : 0) } }
    /// Everybody to whom the round was given, in ascending order.
    public var cohort: [String] { members.keys.sorted(by: CohortSelection.precedes) }

    mutating func count(_ code: String) { counts[code, default: 0] += 1 }
  }

  /// Where the run stands.
  public enum Phase: Sendable, Equatable {
    /// Not enough clients are ready for the next attempt.
    case waiting
    /// The driver draws the cohort.
    case drawing
    /// An attempt is under way.
    case open
    /// The round's commit is under way.
    case committing
    /// Nothing more will happen.
    case finished(RunOutcome)
  }

  /// The run's settings.
  public let policy: RoundPolicy
  /// Seeds the choice of cohorts.
  public let seed: UInt64
  /// Where the run stands.
  public internal(set) var phase: Phase
  /// The round that is waited for, open or being committed.
  public internal(set) var current: OpenRound
  /// Clients that are connected and accepted the manifest, with their examples.
  public internal(set) var ready: [String: Int] = [:]
  /// After a restart: clients that were ready before it and are not back yet.
  public internal(set) var expected: Set<String> = []
  /// Every client that was ready at some time.
  public internal(set) var known: Set<String> = []
  /// Clients that are not asked again.
  public internal(set) var retired: Set<String> = []
  /// Those among them whom the operator sent away.
  public internal(set) var dismissed: [String: Dismissal] = [:]
  /// In how many rounds each client was asked, the open one included.
  public internal(set) var participations: [String: Int] = [:]
  /// Who contributed what to the last committed round.
  public internal(set) var lastContributions: [String: String]
  /// In an asynchronous run: what each client contributed last to a committed round.
  public internal(set) var settled: [String: Contribution] = [:]
  /// Why the run stops once the open round is committed; nil while it goes on.
  public internal(set) var stopsAfterRound: String?

  /// A run that has not begun.
  public init(policy: RoundPolicy, seed: UInt64) {
    self.policy = policy
    self.seed = seed
    phase = .waiting
    current = OpenRound(round: 1)
    lastContributions = [:]
  }

  /// A run as its store remembers it. Nobody is connected; who was training is expected back until the deadline, which
  /// `resume(now:)` arms anew.
  public init(policy: RoundPolicy, seed: UInt64, recovered: RecoveredRun) {
    self.policy = policy
    self.seed = seed
    lastContributions = Dictionary(
      recovered.lastContributions.map { ($0.name, $0.digest) },
      uniquingKeysWith: { first, _ in first }
    )
    expected = Set(recovered.roster).subtracting(recovered.retired)
    known = recovered.known
    retired = recovered.retired
    dismissed = recovered.dismissed
    participations = recovered.participations
    current = OpenRound(
      round: recovered.lastCommittedRound + 1,
      attempt: recovered.attempt,
      members: recovered.members
    )
    phase = .waiting
    if let buffer = policy.buffer { takeUp(recovered, buffer) }
    // A crash can fall between retiring and the record of why: nothing is awaited from a client that has retired.
    for name in retired
    where dismissed[name]?.isRemoval != false && (current.members[name] == .training || current.members[name] == .lost)
    {
      current.members[name] = .declined
    }
    if current.acceptedCount > 0 { current.counts[ReasonCode.accepted] = current.acceptedCount }
    if let outcome = recovered.outcome {
      phase = .finished(outcome)
    } else if recovered.lastCommittedRound >= policy.rounds {
      phase = .finished(.completed)
    } else {
      // An attempt that was given out and in which nobody is at work any more has failed: `resume` closes it, so that
      // the next one has the number, and hence the cohort, of an uninterrupted run.
      let isOpen =
        recovered.attemptWasGiven || current.trainingCount > 0 || current.acceptedCount >= policy.quorum
        || policy.draw.isSecret
      phase = recovered.attempt > 0 && isOpen ? .open : .waiting
    }
  }

  /// The number of committed rounds.
  public var committedRounds: Int { phase == .finished(.completed) ? policy.rounds : current.round - 1 }

  /// To be called once after recovery: arms the deadlines of the open attempt and of the wait for clients, and closes the
  /// attempt if nobody is awaited.
  public mutating func resume(now: RunInstant) -> [RunEffect] {
    if case .finished(let outcome) = phase { return [.finish(outcome)] }
    let deadline = now.advanced(by: policy.deadline)
    var effects: [RunEffect] = []
    if failIfTooFewAreLeft(&effects) { return effects }
    if !expected.isEmpty { effects.append(.armTimer(round: 0, attempt: 0, at: deadline)) }
    if current.attempt > 0 {
      current.deadline = deadline
      current.latestDeadline = deadline.advanced(by: policy.uploadGrace)
      effects.append(.armTimer(round: current.round, attempt: current.attempt, at: deadline))
      closeIfDone(isDeadline: false, now, &effects)
    }
    return effects
  }

  /// Whether an update is to be verified and stored, or how it is to be answered at once; changes nothing.
  public enum Admission: Sendable, Equatable {
    /// Verify it, store it, then apply `updateReceived` or `updateRefused`.
    case wanted
    /// Do not store it; apply `updateReceived` all the same, which counts it and gives this answer.
    case answered(AckOutcome, code: String)
  }

  /// What would become of this update now.
  public func admission(name: String, round: Int, digest: String) -> Admission {
    if round > current.round || round < 1 {
      return .answered(.refused, code: ReasonCode.futureRound)
    }
    if let buffer = policy.buffer { return bufferedAdmission(name: name, start: round, digest: digest, buffer) }
    if round == current.round {
      if dismissed[name]?.isRemoval == true { return .answered(.refused, code: ReasonCode.removed) }
      switch current.members[name] {
      case .accepted(_, let accepted)?:
        return accepted == digest
          ? .answered(.duplicate, code: ReasonCode.duplicate) : .answered(.refused, code: ReasonCode.conflict)
      case nil: return .answered(.late, code: ReasonCode.notAssigned)
      case .training?, .lost?, .declined?, .refused?:
        switch phase {
        case .waiting, .drawing, .open: return .wanted
        case .committing, .finished: return .answered(.late, code: ReasonCode.late)
        }
      }
    }
    if round == current.round - 1, lastContributions[name] == digest {
      return .answered(.duplicate, code: ReasonCode.duplicate)
    }
    return .answered(.late, code: ReasonCode.late)
  }
}
