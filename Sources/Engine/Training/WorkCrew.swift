import Foundation

/// Threads for work that blocks or computes, apart from Swift's cooperative pool and from event loops.
///
/// Jobs wait in a `WorkQueue` and go from one to the next on the threads themselves: no task has to be scheduled in between.
/// A thread that finds no job joins loops that others run (`forEach`), until a job comes. Threads are started when they are
/// first needed.
///
/// `@unchecked Sendable`: all mutable state is guarded by `condition`.
public final class WorkCrew: @unchecked Sendable {
  /// Most threads.
  public let threadLimit: Int
  /// Most jobs at a time; the other threads can only help.
  public let jobLimit: Int

  private let name: String
  private let log: ComputeLog?
  private let condition = NSCondition()
  private var waiting = WorkQueue<Job>()
  private var loops: [Loop] = []
  /// Kept, so that a loop asks for no memory.
  private var spareLoops: [Loop] = []
  private static let nothing: @Sendable (Int) -> Void = { _ in }
  private var started = 0
  private var idle = 0
  private var activeJobs = 0
  private var isStopped = false

  private struct Job: Sendable {
    let run: @Sendable () -> Void
    let cancel: @Sendable () -> Void
  }

  /// A loop of independent parts, which any thread may take; guarded by `condition` but for `body`.
  private final class Loop {
    var count = 0
    var body: (Int) -> Void = { _ in }
    var next = 0
    /// Parts that others than the loop's own thread are working on.
    var helped = 0
  }

  /// A job's place in the queue; guarded by `condition`.
  private final class Place: @unchecked Sendable {
    var number: WorkQueue<Job>.Number?
    var isWithdrawn = false
  }

  /// A crew of at most `threads`, at least 1.
  /// - Parameter jobs: most jobs at a time; nil allows one a thread.
  public convenience init(threads: Int, jobs: Int? = nil, name: String) {
    self.init(threads: threads, jobs: jobs, name: name, log: nil)
  }

  /// As above, with a log of when its threads help others.
  package init(threads: Int, jobs: Int?, name: String, log: ComputeLog?) {
    threadLimit = max(1, threads)
    jobLimit = max(1, min(jobs ?? threads, threads))
    self.name = name
    self.log = log
  }

  /// Jobs that wait for a thread.
  package var waitingJobs: Int {
    condition.lock()
    defer { condition.unlock() }
    return waiting.count
  }

  /// Lets the threads end once the jobs that wait are done; jobs that come later are refused.
  public func shutDown() {
    condition.lock()
    isStopped = true
    condition.broadcast()
    condition.unlock()
  }

  /// Runs `body` on one of the threads.
  /// - Parameters:
  ///   - work: how long it takes beside other jobs, in any unit: the longest that waits goes first.
  ///   - isCancellable: whether it is never run where the task is cancelled while it waits.
  /// - Throws: `CancellationError`, also after `shutDown`, and what `body` throws.
  public func perform<T: Sendable>(
    work: Double = 0,
    isCancellable: Bool = true,
    _ body: @escaping @Sendable () throws -> T
  ) async throws -> T {
    let place = Place()
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let job = Job(
          run: { continuation.resume(with: Result(catching: body)) },
          cancel: { continuation.resume(throwing: CancellationError()) }
        )
        condition.lock()
        guard !isStopped, !place.isWithdrawn else {
          condition.unlock()
          return job.cancel()
        }
        place.number = waiting.insert(job, work: work)
        callUp()
        condition.unlock()
      }
    } onCancel: {
      guard isCancellable else { return }
      condition.lock()
      place.isWithdrawn = true
      let job = place.number.flatMap { waiting.remove($0) }
      condition.unlock()
      job?.cancel()
    }
  }

  /// Calls `body(0)` … `body(count − 1)`, each once, and returns when all have returned. The calling thread takes one part after
  /// the other; threads without a job take some of them. Which thread takes which part is left to chance.
  public func forEach(_ count: Int, _ body: @escaping (Int) -> Void) {
    guard count > 1, threadLimit > 1 else {
      for part in 0..<max(0, count) { body(part) }
      return
    }
    condition.lock()
    let loop = spareLoops.popLast() ?? Loop()
    (loop.count, loop.body, loop.next) = (count, body, 0)
    loops.append(loop)
    callUp()
    while loop.next < count {
      let part = loop.next
      loop.next += 1
      condition.unlock()
      body(part)
      condition.lock()
    }
    while loop.helped > 0 { condition.wait() }
    if let index = loops.firstIndex(where: { $0 === loop }) { loops.remove(at: index) }
    loop.body = WorkCrew.nothing
    spareLoops.append(loop)
    condition.unlock()
  }

  /// Wakes threads that have nothing to do, and starts some where there are too few of them.
  private func callUp() {
    if idle > 0 { condition.broadcast() }
    let jobs = min(waiting.count, jobLimit - activeJobs)
    let parts = loops.reduce(0) { $0 + $1.count - $1.next }
    // The loop's own thread takes one of its parts.
    for _ in 0..<max(0, min(jobs + max(0, parts - 1) - idle, threadLimit - started)) {
      let thread = Thread { [self] in serve() }
      thread.name = "\(name)-\(started)"
      thread.stackSize = 4 << 20
      thread.start()
      started += 1
    }
  }

  private func serve() {
    condition.lock()
    while true {
      if activeJobs < jobLimit, let job = waiting.next() {
        activeJobs += 1
        condition.unlock()
        job.run()
        condition.lock()
        activeJobs -= 1
        // Others may wait for the last job's end.
        if isStopped { condition.broadcast() }
      } else if let loop = loops.first(where: { $0.next < $0.count }) {
        let part = loop.next
        loop.next += 1
        loop.helped += 1
        condition.unlock()
        if let log { log.note(.help) { loop.body(part) } } else { loop.body(part) }
        condition.lock()
        loop.helped -= 1
        if loop.helped == 0, loop.next >= loop.count { condition.broadcast() }
      } else if isStopped, activeJobs == 0 {
        // A job that still runs may yet need every thread.
        started -= 1
        condition.broadcast()
        return condition.unlock()
      } else {
        idle += 1
        condition.wait()
        idle -= 1
      }
    }
  }
}
