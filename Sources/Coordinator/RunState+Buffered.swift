import FedLoRAFederation

/// Asynchronous runs: rounds that are filled by updates of any age (`BufferTerms`).
///
/// `clientsPerRound` clients are at work at the same time. Whoever is done makes room for another at once, who starts from the
/// newest state. A round is committed when its buffer is full; or with the quorum, when its deadline passes or nobody is at
/// work and nobody can be asked. Who is at work then goes on, and its update counts in a later round, less the staler it is;
/// beyond `mostStale` it is answered LATE, and its place is given away.
///
/// A client counts at most once in a round, and no state is given to it twice: so each update is known by client and
/// starting round, as in a synchronous run, and a client that comes back is sent what it was at work on.
///
/// Below the quorum a deadline is a failed attempt, as in a synchronous run; who was at work then keeps its assignment, but
/// no longer takes another's place.
extension RunState {
  /// Clients that may be asked now without passing `clientsPerRound`.
  var freePlaces: Int {
    let atWork = current.members.reduce(0) { count, member in
      count + (member.value == .training && !current.overdue.contains(member.key) ? 1 : 0)
    }
    let places = policy.clientsPerRound - atWork
    guard current.round == policy.rounds, let buffer = policy.buffer else { return max(0, places) }
    // In the last round nobody is asked for an update that would not count any more.
    return max(0, min(places, buffer.size - current.acceptedCount - atWork))
  }

  /// Asks others in the place of those who are done.
  mutating func refill(_ effects: inout [RunEffect]) {
    guard phase == .open, let deadline = current.deadline, case .seeded(let rule) = policy.draw else { return }
    let asked = CohortSelection.select(
      freePlaces,
      from: candidates,
      seed: seed,
      round: current.round,
      // One attempt asks often: each time by another draw.
      attempt: current.members.count << 20 | current.attempt,
      rule: rule,
      participations: participations
    )
    guard !asked.isEmpty else { return }
    for name in asked { assign(name, .training) }
    effects.append(.extendCohort(round: current.round, attempt: current.attempt, names: asked))
    effects.append(.sendRound(to: asked, round: current.round, attempt: current.attempt, deadline: deadline))
  }

  /// Commits the round if it is time to, or keeps everybody at work.
  mutating func goOn(isDeadline: Bool, _ now: RunInstant, _ effects: inout [RunEffect]) {
    guard let buffer = policy.buffer else { return }
    let hasQuorum = current.acceptedCount >= policy.quorum
    guard phase == .open else {
      // While waiting for another attempt a late update may complete the quorum.
      if phase == .waiting, current.attempt > 0, hasQuorum { commit(&effects) }
      return
    }
    if current.acceptedCount >= buffer.size || isDeadline && hasQuorum { return commit(&effects) }
    if isDeadline { return failAttempt(now, &effects) }
    refill(&effects)
    if current.trainingCount == 0, hasQuorum { commit(&effects) }
  }

  /// What would become of an update that started from the state of round `start`.
  func bufferedAdmission(name: String, start: Int, digest: String, _ buffer: BufferTerms) -> Admission {
    if start > current.round || start < 1 { return .answered(.refused, code: ReasonCode.futureRound) }
    func answerRepeated(_ known: String) -> Admission {
      known == digest
        ? .answered(.duplicate, code: ReasonCode.duplicate) : .answered(.refused, code: ReasonCode.conflict)
    }
    if let last = settled[name], last.start == start { return answerRepeated(last.digest) }
    let status = current.starts[name] == start ? current.members[name] : nil
    if case .accepted(_, let known)? = status { return answerRepeated(known) }
    if dismissed[name]?.isRemoval == true { return .answered(.refused, code: ReasonCode.removed) }
    guard status != nil else {
      if start == current.round { return .answered(.late, code: ReasonCode.notAssigned) }
      return .answered(.late, code: current.round - start > buffer.mostStale ? ReasonCode.stale : ReasonCode.late)
    }
    switch phase {
    case .waiting, .drawing, .open: return .wanted
    case .committing, .finished: return .answered(.late, code: ReasonCode.late)
    }
  }

  /// Whether a client's work goes over into the next round.
  func isUnfinished(_ name: String) -> Bool {
    guard let buffer = policy.buffer else { return false }
    switch current.members[name] {
    case .training?, .lost?: return current.round + 1 - startOfWork(name) <= buffer.mostStale
    default: return false
    }
  }

  /// Remembers what was committed, so that it is recognised when it comes again.
  mutating func settle(_ contributions: [Contribution]) {
    for contribution in contributions { settled[contribution.name] = contribution }
  }

  /// The next round, with everybody who is still at work.
  func carriedOver() -> OpenRound {
    let names = current.members.keys.filter(isUnfinished)
    var next = OpenRound(
      round: current.round + 1,
      members: current.members.filter { names.contains($0.key) }
    )
    next.starts = current.starts.filter { names.contains($0.key) }
    next.overdue = current.overdue.intersection(names)
    return next
  }

  /// Takes up an asynchronous run where its store left it.
  mutating func takeUp(_ recovered: RecoveredRun, _ buffer: BufferTerms) {
    current.starts = recovered.starts
    settle(recovered.settled)
    for (name, status) in current.members where status == .training || status == .lost {
      guard current.round - startOfWork(name) > buffer.mostStale else { continue }
      current.members[name] = nil
      current.starts[name] = nil
    }
  }
}
