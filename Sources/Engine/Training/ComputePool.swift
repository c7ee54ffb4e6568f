import Foundation
import Synchronization

/// A fixed set of threads for blocking compute, apart from Swift's cooperative pool and from event loops.
///
/// `perform` runs a job on the pool's first thread; inside it `forEachThread` calls all of them.
///
/// `@unchecked Sendable`: all mutable state is guarded by `condition`.
public final class ComputePool: @unchecked Sendable {
  /// Number of threads, at least 1.
  public let threadCount: Int

  private let condition = NSCondition()
  private var jobs: [@Sendable () -> Void] = []
  private var loop: Loop?
  private var generation = 0
  private var running = 0
  private var activeJobs = 0
  private var isStopped = false

  /// A loop body that has been handed to the helpers; `@unchecked Sendable` because `forEachThread` waits for them.
  private struct Loop: @unchecked Sendable {
    let body: (Int) -> Void
  }

  /// Starts `threadCount` threads.
  public init(threadCount: Int) {
    self.threadCount = max(1, threadCount)
    start(name: "fedlora-compute-0") { pool in pool.serveJobs() }
    for index in 1..<self.threadCount {
      start(name: "fedlora-compute-\(index)") { pool in pool.serveLoops(index) }
    }
  }

  /// Lets the threads end once their work is done.
  public func shutDown() {
    condition.lock()
    isStopped = true
    condition.broadcast()
    condition.unlock()
  }

  /// Runs `body` on the pool's first thread; jobs run one after the other in order of their arrival.
  public func perform<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      condition.lock()
      guard !isStopped else {
        condition.unlock()
        continuation.resume(throwing: CancellationError())
        return
      }
      jobs.append { continuation.resume(with: Result(catching: body)) }
      condition.broadcast()
      condition.unlock()
    }
  }

  /// Calls `body(0)` … `body(threadCount − 1)`, each on its own thread, and returns when all have returned.
  ///
  /// Must be called from inside `perform` (the caller's thread takes index 0), or from one thread at a time.
  public func forEachThread(_ body: @escaping (Int) -> Void) {
    guard threadCount > 1 else { return body(0) }
    condition.lock()
    loop = Loop(body: body)
    generation += 1
    running = threadCount - 1
    condition.broadcast()
    condition.unlock()
    body(0)
    condition.lock()
    while running > 0 { condition.wait() }
    loop = nil
    condition.unlock()
  }

  private func start(name: String, _ body: @escaping @Sendable (ComputePool) -> Void) {
    let thread = Thread { [self] in body(self) }
    thread.name = name
    thread.stackSize = 4 << 20
    thread.start()
  }

  private func serveJobs() {
    while true {
      condition.lock()
      while jobs.isEmpty && !isStopped { condition.wait() }
      guard !jobs.isEmpty else { return condition.unlock() }
      let job = jobs.removeFirst()
      activeJobs += 1
      condition.unlock()
      job()
      condition.lock()
      activeJobs -= 1
      condition.broadcast()
      condition.unlock()
    }
  }

  private func serveLoops(_ index: Int) {
    var seen = 0
    while true {
      condition.lock()
      // A job that still runs or waits may yet need every thread.
      while generation == seen && !(isStopped && jobs.isEmpty && activeJobs == 0) { condition.wait() }
      guard generation != seen, let current = loop else { return condition.unlock() }
      seen = generation
      condition.unlock()
      current.body(index)
      condition.lock()
      running -= 1
      if running == 0 { condition.broadcast() }
      condition.unlock()
    }
  }
}
