import Synchronization

/// Tells a compute thread, which is no task, that its task was cancelled.
final class StopFlag: Sendable {
  private let raised = Atomic<Bool>(false)
  var isRaised: Bool { raised.load(ordering: .relaxed) }
  func raise() { raised.store(true, ordering: .relaxed) }
}
