/// What becomes of the clients of a run and of their updates.
extension RunState {
  mutating func leaveRoster(_ name: String, _ effects: inout [RunEffect]) {
    let wasReady = ready.removeValue(forKey: name) != nil
    let wasExpected = expected.remove(name) != nil
    if wasReady || wasExpected { effects.append(.roster(name: name, isReady: false)) }
  }

  /// Whether a client that accepted the manifest is one of the run's.
  mutating func admit(_ name: String, _ effects: inout [RunEffect]) -> Bool {
    if retired.contains(name) {
      if let dismissal = dismissed[name] { effects.append(.dismiss(name: name, reason: dismissal.reason)) }
      return false
    }
    if case .secret(let population, _) = policy.draw, !known.contains(name), known.count >= population {
      effects.append(
        .record(
          name: name,
          round: current.round,
          code: ReasonCode.populationFull,
          reason: "the run draws from \(population) clients, and so many joined before"
        )
      )
      return false
    }
    known.insert(name)
    return true
  }

  /// The round that a client of the open round was given: the open one, but in asynchronous runs.
  func startOfWork(_ name: String) -> Int { current.starts[name] ?? current.round }

  func isAtWork(_ name: String) -> Bool {
    switch current.members[name] {
    case .training?, .lost?: phase == .open || phase == .waiting
    default: false
    }
  }

  mutating func retire(_ name: String, code: String, _ effects: inout [RunEffect]) {
    if retired.insert(name).inserted { effects.append(.retire(name: name, code: code)) }
  }

  /// Ends a run that has begun and of which so many clients have retired that the rest cannot make a quorum, whoever
  /// comes back.
  /// - Returns: whether it did.
  @discardableResult
  mutating func failIfTooFewAreLeft(_ effects: inout [RunEffect]) -> Bool {
    guard !retired.isEmpty, phase == .waiting || phase == .open else { return false }
    guard current.round > 1 || current.attempt > 0 else { return false }
    let accepted = Set(current.contributions.map(\.name))
    let left = known.filter { !retired.contains($0) || accepted.contains($0) }.count
    guard left < policy.quorum else { return false }
    finish(
      .failed(
        reason: "round \(current.round) needs \(policy.quorum) updates, but \(left) of \(known.union(retired).count) "
          + "clients are left; the others have spent their privacy budget or their participations, or were sent away"
      ),
      &effects
    )
    return true
  }

  /// The operator sends a client away.
  /// - Parameter discards: whether its update of the open round is taken out; else it may still finish that round.
  mutating func dismiss(_ name: String, reason: String, discards: Bool, _ now: RunInstant, _ effects: inout [RunEffect])
  {
    let code = discards ? ReasonCode.removed : ReasonCode.drained
    if let before = dismissed[name], before.isRemoval || !discards { return }
    let isOpen = phase == .open || phase == .waiting
    dismissed[name] = Dismissal(reason: reason, isRemoval: discards)
    retired.insert(name)
    effects.append(
      .sendAway(name: name, round: current.round, code: code, reason: reason, discards: discards && isOpen)
    )
    leaveRoster(name, &effects)
    switch current.members[name] {
    case .training? where isOpen && !discards, .lost? where isOpen && !discards, .accepted? where !discards:
      // It is let go with the commit of this round.
      return
    case .accepted? where isOpen, .training? where isOpen, .lost? where isOpen:
      current.members[name] = .declined
      current.count(code)
    default: break
    }
    effects.append(.dismiss(name: name, reason: reason))
    guard isOpen else { return }
    if failIfTooFewAreLeft(&effects) { return }
    closeIfDone(isDeadline: false, now, &effects)
  }

  mutating func welcomeBack(_ name: String, pendingRound: Int?, _ effects: inout [RunEffect]) {
    guard phase == .open || phase == .waiting, let status = current.members[name] else { return }
    guard status == .training || status == .lost else { return }
    let round = startOfWork(name)
    if status == .lost, phase == .open || pendingRound == round {
      effects.append(.record(name: name, round: round, code: ReasonCode.returned, reason: ""))
    }
    if pendingRound == round {
      current.members[name] = .training
    } else if phase == .open, let deadline = current.deadline {
      current.members[name] = .training
      effects.append(.sendRound(to: [name], round: round, attempt: current.attempt, deadline: deadline))
    }
    // In the wait for a further attempt it is a candidate like any other.
  }

  mutating func leave(
    _ name: String,
    _ status: MemberStatus,
    code: String,
    reason: String,
    _ effects: inout [RunEffect]
  ) {
    current.members[name] = status
    current.count(code)
    effects.append(.record(name: name, round: startOfWork(name), code: code, reason: reason))
  }

  mutating func receive(
    _ name: String,
    round: Int,
    examples: Int,
    digest: String,
    _ effects: inout [RunEffect]
  ) {
    switch admission(name: name, round: round, digest: digest) {
    case .wanted:
      current.members[name] = .accepted(examples: examples, digest: digest)
      current.count(ReasonCode.accepted)
      effects.append(.record(name: name, round: round, code: ReasonCode.accepted, reason: ""))
      effects.append(.ack(name: name, round: round, status: .accepted, reason: ""))
    case .answered(let outcome, let code):
      current.count(code)
      let reason = RunState.explanation(code, round: round, current: current.round)
      effects.append(.record(name: name, round: round, code: code, reason: reason))
      effects.append(.ack(name: name, round: round, status: outcome, reason: reason))
    }
  }

  static func explanation(_ code: String, round: Int, current: Int) -> String {
    switch code {
    case ReasonCode.duplicate: "this update was accepted before"
    case ReasonCode.conflict: "another update of round \(round) was accepted before"
    case ReasonCode.notAssigned: "round \(round) was not given to this client"
    case ReasonCode.removed: "the operator took this client out of the run"
    case ReasonCode.stale: "round \(round) is too far behind: the run is at round \(current)"
    case ReasonCode.futureRound: "round \(round) has not begun; the run is at round \(current)"
    default: "round \(round) is closed; the run is at round \(current)"
    }
  }
}
