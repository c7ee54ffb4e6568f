import Dispatch

/// Runs the driver's jobs on a queue of its own, because they write to the disk and wait for it: the cooperative pool
/// must never wait.
final class DriverExecutor: SerialExecutor {
  /// Jobs that were not begun.
  let backlog = Backlog()
  private let queue = DispatchQueue(label: "fedlora.coordinator.driver")

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    backlog.add(1)
    queue.async {
      self.backlog.add(-1)
      job.runSynchronously(on: self.asUnownedSerialExecutor())
    }
  }
}
