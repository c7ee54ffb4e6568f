/// How long the phases of rounds take, told from what a coordinator reports. A value that knows no clock.
package struct RoundTimes: Sendable {
  /// A part of a round. The last three make up the round.
  package enum Phase: String, Sendable, CaseIterable {
    /// From the last commit, or the start, to the first attempt.
    case waiting
    /// From the first attempt until there are updates enough.
    case collecting
    /// Updates become one.
    case aggregating
    /// The result becomes durable.
    case committing
  }

  /// A span that has come to its end.
  package enum Observation: Sendable, Equatable {
    case phase(Phase, Duration)
    case round(Duration)
  }

  /// A round that was open when the process began, of which no whole span is known.
  private let foundOpen: Int?
  private var idleSince: Duration?
  private var opened: (round: Int, at: Duration)?
  private var aggregatedAt: Duration?

  /// - Parameters:
  ///   - openRound: the round that was open already.
  ///   - now: time since any origin.
  package init(openRound: Int?, at now: Duration) {
    foundOpen = openRound
    idleSince = openRound == nil ? now : nil
  }

  /// What follows from an event at this time.
  /// - Parameter since: when what is reported now was begun to be taken up, where that was earlier: it is reported once it is
  ///   durable.
  package mutating func observe(_ event: CoordinatorEvent, at now: Duration, since: Duration? = nil) -> [Observation] {
    switch event {
    case .roundOpened(let round, _, _):
      // Further attempts belong to the same round.
      guard round != foundOpen, opened?.round != round else { return [] }
      opened = (round, now)
      defer { idleSince = nil }
      return idleSince.map { [.phase(.waiting, now - $0)] } ?? []
    case .aggregated(_, _, _, _, _, let seconds):
      let took = Duration.seconds(seconds)
      aggregatedAt = since.map { min(now, $0 + took) } ?? now
      let begun = since ?? now - took
      let collecting = opened.map { Observation.phase(.collecting, max(.zero, begun - $0.at)) }
      return [collecting, .phase(.aggregating, took)].compactMap(\.self)
    case .roundCommitted:
      let committing = aggregatedAt.map { Observation.phase(.committing, now - $0) }
      let whole = opened.map { Observation.round(now - $0.at) }
      (opened, aggregatedAt, idleSince) = (nil, nil, now)
      return [committing, whole].compactMap(\.self)
    default: return []
    }
  }
}
