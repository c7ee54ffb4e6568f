import FedLoRACoordinator
import FedLoRAProtocol

/// An outlet that says what is secret, on purpose.
final class LooseTongue: RunOutlet {
  private let fault: PlantedFault
  private let outlet: RunSwitchboard
  private var cohort: [String] = []

  init?(_ fault: PlantedFault, _ outlet: RunSwitchboard) {
    guard fault == .tellsCohort || fault == .tellsCohortSize else { return nil }
    self.fault = fault
    self.outlet = outlet
  }

  var now: RunInstant { outlet.now }
  var traffic: Traffic { outlet.traffic }
  var uploads: [String: Int] { outlet.uploads }

  func send(_ message: OutgoingMessage, to name: String) {
    guard case .message(var envelope) = message else { return outlet.send(message, to: name) }
    switch envelope.message {
    case .commit(var commit) where fault == .tellsCohortSize:
      commit.updates = UInt32(cohort.count)
      envelope = WireEnvelope(.commit(commit))
    case .wait(var wait) where fault == .tellsCohort:
      wait.reason += ": \(cohort.joined(separator: ", "))"
      envelope = WireEnvelope(.wait(wait))
    default: break
    }
    outlet.send(.message(envelope), to: name)
  }

  func arm(round: Int, attempt: Int, after delay: Duration) { outlet.arm(round: round, attempt: attempt, after: delay) }

  func report(_ event: CoordinatorEvent) {
    if case .roundOpened(_, _, let cohort) = event { self.cohort = cohort }
    outlet.report(event)
  }

  func ended(_ outcome: RunOutcome) { outlet.ended(outcome) }
  func everybodyKnows() { outlet.everybodyKnows() }
}
