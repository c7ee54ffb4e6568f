import FedLoRAEngine
import Synchronization

/// Lets so many tasks in at a time; of those that wait, the ones with the most work first (`WorkQueue`).
package final class Admission: Sendable {
  private struct State: Sendable {
    var free: Int
    var waiting = WorkQueue<CheckedContinuation<Void, any Error>>()
    /// The tasks that wait, by a number of their own, and those that were cancelled before they could.
    var numbers: [Int: Int] = [:]
    var cancelled: Set<Int> = []
    var nextTask = 0
  }

  private let state: Mutex<State>

  /// So many places, at least 1.
  package init(places: Int) { state = Mutex(State(free: max(1, places))) }

  /// Tasks that wait for a place.
  package var waitingTasks: Int { state.withLock { $0.waiting.count } }

  /// Returns when there is a place for this task, which is then its own until `leave`.
  /// - Throws: `CancellationError`; there is no place to leave then.
  package func enter(work: Double) async throws {
    let task = state.withLock { state in
      state.nextTask += 1
      return state.nextTask
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let outcome: Result<Void, any Error>? = state.withLock { state in
          if state.cancelled.remove(task) != nil { return .failure(CancellationError()) }
          if state.free > 0 {
            state.free -= 1
            return .success(())
          }
          state.numbers[task] = state.waiting.insert(continuation, work: work)
          return nil
        }
        if let outcome { continuation.resume(with: outcome) }
      }
    } onCancel: {
      let waiting = state.withLock { state in
        guard let number = state.numbers.removeValue(forKey: task) else {
          state.cancelled.insert(task)
          return CheckedContinuation<Void, any Error>?.none
        }
        return state.waiting.remove(number)
      }
      waiting?.resume(throwing: CancellationError())
    }
    state.withLock { state in
      _ = state.numbers.removeValue(forKey: task)
      _ = state.cancelled.remove(task)
    }
  }

  /// Gives a place back.
  package func leave() {
    let next = state.withLock { state in
      let next = state.waiting.next()
      if next == nil { state.free += 1 }
      return next
    }
    next?.resume()
  }
}
