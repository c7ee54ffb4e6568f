import FedLoRAProtocol

/// Another outlet, which can be held: what is sent, armed and reported then waits until it is let go, or is dropped.
final class HeldOutlet: RunOutlet {
  private let outlet: any RunOutlet
  /// What waits, in order; nil while nothing is held.
  private var waiting: [(any RunOutlet) -> Void]?

  init(_ outlet: any RunOutlet) { self.outlet = outlet }

  /// From now on everything waits.
  func hold() { waiting = [] }

  /// Does what has waited, in order.
  func letGo() {
    let due = waiting ?? []
    waiting = nil
    for action in due { action(outlet) }
  }

  /// Forgets what has waited: it relies on what is not durable.
  func drop() { waiting = nil }

  private func act(_ action: @escaping (any RunOutlet) -> Void) {
    if waiting == nil { action(outlet) } else { waiting?.append(action) }
  }

  var now: RunInstant { outlet.now }
  var traffic: Traffic { outlet.traffic }
  var uploads: [String: Int] { outlet.uploads }
  func send(_ message: OutgoingMessage, to name: String) { act { $0.send(message, to: name) } }
  func arm(round: Int, attempt: Int, after delay: Duration) {
    act { $0.arm(round: round, attempt: attempt, after: delay) }
  }
  func report(_ event: CoordinatorEvent) { act { $0.report(event) } }
  func ended(_ outcome: RunOutcome) { act { $0.ended(outcome) } }
  func everybodyKnows() { act { $0.everybodyKnows() } }
}
