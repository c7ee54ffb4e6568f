/// Who is ready and who is at work, told from what a coordinator reports.
package struct Attendance: Sendable {
  /// Clients that are connected and accepted the terms.
  package private(set) var ready: Set<String> = []
  /// Clients whose update is awaited.
  package private(set) var atWork: Set<String>
  private var round: Int
  private let isAsynchronous: Bool

  /// - Parameters:
  ///   - atWork: who was at work on `round` when the process began.
  ///   - isAsynchronous: whether work goes over from one round into the next.
  package init(round: Int, atWork: Set<String>, isAsynchronous: Bool = false) {
    self.round = round
    self.atWork = atWork
    self.isAsynchronous = isAsynchronous
  }

  /// Whether something that is told of a round changes who is at work now.
  private func counts(_ round: Int) -> Bool { isAsynchronous || round == self.round }

  /// Takes what happened.
  package mutating func observe(_ event: CoordinatorEvent) {
    switch event {
    case .clientReady(let name, _): ready.insert(name)
    case .clientLost(let name, _):
      ready.remove(name)
      atWork.remove(name)
    case .roundOpened(let round, _, let cohort):
      if round != self.round, !isAsynchronous { atWork = [] }
      self.round = round
      atWork.formUnion(cohort)
    case .cohortExtended(_, let names): atWork.formUnion(names)
    case .updateAccepted(let round, let name, _) where counts(round),
      .updateRefused(let round, let name, _, _) where counts(round):
      atWork.remove(name)
    case .declined(let round, let name, let code, _)
    where counts(round) || round == 0 || ReasonCode.final.contains(code):
      atWork.remove(name)
    case .clientOutcome(let round, let name, let code, _) where counts(round):
      switch code {
      case ReasonCode.returned: atWork.insert(name)
      case ReasonCode.lost, ReasonCode.removed, ReasonCode.surplus: atWork.remove(name)
      default: break
      }
    case .roundCommitted: if !isAsynchronous { atWork = [] }
    // Who leaves afterwards is not told any more.
    case .finished: (ready, atWork) = ([], [])
    case .updateAccepted, .updateRefused, .declined, .clientOutcome, .refused, .notice, .aggregated: break
    }
  }
}
