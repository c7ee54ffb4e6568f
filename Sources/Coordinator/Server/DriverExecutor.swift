import Dispatch

/// Runs the driver's jobs on a queue of its own, because they write to the disk and wait for it: the cooperative pool
/// must never wait.
final class DriverExecutor: SerialExecutor {
  private let queue = DispatchQueue(label: "fedlora.coordinator.driver")

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
  }
}
