import Synchronization

/// Tells a compute thread, which is no task, that its task was cancelled.
package final class StopFlag: Sendable {
  private let raised = Atomic<Bool>(false)
  package init() {}
  package var isRaised: Bool { raised.load(ordering: .relaxed) }
  /// - Throws: `CancellationError` once raised.
  package func check() throws { if isRaised { throw CancellationError() } }
  package func raise() { raised.store(true, ordering: .relaxed) }
}
