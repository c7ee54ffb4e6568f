/// The events of a run, one case each.
extension RunState {
  /// Within this time an update that is arriving must make progress once the deadline has passed.
  static let uploadProgress = Duration.seconds(5)

  /// Takes one event and says what is to be done about it.
  public mutating func apply(_ event: RunEvent, now: RunInstant) -> [RunEffect] {
    var effects: [RunEffect] = []
    if case .finished(let outcome) = phase {
      answerAfterTheEnd(event, outcome, &effects)
      return effects
    }
    switch event {
    case .clientReady(let name, _, let pendingRound) where dismissed[name] != nil && isAtWork(name):
      // A drained client finishes its round, and is asked for no other.
      welcomeBack(name, pendingRound: pendingRound, &effects)
    case .clientReady(let name, let examples, let pendingRound):
      guard admit(name, &effects) else { break }
      if ready.updateValue(examples, forKey: name) == nil, expected.remove(name) == nil {
        effects.append(.roster(name: name, isReady: true))
      }
      welcomeBack(name, pendingRound: pendingRound, &effects)
      startIfPossible(now, &effects)
    case .clientTurnedAway(let name):
      let isNew = !known.contains(name)
      guard admit(name, &effects), isNew else { break }
      effects.append(.roster(name: name, isReady: false))
      startIfPossible(now, &effects)
    case .clientLost(let name):
      leaveRoster(name, &effects)
      if current.members[name] == .training, phase == .open || phase == .waiting {
        leave(name, .lost, code: ReasonCode.lost, reason: "the session ended", &effects)
        closeIfDone(isDeadline: false, now, &effects)
      }
    case .declined(let name, let round, let code, let reason):
      let isFinal = ReasonCode.final.contains(code)
      if isFinal { retire(name, code: code, &effects) }
      if round == 0 || isFinal { leaveRoster(name, &effects) }
      if round == startOfWork(name) || round == 0 || isFinal, phase == .open || phase == .waiting,
        current.members[name] == .training || current.members[name] == .lost
      {
        leave(name, .declined, code: ReasonCode.declined, reason: "\(code): \(reason)", &effects)
        if failIfTooFewAreLeft(&effects) { break }
        closeIfDone(isDeadline: false, now, &effects)
      } else {
        effects.append(.record(name: name, round: round, code: ReasonCode.declined, reason: "\(code): \(reason)"))
        failIfTooFewAreLeft(&effects)
      }
    case .updateReceived(let name, let round, let examples, let digest):
      receive(name, round: round, examples: examples, digest: digest, &effects)
      closeIfDone(isDeadline: false, now, &effects)
      startIfPossible(now, &effects)
    case .updateRefused(let name, let round, let code, let reason):
      current.count(code)
      effects.append(.record(name: name, round: round, code: code, reason: reason))
      effects.append(.ack(name: name, round: round, status: .refused, reason: "\(code): \(reason)"))
      if round == startOfWork(name), phase == .open || phase == .waiting,
        current.members[name] == .training || current.members[name] == .lost
      {
        current.members[name] = .refused
        closeIfDone(isDeadline: false, now, &effects)
      }
    case .deadlinePassed(round: 0, attempt: _):
      for name in expected.sorted(by: CohortSelection.precedes) {
        effects.append(.roster(name: name, isReady: false))
      }
      expected = []
      startIfPossible(now, &effects)
    case .deadlinePassed(let round, let attempt):
      guard round == current.round, attempt == current.attempt, let deadline = current.deadline else { break }
      guard now >= deadline else {
        // The timer of the wait for this attempt, or a timer that fired early.
        effects.append(.armTimer(round: round, attempt: attempt, at: deadline))
        break
      }
      if phase == .open {
        for name in current.cohort where current.members[name] == .training && !current.overdue.contains(name) {
          if policy.buffer != nil { current.overdue.insert(name) }
          current.count(ReasonCode.deadline)
          let reason = "no update before the deadline"
          effects.append(.record(name: name, round: startOfWork(name), code: ReasonCode.deadline, reason: reason))
        }
        closeIfDone(isDeadline: true, now, &effects)
      } else if phase == .waiting {
        failAttempt(now, &effects)
      }
    case .uploading(let round, let names):
      guard round == current.round, phase == .open, names.contains(where: { current.members[$0] == .training }),
        let deadline = current.deadline, let latest = current.latestDeadline, now >= deadline, now < latest
      else { break }
      // Looked at again soon: who stalls is a straggler after all.
      current.deadline = min(latest, now.advanced(by: RunState.uploadProgress))
    case .dismissed(let name, let reason, let discards):
      dismiss(name, reason: reason, discards: discards, now, &effects)
    case .cohortDrawn(let round, let cohort):
      guard phase == .drawing, round == current.round else { break }
      open(cohort, now, &effects)
    case .budgetSpent(let reason): finish(.budgetSpent(reason: reason), &effects)
    case .roundCommitted(let round):
      guard phase == .committing, round == current.round else { break }
      advance(now, &effects)
    case .storeFailed(let reason): finish(.stopped(reason: reason), &effects)
    case .commitFailed(let reason): finish(.failed(reason: reason), &effects)
    case .stop(let reason): finish(.stopped(reason: reason), &effects)
    case .stopAfterRound(let reason):
      stopsAfterRound = reason
      if phase == .waiting, current.attempt == 0 { finish(.stopped(reason: reason), &effects) }
    case .abort(let reason): finish(.failed(reason: reason), &effects)
    }
    return effects
  }

  /// After the end nothing changes, but whoever sends an update still gets an answer.
  private mutating func answerAfterTheEnd(_ event: RunEvent, _ outcome: RunOutcome, _ effects: inout [RunEffect]) {
    switch event {
    case .updateReceived(let name, let round, let examples, let digest):
      receive(name, round: round, examples: examples, digest: digest, &effects)
    case .updateRefused(let name, let round, let code, let reason):
      effects.append(.record(name: name, round: round, code: code, reason: reason))
      effects.append(.ack(name: name, round: round, status: .refused, reason: "\(code): \(reason)"))
    case .clientReady, .clientTurnedAway, .clientLost, .declined, .uploading, .dismissed, .cohortDrawn, .budgetSpent,
      .deadlinePassed,
      .roundCommitted, .storeFailed, .commitFailed, .stop, .stopAfterRound, .abort:
      break
    }
  }
}
