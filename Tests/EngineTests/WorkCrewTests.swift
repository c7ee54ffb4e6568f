import FedLoRAEngine
import Foundation
import Testing

@Suite("A queue of work")
struct WorkQueueTests {
  @Test("gives out the longest first, and of equals the first that came")
  func longestFirst() {
    var queue = WorkQueue<String>()
    for (name, work) in [("a", 1.0), ("b", 5), ("c", 5), ("d", 2), ("e", .nan), ("f", 0)] {
      queue.insert(name, work: work)
    }
    var order: [String] = []
    while let next = queue.next() { order.append(next) }
    #expect(order == ["b", "c", "d", "a", "e", "f"])
  }

  @Test("lets nobody starve: what came with the first group goes before what came later, however long that is")
  func nobodyStarves() {
    var queue = WorkQueue<Int>()
    queue.insert(-1, work: 0)
    var gone = 0
    // For each that leaves a longer one comes, for ever.
    for index in 0..<10 { queue.insert(index, work: 1 + Double(index)) }
    for index in 10..<5000 {
      guard let next = queue.next() else { break }
      if next == -1 { break }
      gone += 1
      queue.insert(index, work: 1 + Double(index))
    }
    #expect(gone < WorkQueue<Int>.groupSize)
    #expect(gone > 100)
  }

  @Test("forgets what is withdrawn")
  func withdrawn() {
    var queue = WorkQueue<String>()
    queue.insert("a", work: 3)
    let b = queue.insert("b", work: 2)
    queue.insert("c", work: 1)
    #expect(queue.remove(b) == "b")
    #expect(queue.remove(b) == nil)
    #expect(queue.next() == "a")
    #expect(queue.next() == "c")
    #expect(queue.next() == nil)
    #expect(queue.count == 0)
  }
}

/// Lets test and threads wait for each other.
private final class Gate: Sendable {
  private let semaphore = DispatchSemaphore(value: 0)

  func open(_ times: Int = 1) { for _ in 0..<times { semaphore.signal() } }
  func pass() { semaphore.wait() }
}

/// What threads and tasks write down together.
private final class Noted<Value: Sendable>: @unchecked Sendable {
  private let lock = NSLock()
  private var value: Value

  init(_ value: Value) { self.value = value }

  func withLock<T>(_ body: (inout Value) -> T) -> T {
    lock.lock()
    defer { lock.unlock() }
    return body(&value)
  }
}

@Suite("A crew of threads", .timeLimit(.minutes(1)))
struct WorkCrewTests {
  private struct Fault: Error {}

