import FedLoRAProtocol

/// What a conductor says to clients.
extension RunConductor {
  func sendRound(to names: [String], round: Int, deadline: RunInstant) throws {
    var message = WireRound()
    message.runID = run.manifest.runID
    message.round = UInt64(round)
    message.deadlineSeconds = max(0, (deadline.sinceOrigin - outlet.now.sinceOrigin).inSeconds)
    let payload = try payload(of: round)
    for name in names { outlet.send(.stream(WireEnvelope(.round(message)), payload), to: name) }
  }

  /// The state that a round starts from, read and hashed once for all its clients.
  func payload(of round: Int) throws -> TensorPayload {
    if let payload, payload.round == round { return payload.payload }
    let made = TensorPayload(try records.state(afterRound: round - 1))
    payload = (round, made)
    return made
  }

  func acknowledge(_ name: String, round: Int, _ status: AckOutcome, _ reason: String) {
    var ack = WireAck()
    ack.runID = run.manifest.runID
    ack.round = UInt64(clamping: round)
    ack.reason = reason
    ack.status =
      switch status {
      case .accepted: .accepted
      case .duplicate: .duplicate
      case .late: .late
      case .refused: .refused
      }
    outlet.send(.message(WireEnvelope(.ack(ack))), to: name)
  }

  func dismiss(_ name: String, _ reason: String) {
    var goodbye = WireGoodbye()
    goodbye.runID = run.manifest.runID
    goodbye.outcome = .stopped
    goodbye.reason = reason
    outlet.send(.message(WireEnvelope(.goodbye(goodbye))), to: name)
    outlet.send(.end, to: name)
    unaware.remove(name)
  }

  func announceCommit(round: Int, to names: [String], updates: Int) {
    var commit = WireCommit()
    commit.runID = run.manifest.runID
    commit.round = UInt64(round)
    // How many were drawn is as secret as who.
    commit.updates = run.clientPrivacy == nil ? UInt32(clamping: updates) : 0
    for name in names { outlet.send(.message(WireEnvelope(.commit(commit))), to: name) }
  }

  func sendGoodbye(_ outcome: RunOutcome, to name: String) {
    var goodbye = WireGoodbye()
    goodbye.runID = run.manifest.runID
    switch outcome {
    case .completed, .budgetSpent:
      goodbye.outcome = .completed
      if case .budgetSpent(let reason) = outcome {
        goodbye.outcome = .stopped
        goodbye.reason = reason
      }
      if let payload = try? payload(of: state.committedRounds + 1) {
        outlet.send(.stream(WireEnvelope(.goodbye(goodbye)), payload), to: name)
      }
    case .failed(let reason):
      goodbye.outcome = .failed
      goodbye.reason = reason
      outlet.send(.message(WireEnvelope(.goodbye(goodbye))), to: name)
    case .stopped:
      // A stopped run can be resumed: its clients are let go, and come back.
      break
    }
    outlet.send(.end, to: name)
    if case .stopped = outcome {
    } else {
      // Nothing is owed to it any more, also after a restart.
      try? records.setRoster(name: name, isReady: false)
    }
    unaware.remove(name)
    if unaware.isEmpty { outlet.everybodyKnows() }
  }
}
