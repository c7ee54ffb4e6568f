import FedLoRAProtocol

/// What the operator asks for on the local socket.
extension RunConductor {
  /// Hears a request and says what will come of it.
  func answer(_ request: OperatorRequest) -> OperatorReply {
    let status = liveStatus
    let why = request.reason.isEmpty ? "by the operator" : "by the operator: \(request.reason)"
    if outcome != nil { return OperatorReply(message: "the run is over", isAccepted: false, status: status) }
    switch request.verb {
    // What there is to reload is the server's, not the run's.
    case .status, .reload: return OperatorReply(message: "", status: status)
    case .stop:
      apply(.stopAfterRound(reason: "stopped \(why)"))
      return OperatorReply(
        message: outcome == nil
          ? "the run stops once round \(status.round) is committed" : "the run has stopped between rounds",
        status: status
      )
    case .drain, .remove:
      guard let name = request.client, state.known.contains(name) else {
        return OperatorReply(
          message: "no client '\(request.client ?? "")' ever joined this run; fedlora log shows who did",
          isAccepted: false,
          status: status
        )
      }
      let isRemoval = request.verb == .remove
      let wasAtWork = state.isAtWork(name)
      apply(.dismissed(name: name, reason: "\(isRemoval ? "removed" : "drained") \(why)", discards: isRemoval))
      let what =
        isRemoval
        ? "'\(name)' takes part no more, and its update of round \(status.round) does not count"
        : "'\(name)' is asked for no further round" + (wasAtWork ? "; it may finish round \(status.round)" : "")
      return OperatorReply(message: what, status: status)
    case .abort:
      apply(.abort(reason: "aborted \(why)"))
      return OperatorReply(message: "the run has ended for good", status: status)
    }
  }

  var liveStatus: LiveStatus {
    let phase =
      switch state.phase {
      case .waiting: "waiting"
      case .drawing: "drawing"
      case .open: "open"
      case .committing: "committing"
      case .finished: "finished"
      }
    return LiveStatus(
      phase: phase,
      round: state.current.round,
      attempt: state.current.attempt,
      ready: state.ready.keys.sorted(),
      members: state.current.members.mapValues { status in
        switch status {
        case .training: "training"
        case .lost: "lost"
        case .declined: "declined"
        case .refused: "refused"
        case .accepted: "accepted"
        }
      },
      deadlineSeconds: state.current.deadline.map { max(0, ($0.sinceOrigin - outlet.now.sinceOrigin).inSeconds) },
      isStopping: state.stopsAfterRound != nil,
      bytesSent: outlet.traffic.sent,
      bytesReceived: outlet.traffic.received
    )
  }
}
