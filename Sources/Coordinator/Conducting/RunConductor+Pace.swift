import FedLoRAProtocol
import Foundation

/// Pace steering: how many idle clients stay connected, and when the others come back.
///
/// With `RoundPolicy.mostConnected` newcomers beyond that number are told to come back later and let go, unless the open
/// round waits for them. Who has contributed to a round makes room while others are turned away, so that all have their
/// turn. The times are spread, so that those who were turned away together do not come back together.
extension RunConductor {
  /// Whether a client that has just connected is to come back later.
  ///
  /// Who is connected and of no use to a round, because its budget is spent or the population was complete before, takes
  /// nobody's place.
  func isToComeLater(_ name: String, pendingRound: Int?) -> Bool {
    let most = run.policy.mostConnected
    let others = state.ready.count - (state.ready[name] == nil ? 0 : 1)
    guard most > 0, others >= most, pendingRound == nil, !state.expected.contains(name) else { return false }
    return !state.isAtWork(name)
  }

  /// Lets a client go that the run has not heard of, or has no use for now.
  func sendAwayForNow(_ name: String) {
    turnedAway += 1
    sendWait(name, retryAfter: pause(name))
  }

  /// Lets those go who have contributed, one for each that was turned away.
  func makeRoom(_ contributors: [String]) {
    guard run.policy.mostConnected > 0, turnedAway > 0 else { return }
    for name in contributors where turnedAway > 0 && connected.contains(name) && !state.isAtWork(name) {
      turnedAway -= 1
      sendWait(name, retryAfter: pause(name))
    }
  }

  /// Half of the deadline to one and a half of it, by name and round.
  private func pause(_ name: String) -> Double {
    var spread = SplitMix64(seed: run.manifest.seed)
    for byte in name.utf8 { spread.absorb(UInt64(byte)) }
    spread.absorb(UInt64(bitPattern: Int64(state.current.round)))
    let share = Double(spread.next() >> 11) / Double(1 << 53)
    return max(1, min(3600, run.policy.deadline.inSeconds) * (0.5 + share))
  }

  private func sendWait(_ name: String, retryAfter seconds: Double) {
    var wait = WireWait()
    wait.runID = run.manifest.runID
    wait.reason = "\(run.policy.mostConnected) clients are connected; come back later"
    wait.retryAfterSeconds = seconds
    outlet.send(.message(WireEnvelope(.wait(wait))), to: name)
    outlet.send(.end, to: name)
  }
}
