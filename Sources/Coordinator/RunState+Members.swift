/// What becomes of the clients of a run and of their updates.
extension RunState {
  mutating func leaveRoster(_ name: String, _ effects: inout [RunEffect]) {
    let wasReady = ready.removeValue(forKey: name) != nil
    let wasExpected = expected.remove(name) != nil
    if wasReady || wasExpected { effects.append(.roster(name: name, isReady: false)) }
  }

  mutating func welcomeBack(_ name: String, pendingRound: Int?, _ effects: inout [RunEffect]) {
    guard phase == .open || phase == .waiting, let status = current.members[name] else { return }
    guard status == .training || status == .lost else { return }
    if status == .lost, phase == .open || pendingRound == current.round {
      effects.append(.record(name: name, round: current.round, code: ReasonCode.returned, reason: ""))
    }
    if pendingRound == current.round {
      current.members[name] = .training
    } else if phase == .open, let deadline = current.deadline {
      current.members[name] = .training
      effects.append(.sendRound(to: [name], round: current.round, attempt: current.attempt, deadline: deadline))
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
    effects.append(.record(name: name, round: current.round, code: code, reason: reason))
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
    case ReasonCode.futureRound: "round \(round) has not begun; the run is at round \(current)"
    default: "round \(round) is closed; the run is at round \(current)"
    }
  }
}
