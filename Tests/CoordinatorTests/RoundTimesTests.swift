import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import Testing

@Suite("The times of rounds")
struct RoundTimesTests {
  private func opened(_ round: Int, attempt: Int = 1) -> CoordinatorEvent {
    .roundOpened(round: round, attempt: attempt, cohort: ["a"])
  }
  private func aggregated(_ round: Int, _ seconds: Double) -> CoordinatorEvent {
    .aggregated(round: round, rule: .mean, updates: 1, leftOut: [], scaledDown: [], seconds: seconds)
  }
  private func committed(_ round: Int) -> CoordinatorEvent {
    .roundCommitted(round: round, updates: 1, counts: [:], meanLoss: nil, traffic: Traffic(), epsilon: nil)
  }

  @Test("are cut at its events; further attempts belong to the round")
  func phases() {
    var times = RoundTimes(openRound: nil, at: .seconds(10))
    #expect(times.observe(opened(1), at: .seconds(13)) == [.phase(.waiting, .seconds(3))])
    #expect(times.observe(opened(1, attempt: 2), at: .seconds(20)).isEmpty)
    #expect(times.observe(.clientLost(name: "a", reason: ""), at: .seconds(21)).isEmpty)
    #expect(
      times.observe(aggregated(1, 2), at: .seconds(30))
        == [.phase(.collecting, .seconds(15)), .phase(.aggregating, .seconds(2))]
    )
    #expect(
      times.observe(committed(1), at: .seconds(31)) == [.phase(.committing, .seconds(1)), .round(.seconds(18))]
    )
    #expect(times.observe(opened(2), at: .seconds(31)) == [.phase(.waiting, .zero)])
  }

  @Test("are not told of a round that was open before the process began")
  func restart() {
    var times = RoundTimes(openRound: 4, at: .zero)
    #expect(times.observe(opened(4, attempt: 2), at: .seconds(5)).isEmpty)
    #expect(times.observe(aggregated(4, 1), at: .seconds(7)) == [.phase(.aggregating, .seconds(1))])
    #expect(times.observe(committed(4), at: .seconds(8)) == [.phase(.committing, .seconds(1))])
    #expect(times.observe(opened(5), at: .seconds(9)) == [.phase(.waiting, .seconds(1))])
  }

  @Test("where aggregation is not told, are those of the round alone")
  func secret() {
    var times = RoundTimes(openRound: nil, at: .zero)
    _ = times.observe(opened(1), at: .seconds(1))
    #expect(times.observe(committed(1), at: .seconds(5)) == [.round(.seconds(4))])
  }
}

@Suite("Attendance")
struct AttendanceTests {
  @Test("follows clients through a round")
  func round() {
    var attendance = Attendance(round: 1, atWork: [])
    for name in ["a", "b", "c", "d"] { attendance.observe(.clientReady(name: name, ready: 1)) }
    attendance.observe(.roundOpened(round: 1, attempt: 1, cohort: ["a", "b", "c"]))
    #expect(attendance.ready.count == 4 && attendance.atWork == ["a", "b", "c"])
    attendance.observe(.updateAccepted(round: 1, name: "a", metrics: [:]))
    attendance.observe(.clientLost(name: "b", reason: ""))
    attendance.observe(.declined(round: 1, name: "c", code: "policy", reason: ""))
    #expect(attendance.atWork.isEmpty && attendance.ready == ["a", "c", "d"])
    attendance.observe(.clientReady(name: "b", ready: 4))
    attendance.observe(.clientOutcome(round: 1, name: "b", code: "returned", reason: ""))
    attendance.observe(.roundOpened(round: 1, attempt: 2, cohort: ["d"]))
    #expect(attendance.atWork == ["b", "d"])
    // What concerns another round, or a deadline that may still be met late, changes nothing.
    attendance.observe(.updateRefused(round: 9, name: "d", code: "future-round", reason: ""))
    attendance.observe(.clientOutcome(round: 1, name: "d", code: "deadline", reason: ""))
    #expect(attendance.atWork == ["b", "d"])
    attendance.observe(.roundOpened(round: 2, attempt: 1, cohort: ["a"]))
    #expect(attendance.atWork == ["a"])
    attendance.observe(.finished(.completed))
    #expect(attendance.atWork.isEmpty)
  }
}

@Suite("The times of a client's connection")
struct LinkTimesTests {
  @Test("follow one round from its queue to its Ack")
  func round() {
    var times = LinkTimes()
    times.roundBegins(3)
    #expect(times.roundSent(3, queued: .seconds(1), at: .seconds(3)) == .roundSent(after: .seconds(2)))
    #expect(times.updateBegun(3, at: .seconds(10)) == .updateBegun(after: .seconds(7)))
    #expect(
      times.updateArrived(3, isWhole: true, at: .seconds(12))
        == .updateArrived(after: .seconds(2), sinceRound: .seconds(9))
    )
    #expect(times.acknowledged(at: .seconds(13)) == .acknowledged(after: .seconds(1)))
    #expect(times.acknowledged(at: .seconds(14)) == nil)
  }

  @Test("are right where a client answers before its round is known to have left")
  func early() {
    var times = LinkTimes()
    times.roundBegins(1)
    #expect(times.updateBegun(1, at: .seconds(5)) == .updateBegun(after: .zero))
    #expect(times.roundSent(1, queued: .seconds(4), at: .seconds(6)) == .roundSent(after: .seconds(2)))
    #expect(
      times.updateArrived(1, isWhole: true, at: .seconds(7))
        == .updateArrived(after: .seconds(2), sinceRound: .seconds(2))
    )
  }

  @Test("do not mix rounds, and count the answers to updates that were refused on their way")
  func others() {
    var times = LinkTimes()
    times.roundBegins(2)
    _ = times.roundSent(2, queued: .zero, at: .seconds(1))
    // The sealed update of the round before.
    #expect(times.updateBegun(1, at: .seconds(2)) == nil)
    #expect(
      times.updateArrived(1, isWhole: true, at: .seconds(4)) == .updateArrived(after: .seconds(2), sinceRound: nil)
    )
    #expect(times.updateBegun(2, at: .seconds(9)) == .updateBegun(after: .seconds(8)))
    #expect(times.updateArrived(2, isWhole: false, at: .seconds(10)) == nil)
    #expect(times.acknowledged(at: .seconds(11)) == .acknowledged(after: .seconds(7)))
    #expect(times.acknowledged(at: .seconds(12)) == .acknowledged(after: .seconds(2)))
  }
}
