/// Rounds whose cohort only the driver can draw; see "Secret cohorts" at `RunState`.
extension RunState {
  /// Whether enough clients are here is public and known before the draw, so it tells nothing about the draw.
  mutating func askForDraw(_ effects: inout [RunEffect]) {
    guard case .secret(let population, let needsAll) = policy.draw else { return }
    guard ready.count >= (current.round == 1 ? policy.minClients : policy.quorum) else { return }
    guard !needsAll || known.count == population else { return }
    phase = .drawing
    effects.append(.drawCohort(round: current.round, from: known.sorted(by: CohortSelection.precedes)))
  }

  /// Opens the round's only attempt. Members that are away count as lost: they are sent the round if they come back
  /// before it closes.
  mutating func open(_ cohort: [String], _ now: RunInstant, _ effects: inout [RunEffect]) {
    phase = .open
    current.attempt = 1
    let deadline = now.advanced(by: policy.deadline)
    current.deadline = deadline
    current.latestDeadline = deadline.advanced(by: policy.uploadGrace)
    let cohort = cohort.filter(known.contains).sorted(by: CohortSelection.precedes)
    let present = cohort.filter { ready[$0] != nil }
    for name in cohort { assign(name, ready[name] == nil ? .lost : .training) }
    effects.append(.openAttempt(round: current.round, attempt: 1, cohort: cohort))
    effects.append(.armTimer(round: current.round, attempt: 1, at: deadline))
    if !present.isEmpty {
      effects.append(.sendRound(to: present, round: current.round, attempt: 1, deadline: deadline))
    }
    closeIfDone(isDeadline: false, now, &effects)
  }
}
