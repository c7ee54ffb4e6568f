/// Threads for the steps of one model at a time, apart from Swift's cooperative pool and from event loops.
///
/// `perform` runs a job, one after the other; inside it `forEachThread` spreads a loop. The number of parts of such a loop
/// is fixed, and with it the result; how many threads share them is not, where several pools share a crew.
public final class ComputePool: Sendable {
  /// Parts of a loop, at least 1: the most threads that work for one job.
  public let threadCount: Int

  /// Whether its threads are others' too: then one thread may often take all parts.
  var sharesThreads: Bool { !ownsCrew }

  private let crew: WorkCrew
  private let ownsCrew: Bool

  /// A pool with threads of its own.
  public init(threadCount: Int) {
    self.threadCount = max(1, threadCount)
    crew = WorkCrew(threads: self.threadCount, jobs: 1, name: "fl-compute")
    ownsCrew = true
  }

  /// A pool whose loops have `threadCount` parts, on threads that others use too. Its jobs are the crew's: as many at a time as
  /// that allows.
  public init(crew: WorkCrew, threadCount: Int) {
    self.threadCount = max(1, threadCount)
    self.crew = crew
    ownsCrew = false
  }

  deinit { if ownsCrew { crew.shutDown() } }

  /// Lets the threads end once their work is done; those of a shared crew stay.
  public func shutDown() { if ownsCrew { crew.shutDown() } }

  /// Runs `body` on one of the threads; jobs of a pool of its own run one after the other in order of their arrival.
  /// - Throws: `CancellationError` where the task is cancelled before its turn or the pool is shut down, and what `body` throws.
  public func perform<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await crew.perform(body)
  }

  /// Calls `body(0)` … `body(threadCount − 1)`, each once, and returns when all have returned. No two calls share a thread at a
  /// time; which thread takes which is left to chance.
  public func forEachThread(_ body: @escaping (Int) -> Void) { crew.forEach(threadCount, body) }
}