  @Test("runs jobs on its threads, the longest that waits first, and goes from one to the next by itself")
  func order() async throws {
    let crew = WorkCrew(threads: 1, name: "test")
    defer { crew.shutDown() }
    let gate = Gate()
    let order = Noted<[Double]>([])
    let began = Gate()
    async let first: Void = crew.perform(work: 0) {
      began.open()
      gate.pass()
    }
    try await offTheTask { began.pass() }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for work in [3.0, 9, 1, 7, 5] {
        group.addTask { try await crew.perform(work: work) { order.withLock { $0.append(work) } } }
      }
      while crew.waitingJobs < 5 { await Task.yield() }
      gate.open()
      try await group.waitForAll()
    }
    try await first
    #expect(order.withLock { $0 } == [9, 7, 5, 3, 1])
  }

  @Test("keeps to its number of jobs at a time")
  func jobLimit() async throws {
    let crew = WorkCrew(threads: 4, jobs: 2, name: "test")
    defer { crew.shutDown() }
    let now = Noted(0)
    let most = Noted(0)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<40 {
        group.addTask {
          try await crew.perform {
            let count = now.withLock { now in
              now += 1
              return now
            }
            most.withLock { $0 = max($0, count) }
            usleep(500)
            now.withLock { $0 -= 1 }
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(most.withLock { $0 } == 2)
  }

  @Test("goes on with the others' jobs when one fails")
  func failure() async throws {
    let crew = WorkCrew(threads: 2, name: "test")
    defer { crew.shutDown() }
    let results = await withTaskGroup(of: Int?.self) { group in
      for index in 0..<20 {
        group.addTask {
          try? await crew.perform {
            if index % 3 == 0 { throw Fault() }
            return index
          }
        }
      }
      return await group.reduce(into: Set<Int>()) { if let index = $1 { $0.insert(index) } }
    }
    #expect(results == Set((0..<20).filter { $0 % 3 != 0 }))
    await #expect(throws: Fault.self) { try await crew.perform { throw Fault() } }
    #expect(try await crew.perform { 7 } == 7)
  }

  @Test("never runs a job whose task is cancelled while it waits, and others do not wait for it")
  func cancellation() async throws {
    let crew = WorkCrew(threads: 1, name: "test")
    defer { crew.shutDown() }
    let (gate, began) = (Gate(), Gate())
    let ran = Noted<[String]>([])
    async let first: Void = crew.perform {
      began.open()
      gate.pass()
    }
    try await offTheTask { began.pass() }
    let doomed = Task { try await crew.perform(work: 9) { ran.withLock { $0.append("doomed") } } }
    let kept = Task {
      try await crew.perform(work: 8, isCancellable: false) { ran.withLock { $0.append("kept") } }
    }
    while crew.waitingJobs < 2 { await Task.yield() }
    doomed.cancel()
    kept.cancel()
    // Before the thread is free: it does not have to come by.
    await #expect(throws: CancellationError.self) { try await doomed.value }
    gate.open()
    try await first
    try await kept.value
    #expect(ran.withLock { $0 } == ["kept"])
    let cancelledBefore = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      try await crew.perform { ran.withLock { $0.append("late") } }
    }
    await #expect(throws: CancellationError.self) { try await cancelledBefore.value }
    #expect(ran.withLock { $0 } == ["kept"])
  }

  @Test("shares a job's loop among threads that have no job, and takes all parts itself where none is free")
  func loops() async throws {
    let crew = WorkCrew(threads: 2, name: "test")
    defer { crew.shutDown() }
    // Two parts that each wait for the other to begin: only two threads can end this.
    let (left, right) = (Gate(), Gate())
    try await crew.perform {
      crew.forEach(2) { part in
        (part == 0 ? left : right).open()
        (part == 0 ? right : left).pass()
      }
    }
    // While the other thread has a job of its own, this one does everything, each part once.
    let (gate, began) = (Gate(), Gate())
    async let other: Void = crew.perform {
      began.open()
      gate.pass()
    }
    try await offTheTask { began.pass() }
    let parts = try await crew.perform {
      let seen = Noted<[(Int, UInt)]>([])
      crew.forEach(5) { part in seen.withLock { $0.append((part, UInt(pthread_self()))) } }
      return seen.withLock { $0 }
    }
    gate.open()
    try await other
    #expect(parts.map(\.0) == [0, 1, 2, 3, 4])
    #expect(Set(parts.map(\.1)).count == 1)
  }

  @Test("takes up a job that waits before it helps another")
  func jobsBeforeHelp() async throws {
    let crew = WorkCrew(threads: 2, name: "test")
    defer { crew.shutDown() }
    let (began, gate, inLoop, ended) = (Gate(), Gate(), Gate(), Gate())
    async let busy: Void = crew.perform {
      began.open()
      gate.pass()
    }
    try await offTheTask { began.pass() }
    // Both parts wait for the last job's end: were one of them begun before that job, nothing would ever end.
    async let looping: Void = crew.perform {
      crew.forEach(2) { part in
        if part == 0 { inLoop.open() }
        ended.pass()
      }
    }
    try await offTheTask { inLoop.pass() }
    async let last: Void = crew.perform { ended.open(2) }
    while crew.waitingJobs < 1 { await Task.yield() }
    gate.open()
    _ = try await (busy, looping, last)
  }

  @Test("refuses jobs after it was shut down, and ends those that wait")
  func shutDown() async throws {
    let crew = WorkCrew(threads: 1, name: "test")
    let (gate, began) = (Gate(), Gate())
    async let first: Int = crew.perform {
      began.open()
      gate.pass()
      return 1
    }
    try await offTheTask { began.pass() }
    async let second: Int = crew.perform { 2 }
    while crew.waitingJobs < 1 { await Task.yield() }
    crew.shutDown()
    gate.open()
    #expect(try await first + second == 3)
    await #expect(throws: CancellationError.self) { try await crew.perform { 3 } }
  }

  /// Waits without holding a thread of the cooperative pool.
  private func offTheTask(_ body: @escaping @Sendable () -> Void) async throws {
    await withCheckedContinuation { continuation in
      Thread {
        body()
        continuation.resume()
      }.start()
    }
  }
}
