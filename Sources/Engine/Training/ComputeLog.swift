import Foundation
import Synchronization

/// When each thread computed, for those who want to know where the time of a round went.
package final class ComputeLog: Sendable {
  /// A stretch of work on one thread.
  package struct Span: Sendable {
    /// What was done.
    package enum Kind: Sendable {
      /// A client's local training.
      case training
      /// A part of another thread's step.
      case help
    }
    package let kind: Kind
    /// The thread, numbered from 0 in the order of their first spans.
    package let thread: Int
    /// Nanoseconds of the system's monotonic clock.
    package let start: UInt64
    package let end: UInt64
    /// Nanoseconds that the thread had computed for in all, by then: what other programs took of its core is not in them.
    package let processorStart: UInt64
    package let processorEnd: UInt64
  }

  private struct Contents: Sendable {
    var threads: [UInt: Int] = [:]
    var spans: [Span] = []
  }

  private let contents = Mutex(Contents())

  /// An empty log.
  package init() {}

  /// Runs `body` and notes how long it took, whether it throws or not.
  package func note<T>(_ kind: Span.Kind, _ body: () throws -> T) rethrows -> T {
    let (start, processorStart) = (ComputeLog.now, ComputeLog.processorNow)
    defer {
      let (end, processorEnd) = (ComputeLog.now, ComputeLog.processorNow)
      add { thread in
        Span(
          kind: kind,
          thread: thread,
          start: start,
          end: end,
          processorStart: processorStart,
          processorEnd: processorEnd
        )
      }
    }
    return try body()
  }

  /// Takes what was noted since the last call, in the order of the ends.
  package func takeSpans() -> [Span] {
    contents.withLock { contents in
      defer { contents.spans = [] }
      return contents.spans
    }
  }

  /// Nanoseconds of the clock that spans are in.
  package static var now: UInt64 { DispatchTime.now().uptimeNanoseconds }

  private static var processorNow: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  private func add(_ span: (_ thread: Int) -> Span) {
    let identity = UInt(pthread_self())
    contents.withLock { contents in
      let thread = contents.threads[identity] ?? contents.threads.count
      contents.threads[identity] = thread
      contents.spans.append(span(thread))
    }
  }
}
