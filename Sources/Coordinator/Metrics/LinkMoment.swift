import Synchronization

/// What a client's connection tells about its times; `after` counts from the moment before.
enum LinkMoment: Sendable {
  /// A Round is written to the socket; it was queued so long ago.
  case roundSent(after: Duration)
  /// An Update was declared; the Round was written so long ago.
  case updateBegun(after: Duration)
  /// An Update arrived whole: since its declaration, and since the Round was written.
  case updateArrived(after: Duration, sinceRound: Duration?)
  /// An Ack is written to the socket; the Update had arrived so long ago.
  case acknowledged(after: Duration)
}

/// When the last steps of a client's round were, on one connection. A value that knows no clock.
struct LinkTimes: Sendable {
  private var sent: Duration?
  private var begun: Duration?
  /// Updates that were not answered yet, oldest first.
  private var arrived: [Duration] = []

  mutating func roundSent(queued: Duration, at now: Duration) -> LinkMoment {
    sent = now
    return .roundSent(after: now - queued)
  }

  mutating func updateBegun(at now: Duration) -> LinkMoment? {
    begun = now
    return sent.map { .updateBegun(after: now - $0) }
  }

  /// - Parameter isWhole: whether it has its tensors; what was refused on its way is answered too.
  mutating func updateArrived(isWhole: Bool, at now: Duration) -> LinkMoment? {
    defer {
      begun = nil
      if isWhole { sent = nil }
    }
    // One that never comes to an end of its answers is not kept account of.
    if arrived.count < ClientLink.longestQueue { arrived.append(now) }
    guard isWhole, let begun else { return nil }
    return .updateArrived(after: now - begun, sinceRound: sent.map { now - $0 })
  }

  mutating func acknowledged(at now: Duration) -> LinkMoment? {
    arrived.isEmpty ? nil : .acknowledged(after: now - arrived.removeFirst())
  }
}
