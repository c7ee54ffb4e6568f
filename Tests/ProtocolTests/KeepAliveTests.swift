import FedLoRAProtocol
import NIOCore
import Testing

@Suite("Keep-alive")
struct KeepAliveTests {
  private func at(_ seconds: Int64) -> NIODeadline { .uptimeNanoseconds(1) + .seconds(seconds) }
  private func make() -> KeepAlive { KeepAlive(interval: .seconds(10), timeout: .seconds(25), now: at(0)) }

  @Test("pings after the interval and gives up after the timeout")
  func silence() {
    var state = make()
    #expect(state.next(at: at(0)) == .wait(until: at(10)))
    #expect(state.next(at: at(10)) == .ping)
    state.sent(at: at(10))
    #expect(state.next(at: at(10)) == .wait(until: at(20)))
    #expect(state.next(at: at(20)) == .ping)
    #expect(state.next(at: at(20)) == .wait(until: at(25)))
    #expect(state.next(at: at(25)) == .giveUp)
  }

  @Test("leaves a busy connection alone")
  func busy() {
    var state = make()
    for second in stride(from: Int64(1), to: 100, by: 5) {
      state.sent(at: at(second))
      state.received(at: at(second))
      #expect(state.next(at: at(second)) == .wait(until: at(second + 10)))
    }
  }

  @Test("pings while it only listens, so that the other side hears it")
  func listening() {
    var state = make()
    for second in Int64(1)...9 { state.received(at: at(second)) }
    #expect(state.next(at: at(10)) == .ping)
  }

  @Test("does not judge a peer while it does not read, and starts to count when it reads again")
  func paused() {
    var state = make()
    state.pausedReading()
    #expect(state.next(at: at(1000)) == .ping)
    #expect(state.next(at: at(1000)) == .wait(until: at(1010)))
    state.resumedReading(at: at(1005))
    #expect(state.next(at: at(1010)) == .ping)
    #expect(state.next(at: at(1029)) != .giveUp)
    #expect(state.next(at: at(1030)) == .giveUp)
  }
}

@Suite("Permits")
struct PermitTests {
  @Test("come back when a reservation is let go, and too many count as all")
  func basics() async throws {
    let pool = PermitPool(capacity: 10)
    do {
      let all = try await pool.acquire(100)
      withExtendedLifetime(all) {}
    }
    _ = try await pool.acquire(10)
    let five = try await pool.acquire(5)
    let more = try await pool.acquire(5)
    withExtendedLifetime((five, more)) {}
  }

  @Test("are given first come, first served, and a cancelled waiter makes way")
  func cancellation() async throws {
    let pool = PermitPool(capacity: 2)
    var held: PermitPool.Reservation? = try await pool.acquire(1)
    let large = Task { try await pool.acquire(2) }
    large.cancel()
    await #expect(throws: CancellationError.self) { try await large.value }
    // Would wait for ever behind the large one.
    let small = try await pool.acquire(1)
    withExtendedLifetime((small, held)) {}
    held = nil
  }
}
