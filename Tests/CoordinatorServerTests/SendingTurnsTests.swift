import FedLoRACoordinator
import FedLoRATestSupport
import Synchronization
import Testing

@Suite("Turns to be sent a state", .timeLimit(.minutes(1)))
struct SendingTurnsTests {
  @Test("go to so many at a time, in order")
  func order() async throws {
    let turns = SendingTurns(atATime: 2, patience: .seconds(3600))
    let seen = Seen()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<40 {
        group.addTask {
          try await turns.take {
            seen.begins()
            for _ in 0..<20 { await Task.yield() }
            seen.ends()
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(seen.counts.withLock { $0.all } == 40)
    #expect(seen.counts.withLock { $0.most } == 2)
  }

  @Test("are not held by one that takes its time, nor by one that fails")
  func patience() async throws {
    let turns = SendingTurns(atATime: 1, patience: .milliseconds(20))
    let slow = Gate()
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await turns.take { try await slow.pass() } }
      // Whichever is first: the other one gets its turn, and lets the slow one go.
      group.addTask { try await turns.take { slow.open() } }
      try await group.waitForAll()
    }
    struct Broken: Error {}
    await #expect(throws: Broken.self) { try await turns.take { throw Broken() } }
    try await turns.take {}
  }

  private final class Seen: Sendable {
    let counts = Mutex((now: 0, most: 0, all: 0))

    func begins() {
      counts.withLock { counts in
        counts.now += 1
        counts.all += 1
        counts.most = max(counts.most, counts.now)
      }
    }

    func ends() { counts.withLock { $0.now -= 1 } }
  }
}
