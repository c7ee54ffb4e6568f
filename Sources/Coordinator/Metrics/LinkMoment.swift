/// What a client's connection tells about its times.
package enum LinkMoment: Sendable, Equatable {
  /// A Round is written to the socket; it was queued so long ago.
  case roundSent(after: Duration)
  /// An Update was declared; its Round was written so long ago.
  case updateBegun(after: Duration)
  /// An Update arrived whole: since its declaration, and since its Round was written.
  case updateArrived(after: Duration, sinceRound: Duration?)
  /// An Ack is written to the socket; the Update had arrived so long ago.
  case acknowledged(after: Duration)
}

/// When the last steps of a client's round were, on one connection. A value that knows no clock.
package struct LinkTimes: Sendable {
  private struct SentRound: Sendable {
    let number: UInt64
    /// When the socket had it; nil until that was noticed.
    var at: Duration?
  }

  private var sent: SentRound?
  private var begun: Duration?
  /// Updates that were not answered yet, oldest first.
  private var arrived: [Duration] = []

  package init() {}

  /// A Round is about to be written.
  package mutating func roundBegins(_ number: UInt64) { sent = SentRound(number: number) }

  package mutating func roundSent(_ number: UInt64, queued: Duration, at now: Duration) -> LinkMoment {
    if sent?.number == number, sent?.at == nil { sent?.at = now }
    return .roundSent(after: now - queued)
  }

  /// - Returns: nil where the update belongs to another round than the last one that was sent here.
  package mutating func updateBegun(_ number: UInt64, at now: Duration) -> LinkMoment? {
    begun = now
    guard let round = sent, round.number == number else { return nil }
    // A client can answer before its Round is known to have left.
    let start = round.at ?? now
    sent?.at = start
    return .updateBegun(after: now - start)
  }

  /// - Parameter isWhole: whether it has its tensors; what was refused on its way is answered too.
  package mutating func updateArrived(_ number: UInt64, isWhole: Bool, at now: Duration) -> LinkMoment? {
    let since = sent?.number == number ? sent?.at : nil
    defer {
      begun = nil
      if since != nil { sent = nil }
    }
    // One that never comes to an end of its answers is not kept account of.
    if arrived.count < ClientLink.longestQueue { arrived.append(now) }
    guard isWhole, let begun else { return nil }
    return .updateArrived(after: now - begun, sinceRound: since.map { now - $0 })
  }

  package mutating func acknowledged(at now: Duration) -> LinkMoment? {
    arrived.isEmpty ? nil : .acknowledged(after: now - arrived.removeFirst())
  }
}
