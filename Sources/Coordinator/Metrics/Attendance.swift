/// Who is ready and who is at work, told from what a coordinator reports.
package struct Attendance: Sendable {
  /// Clients that are connected and accepted the terms.
  package private(set) var ready: Set<String> = []
  /// Clients whose update is awaited.
  package private(set) var atWork: Set<String>
  private var round: Int

  /// - Parameter atWork: who was at work on `round` when the process began.
  package init(round: Int, atWork: Set<String>) {
    self.round = round
    self.atWork = atWork
  }

  /// Takes what happened.
  package mutating func observe(_ event: CoordinatorEvent) {
    switch event {
    case .clientReady(let name, _): ready.insert(name)
    case .clientLost(let name, _):
      ready.remove(name)
      atWork.remove(name)
    case .roundOpened(let round, _, let cohort):
      if round != self.round { atWork = [] }
      self.round = round
      atWork.formUnion(cohort)
    case .updateAccepted(let round, let name, _) where round == self.round,
      .updateRefused(let round, let name, _, _) where round == self.round:
      atWork.remove(name)
    case .declined(let round, let name, let code, _)
    where round == self.round || round == 0 || ReasonCode.final.contains(code):
      atWork.remove(name)
    case .clientOutcome(let round, let name, let code, _) where round == self.round:
      switch code {
      case ReasonCode.returned: atWork.insert(name)
      case ReasonCode.lost, ReasonCode.removed, ReasonCode.surplus: atWork.remove(name)
      default: break
      }
    case .roundCommitted: atWork = []
    // Who leaves afterwards is not told any more.
    case .finished: (ready, atWork) = ([], [])
    case .updateAccepted, .updateRefused, .declined, .clientOutcome, .refused, .notice, .aggregated: break
    }
  }
}
