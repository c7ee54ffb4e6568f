/// How attempts at a round start and end.
extension RunState {
  /// Connected clients that may be asked for the current round and are not at work on it.
  var candidates: [String] {
    ready.keys.filter { name in
      switch current.members[name] {
      case nil, .lost?: true
      case .training?, .declined?, .refused?, .accepted?: false
      }
    }
  }

  mutating func startIfPossible(_ now: RunInstant, _ effects: inout [RunEffect]) {
    if policy.buffer != nil, phase == .open { return refill(&effects) }
    // An asynchronous run depends on time in any case: its rounds do not wait for those who were ready before a restart.
    guard phase == .waiting, expected.isEmpty || policy.buffer != nil else { return }
    guard case .seeded(let rule) = policy.draw else { return askForDraw(&effects) }
    let candidates = self.candidates
    let isFirst = current.round == 1 && current.attempt == 0
    let possible = current.acceptedCount + current.trainingCount + candidates.count
    guard isFirst ? ready.count >= policy.minClients : possible >= policy.quorum else { return }
    // `failAttempt` has counted a further attempt already, since the wait for it is part of it.
    if current.attempt == 0 { current.attempt = 1 }
    phase = .open
    let deadline = now.advanced(by: policy.deadline)
    current.deadline = deadline
    current.latestDeadline = deadline.advanced(by: policy.uploadGrace)
    let asked = CohortSelection.select(
      policy.buffer == nil ? policy.clientsPerRound + policy.overSelected - current.acceptedCount : freePlaces,
      from: candidates,
      seed: seed,
      round: current.round,
      attempt: current.attempt,
      rule: rule,
      participations: participations
    )
    for name in asked { assign(name, .training) }
    effects.append(.openAttempt(round: current.round, attempt: current.attempt, cohort: asked))
    effects.append(.armTimer(round: current.round, attempt: current.attempt, at: deadline))
    if !asked.isEmpty {
      effects.append(.sendRound(to: asked, round: current.round, attempt: current.attempt, deadline: deadline))
    }
    closeIfDone(isDeadline: false, now, &effects)
  }

  /// Makes a client a member of the current round; its participations count rounds, not attempts.
  mutating func assign(_ name: String, _ status: MemberStatus) {
    if policy.buffer != nil {
      // Each start counts, and somebody who was lost starts anew.
      if current.starts.updateValue(current.round, forKey: name) != current.round {
        participations[name, default: 0] += 1
      }
      current.members[name] = status
      current.overdue.remove(name)
    } else if current.members.updateValue(status, forKey: name) == nil {
      participations[name, default: 0] += 1
    }
  }

  mutating func closeIfDone(isDeadline: Bool, _ now: RunInstant, _ effects: inout [RunEffect]) {
    if policy.buffer != nil { return goOn(isDeadline: isDeadline, now, &effects) }
    guard phase == .open, isDeadline || current.trainingCount == 0 || hasEnough else {
      // While waiting for another attempt a late update may complete the quorum.
      if phase == .waiting, current.attempt > 0, current.acceptedCount >= policy.quorum { commit(&effects) }
      return
    }
    if current.acceptedCount >= policy.quorum || policy.draw.isSecret {
      commit(&effects)
    } else {
      failAttempt(now, &effects)
    }
  }

  /// Whether the round is closed although others are still at work.
  private var hasEnough: Bool { policy.overSelected > 0 && current.acceptedCount >= policy.clientsPerRound }

  mutating func commit(_ effects: inout [RunEffect]) {
    phase = .committing
    current.deadline = nil
    current.latestDeadline = nil
    if hasEnough {
      for name in current.cohort where current.members[name] == .training {
        current.count(ReasonCode.surplus)
        let reason = "the round had its \(policy.clientsPerRound) updates"
        effects.append(.record(name: name, round: current.round, code: ReasonCode.surplus, reason: reason))
      }
    }
    effects.append(
      .commit(round: current.round, contributions: current.contributions, counts: current.counts)
    )
  }

  mutating func failAttempt(_ now: RunInstant, _ effects: inout [RunEffect]) {
    guard current.attempt < policy.maxAttempts else {
      let counts = current.counts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
      finish(
        .failed(
          reason: "round \(current.round) had \(current.acceptedCount) of \(policy.quorum) updates after "
            + "\(current.attempt) attempts (\(counts.isEmpty ? "nobody could be asked" : counts))"
        ),
        &effects
      )
      return
    }
    current.attempt += 1
    phase = .waiting
    startIfPossible(now, &effects)
    guard phase == .waiting else { return }
    let deadline = now.advanced(by: policy.deadline)
    current.deadline = deadline
    effects.append(.openAttempt(round: current.round, attempt: current.attempt, cohort: []))
    effects.append(.armTimer(round: current.round, attempt: current.attempt, at: deadline))
  }

  mutating func advance(_ now: RunInstant, _ effects: inout [RunEffect]) {
    let contributions = current.contributions
    effects.append(.announceCommit(round: current.round, to: current.cohort, updates: contributions.count))
    for name in current.cohort where policy.buffer == nil || !isUnfinished(name) {
      // They stayed for this round only.
      if let dismissal = dismissed[name], !dismissal.isRemoval {
        effects.append(.dismiss(name: name, reason: dismissal.reason))
      }
    }
    guard current.round < policy.rounds else {
      finish(.completed, &effects)
      return
    }
    lastContributions = Dictionary(
      contributions.map { ($0.name, $0.digest) },
      uniquingKeysWith: { first, _ in first }
    )
    if policy.buffer != nil {
      settle(contributions)
      current = carriedOver()
    } else {
      current = OpenRound(round: current.round + 1)
    }
    phase = .waiting
    if let stopsAfterRound { return finish(.stopped(reason: stopsAfterRound), &effects) }
    if failIfTooFewAreLeft(&effects) { return }
    startIfPossible(now, &effects)
  }

  mutating func finish(_ outcome: RunOutcome, _ effects: inout [RunEffect]) {
    phase = .finished(outcome)
    effects.append(.finish(outcome))
  }
}
