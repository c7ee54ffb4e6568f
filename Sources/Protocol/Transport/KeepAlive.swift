import NIOCore

/// When to ping and when to give a peer up: a value that knows neither socket nor clock.
///
/// A side that has sent nothing for `interval` sends a Ping, so that the other side hears it even while it reads
/// nothing itself; a side that has heard nothing for `interval` asks with a Ping. A peer is judged only while this side
/// reads: what waits unread in the socket may be its answer.
package struct KeepAlive {
  /// What has to be done now.
  package enum Action: Equatable {
    case wait(until: NIODeadline)
    case ping
    case giveUp
  }

  let interval: TimeAmount
  let timeout: TimeAmount
  private var lastSent: NIODeadline
  private var lastReceived: NIODeadline
  /// The last time at which this side pinged, sent or heard: nothing has to be asked for until `interval` later.
  private var lastPing: NIODeadline
  private var readingSince: NIODeadline?

  package init(interval: TimeAmount, timeout: TimeAmount, now: NIODeadline) {
    self.interval = interval
    self.timeout = timeout
    lastSent = now
    lastReceived = now
    lastPing = now
    readingSince = now
  }

  package mutating func sent(at now: NIODeadline) { lastSent = now }
  package mutating func received(at now: NIODeadline) { lastReceived = now }
  package mutating func pausedReading() { readingSince = nil }
  package mutating func resumedReading(at now: NIODeadline) { if readingSince == nil { readingSince = now } }

  /// Judges the peer. After `.ping` the caller sends one and asks again.
  package mutating func next(at now: NIODeadline) -> Action {
    var deadline = NIODeadline.distantFuture
    if let readingSince {
      let end = max(lastReceived, readingSince) + timeout
      if now >= end { return .giveUp }
      deadline = end
    }
    let quiet = min(lastSent, lastReceived) + interval
    let pingAt = max(quiet, lastPing + interval)
    if now >= pingAt {
      lastPing = now
      return .ping
    }
    return .wait(until: min(deadline, pingAt))
  }
}
