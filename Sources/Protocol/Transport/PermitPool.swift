import Synchronization

/// A number of permits that tasks take and give back, first come, first served.
package final class PermitPool: Sendable {
  private struct Waiter {
    let id: UInt64
    let permits: Int
    let continuation: CheckedContinuation<Void, any Error>
  }
  private struct State {
    var available: Int
    var nextID: UInt64 = 0
    var waiters: [Waiter] = []
  }

  private let capacity: Int
  private let state: Mutex<State>

  package init(capacity: Int) {
    self.capacity = max(capacity, 1)
    state = Mutex(State(available: max(capacity, 1)))
  }

  /// Waits until `permits` are free. More than there are counts as all of them.
  /// - Returns: what gives them back when it is let go of.
  /// - Throws: `CancellationError`.
  package func acquire(_ permits: Int) async throws -> Reservation {
    let permits = min(max(permits, 0), capacity)
    let id = state.withLock { state in
      state.nextID += 1
      return state.nextID
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        let outcome: Result<Void, any Error>? = state.withLock { state in
          // A task is marked as cancelled before its handler runs, so a handler that found nobody is seen here.
          if Task.isCancelled { return .failure(CancellationError()) }
          if state.waiters.isEmpty, state.available >= permits {
            state.available -= permits
            return .success(())
          }
          state.waiters.append(Waiter(id: id, permits: permits, continuation: continuation))
          return nil
        }
        if let outcome { continuation.resume(with: outcome) }
      }
    } onCancel: {
      cancel(id)
    }
    return Reservation(pool: self, permits: permits)
  }

  private func cancel(_ id: UInt64) {
    let resumed: [(Waiter, isCancelled: Bool)] = state.withLock { state in
      guard let index = state.waiters.firstIndex(where: { $0.id == id }) else { return [] }
      let cancelled = state.waiters.remove(at: index)
      // The one that left may have been the first and the largest.
      return [(cancelled, true)] + admit(&state).map { ($0, false) }
    }
    for (waiter, isCancelled) in resumed {
      if isCancelled { waiter.continuation.resume(throwing: CancellationError()) } else { waiter.continuation.resume() }
    }
  }

  fileprivate func release(_ permits: Int) {
    let admitted = state.withLock { state in
      state.available += permits
      return admit(&state)
    }
    for waiter in admitted { waiter.continuation.resume() }
  }

  private func admit(_ state: inout State) -> [Waiter] {
    var admitted: [Waiter] = []
    while let first = state.waiters.first, first.permits <= state.available {
      state.available -= first.permits
      admitted.append(state.waiters.removeFirst())
    }
    return admitted
  }

  /// Permits held; they go back when the last reference goes.
  package final class Reservation: Sendable {
    private let pool: PermitPool
    private let permits: Int

    fileprivate init(pool: PermitPool, permits: Int) {
      self.pool = pool
      self.permits = permits
    }

    deinit { pool.release(permits) }
  }
}
