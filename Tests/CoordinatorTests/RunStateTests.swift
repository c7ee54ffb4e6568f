import FedLoRACoordinator
import Testing

/// A run of two rounds over three clients of which two make a quorum.
private func makeState(
  rounds: Int = 2,
  minClients: Int = 3,
  clientsPerRound: Int = 3,
  quorum: Int = 2
) throws -> RunState {
  RunState(
    policy: try RoundPolicy(
      rounds: rounds,
      minClients: minClients,
      clientsPerRound: clientsPerRound,
      quorum: quorum,
      deadline: .seconds(60)
    ),
    seed: 1
  )
}

extension RunState {
  fileprivate mutating func ready(_ names: String..., pending: Int? = nil, at time: Double = 0) -> [RunEffect] {
    names.flatMap {
      apply(.clientReady(name: $0, examples: 10, pendingRound: pending), now: FedLoRACoordinatorTests.at(time))
    }
    .filter { if case .roster = $0 { false } else { true } }
  }

  fileprivate mutating func update(_ name: String, _ round: Int, digest: String? = nil, at time: Double = 1)
    -> [RunEffect]
  {
    apply(
      .updateReceived(name: name, round: round, examples: 10, digest: digest ?? "\(name)-\(round)"),
      now: FedLoRACoordinatorTests.at(time)
    )
  }
}

@Suite("The run's state")
struct RunStateTests {
  @Test("a run without faults: waits for the minimum, asks all, commits when all answered, completes")
  func straight() throws {
    var state = try makeState()
    #expect(state.ready("b", "c").isEmpty)
    let start = state.ready("a")
    #expect(
      start == [
        .openAttempt(round: 1, attempt: 1, cohort: ["a", "b", "c"]), .armTimer(round: 1, attempt: 1, at: at(60)),
        .sendRound(to: ["a", "b", "c"], round: 1, attempt: 1, deadline: at(60)),
      ]
    )
    #expect(state.update("c", 1).committed == nil)
    #expect(state.update("a", 1).acks == [.accepted])
    let end = state.update("b", 1)
    #expect(end.committed?.map(\.name) == ["a", "b", "c"])
    #expect(state.phase == .committing)
    let next = state.apply(.roundCommitted(round: 1), now: at(5))
    #expect(next.first == .announceCommit(round: 1, to: ["a", "b", "c"], updates: 3))
    #expect(next.asked == ["a", "b", "c"])
    for name in ["a", "b", "c"] { _ = state.update(name, 2) }
    let finished = state.apply(.roundCommitted(round: 2), now: at(9))
    #expect(finished.outcome == .completed)
    #expect(state.committedRounds == 2)
    #expect(state.update("a", 2).acks == [.duplicate])
    #expect(state.update("a", 1).acks == [.duplicate])
    #expect(state.update("a", 1, digest: "other").acks == [.late])
  }

  @Test("at the deadline a quorum is enough; the straggler is counted and its update is late")
  func deadlineWithQuorum() throws {
    var state = try makeState()
    _ = state.ready("a", "b", "c")
    _ = state.update("a", 1)
    _ = state.update("b", 1)
    let early = state.apply(.deadlinePassed(round: 1, attempt: 1), now: at(59))
    #expect(early == [.armTimer(round: 1, attempt: 1, at: at(60))])
    let effects = state.apply(.deadlinePassed(round: 1, attempt: 1), now: at(60))
    #expect(effects.committed?.map(\.name) == ["a", "b"])
    #expect(effects.codes == [ReasonCode.deadline])
    #expect(state.admission(name: "c", round: 1, digest: "x") == .answered(.late, code: ReasonCode.late))
    #expect(state.update("c", 1).acks == [.late])
    #expect(state.current.counts == ["accepted": 2, "deadline": 1, "late": 1])
    _ = state.apply(.roundCommitted(round: 1), now: at(61))
    #expect(state.update("c", 1).acks == [.late])
    #expect(state.update("b", 1).acks == [.duplicate])
    #expect(state.apply(.deadlinePassed(round: 1, attempt: 1), now: at(99)).isEmpty)
  }

  @Test("lost, declining and invalid clients are counted, and the round completes with the rest")
  func reasons() throws {
    var state = try makeState(minClients: 5, clientsPerRound: 5, quorum: 2)
    _ = state.ready("a", "b", "c", "d", "e")
    #expect(state.apply(.clientLost(name: "a"), now: at(1)).codes == [ReasonCode.lost])
    #expect(
      state.apply(.declined(name: "b", round: 1, code: "budget", reason: "spent"), now: at(1))
        == [.record(name: "b", round: 1, code: ReasonCode.declined, reason: "budget: spent")]
    )
    let refused = state.apply(.updateRefused(name: "c", round: 1, code: "not-finite", reason: "NaN in x"), now: at(1))
    #expect(refused.codes == ["not-finite"] && refused.acks == [.refused])
    _ = state.update("d", 1)
    let effects = state.update("e", 1)
    #expect(effects.committed?.map(\.name) == ["d", "e"])
    guard case .commit(_, _, let counts)? = effects.last else {
      Issue.record("no commit")
      return
    }
    #expect(counts == ["lost": 1, "declined": 1, "not-finite": 1, "accepted": 2])
  }

  @Test("the same update again is a duplicate, another one a conflict, a stranger's is late, the future is refused")
  func answers() throws {
    var state = try makeState(minClients: 4, clientsPerRound: 2, quorum: 2)
    _ = state.ready("a", "b", "c", "d")
    let cohort = state.current.cohort
    let stranger = try #require(["a", "b", "c", "d"].first { !cohort.contains($0) })
    #expect(state.update(cohort[0], 1).acks == [.accepted])
    #expect(state.update(cohort[0], 1).acks == [.duplicate])
    #expect(state.update(cohort[0], 1, digest: "other").acks == [.refused])
    #expect(state.update(stranger, 1).acks == [.late])
    #expect(state.update(cohort[1], 2).acks == [.refused])
    #expect(state.update(cohort[1], 0).acks == [.refused])
    #expect(
      state.current.counts == ["accepted": 1, "duplicate": 1, "conflict": 1, "not-assigned": 1, "future-round": 2]
    )
    #expect(state.admission(name: cohort[1], round: 1, digest: "x") == .wanted)
    #expect(state.update(cohort[1], 1).committed?.count == 2)
  }

  @Test("a client of the cohort that returns is sent the round again, unless it holds a sealed update")
  func returning() throws {
    var state = try makeState()
    _ = state.ready("a", "b", "c")
    _ = state.apply(.clientLost(name: "a"), now: at(1))
    let back = state.ready("a", at: 2)
    #expect(back.asked == ["a"] && back.codes == [ReasonCode.returned])
    _ = state.apply(.clientLost(name: "b"), now: at(3))
    #expect(state.ready("b", pending: 1, at: 4).asked.isEmpty)
    #expect(state.update("b", 1).acks == [.accepted])
    _ = state.apply(.clientLost(name: "b"), now: at(5))
    #expect(state.ready("b", at: 6).isEmpty)
    // A new session that overtook the end of the old one.
    #expect(state.ready("c", at: 7).asked == ["c"])
    _ = state.update("a", 1)
    #expect(state.update("c", 1).committed?.count == 3)
  }

  @Test("below the quorum others are asked, accepted updates stay, stragglers may still answer")
  func reselection() throws {
    var state = try makeState(minClients: 4, clientsPerRound: 2, quorum: 2)
    _ = state.ready("a", "b", "c", "d")
    let first = state.current.cohort
    _ = state.update(first[0], 1)
    let second = state.apply(.deadlinePassed(round: 1, attempt: 1), now: at(60))
    #expect(second.asked.count == 1 && !first.contains(second.asked[0]))
    #expect(state.current.attempt == 2 && state.phase == .open)
    let straggler = state.update(first[1], 1, at: 70)
    #expect(straggler.acks == [.accepted] && straggler.committed == nil)
    #expect(state.update(second.asked[0], 1, at: 71).committed?.count == 3)
  }

  @Test("who declined or sent an invalid update is not asked again in the round")
  func notAskedAgain() throws {
    var state = try makeState(minClients: 3, clientsPerRound: 2, quorum: 2)
    _ = state.ready("a", "b", "c")
    let cohort = state.current.cohort
    _ = state.apply(.declined(name: cohort[0], round: 1, code: "x", reason: ""), now: at(1))
    let effects = state.apply(.updateRefused(name: cohort[1], round: 1, code: "shape", reason: ""), now: at(1))
    // One candidate is left, which is not enough: a wait with an end.
    #expect(effects.asked.isEmpty && state.phase == .waiting)
    #expect(effects.contains(.armTimer(round: 1, attempt: 2, at: at(61))))
    let joined = state.ready("d", at: 10)
    #expect(Set(joined.asked) == Set(["a", "b", "c", "d"]).subtracting(cohort))
    // The timer of the wait fires into the attempt: it is armed again for the attempt's own end.
    #expect(
      state.apply(.deadlinePassed(round: 1, attempt: 2), now: at(61)) == [.armTimer(round: 1, attempt: 2, at: at(70))]
    )
  }

  @Test("after three failed attempts the run fails and says why")
  func failing() throws {
    var state = try makeState()
    _ = state.ready("a", "b", "c")
    _ = state.update("a", 1)
    _ = state.apply(.clientLost(name: "b"), now: at(1))
    #expect(state.apply(.clientLost(name: "c"), now: at(1)).contains(.armTimer(round: 1, attempt: 2, at: at(61))))
    #expect(
      state.apply(.deadlinePassed(round: 1, attempt: 2), now: at(61)).contains(
        .armTimer(round: 1, attempt: 3, at: at(121))
      )
    )
    let end = state.apply(.deadlinePassed(round: 1, attempt: 3), now: at(121))
    #expect(
      end.outcome
        == .failed(reason: "round 1 had 1 of 2 updates after 3 attempts (accepted 1, lost 2)")
    )
    #expect(state.ready("a", "b").isEmpty)
    #expect(state.update("b", 1).acks == [.late])
  }

  @Test("a late update in the wait for another attempt can complete the quorum")
  func quorumWhileWaiting() throws {
    var state = try makeState()
    _ = state.ready("a", "b", "c")
    _ = state.update("a", 1)
    _ = state.apply(.clientLost(name: "b"), now: at(1))
    _ = state.apply(.clientLost(name: "c"), now: at(1))
    #expect(state.phase == .waiting)
    #expect(state.ready("b", pending: 1, at: 3).asked.isEmpty)
    #expect(state.update("b", 1, at: 4).committed?.map(\.name) == ["a", "b"])
  }

  @Test("a later round waits for the quorum without end")
  func laterRoundWaits() throws {
    var state = try makeState()
    _ = state.ready("a", "b", "c")
    for name in ["a", "b", "c"] { _ = state.update(name, 1) }
    for name in ["a", "b"] { _ = state.apply(.clientLost(name: name), now: at(2)) }
    let effects = state.apply(.roundCommitted(round: 1), now: at(3))
    #expect(effects == [.announceCommit(round: 1, to: ["a", "b", "c"], updates: 3)])
    #expect(state.apply(.declined(name: "c", round: 0, code: "x", reason: ""), now: at(3)).codes == ["declined"])
    #expect(state.ready("a", at: 1000).isEmpty)
    #expect(state.ready("b", at: 1001).asked == ["a", "b"])
  }

  @Test("a stop after the round lets it be committed, asks for no other, and between rounds stops at once")
  func stopAfterRound() throws {
    var idle = try makeState()
    #expect(
      idle.apply(.stopAfterRound(reason: "tonight"), now: at(0)).outcome == .stopped(reason: "tonight")
    )
    var state = try makeState(rounds: 3)
    _ = state.ready("a", "b", "c")
    _ = state.update("a", 1)
    #expect(state.apply(.stopAfterRound(reason: "tonight"), now: at(2)).isEmpty)
    #expect(state.phase == .open)
    // A client that comes back is still sent the open round.
    _ = state.apply(.clientLost(name: "c"), now: at(3))
    #expect(state.ready("c", at: 4).contains { if case .sendRound(["c"], 1, _, _) = $0 { true } else { false } })
    _ = state.update("b", 1)
    #expect(state.update("c", 1).committed?.count == 3)
    let end = state.apply(.roundCommitted(round: 1), now: at(5))
    #expect(end.first == .announceCommit(round: 1, to: ["a", "b", "c"], updates: 3))
    #expect(end.asked.isEmpty)
    #expect(end.outcome == .stopped(reason: "tonight"))
    #expect(state.committedRounds == 1)
    // The last round completes the run all the same.
    var last = try makeState(rounds: 1)
    _ = last.ready("a", "b", "c")
    _ = last.apply(.stopAfterRound(reason: "tonight"), now: at(1))
    for name in ["a", "b", "c"] { _ = last.update(name, 1) }
    #expect(last.apply(.roundCommitted(round: 1), now: at(2)).outcome == .completed)
  }

  @Test("stop, abort and a failing store end the run at once")
  func endings() throws {
    for (event, outcome) in [
      (RunEvent.stop(reason: "Ctrl-C"), RunOutcome.stopped(reason: "Ctrl-C")),
      (.abort(reason: "enough"), .failed(reason: "enough")),
      (.storeFailed(reason: "disk full"), .stopped(reason: "disk full")),
      (.commitFailed(reason: "no factors"), .failed(reason: "no factors")),
    ] {
      var state = try makeState()
      _ = state.ready("a", "b", "c")
      #expect(state.apply(event, now: at(1)) == [.finish(outcome)])
      #expect(state.phase == .finished(outcome))
      #expect(state.apply(event, now: at(1)).isEmpty)
    }
  }

  @Test("settings that make no sense are refused by name")
  func policies() throws {
    func policy(_ rounds: Int, _ min: Int, _ per: Int, _ quorum: Int, _ deadline: Duration = .seconds(1)) throws {
      _ = try RoundPolicy(rounds: rounds, minClients: min, clientsPerRound: per, quorum: quorum, deadline: deadline)
    }
    #expect(throws: RoundPolicyError.tooSmall(setting: "rounds", value: 0)) { try policy(0, 1, 1, 1) }
    #expect(throws: RoundPolicyError.tooSmall(setting: "quorum", value: 0)) { try policy(1, 1, 1, 0) }
    #expect(throws: RoundPolicyError.quorumUnreachable(quorum: 3, setting: "clients_per_round", value: 2)) {
      try policy(1, 4, 2, 3)
    }
    #expect(throws: RoundPolicyError.quorumUnreachable(quorum: 3, setting: "min_clients", value: 2)) {
      try policy(1, 2, 4, 3)
    }
    #expect(throws: RoundPolicyError.deadlineNotPositive) { try policy(1, 1, 1, 1, .zero) }
  }
}

@Suite("Clients that have spent their own budget")
struct RetirementTests {
  private func decline(_ name: String, _ round: Int, _ code: String) -> RunEvent {
    .declined(name: name, round: round, code: code, reason: "spent")
  }

  @Test(
    "are not asked again in the run, also when they come back",
    arguments: ["budget-spent", "participations-spent"]
  )
  func notAgain(code: String) throws {
    var state = try makeState(rounds: 3)
    _ = state.ready("a", "b", "c")
    let effects = state.apply(decline("c", 1, code), now: at(1))
    #expect(
      effects == [
        .retire(name: "c", code: code), .roster(name: "c", isReady: false),
        .record(name: "c", round: 1, code: ReasonCode.declined, reason: "\(code): spent"),
      ]
    )
    _ = state.update("a", 1)
    #expect(state.update("b", 1).committed?.count == 2)
    #expect(state.apply(.roundCommitted(round: 1), now: at(2)).asked == ["a", "b"])
    _ = state.apply(.clientLost(name: "c"), now: at(3))
    #expect(state.ready("c").isEmpty && state.ready["c"] == nil)
    _ = state.update("a", 2)
    _ = state.update("b", 2)
    #expect(state.apply(.roundCommitted(round: 2), now: at(4)).asked == ["a", "b"])
    // Another reason to decline is for one round only.
    var other = try makeState(rounds: 3)
    _ = other.ready("a", "b", "c")
    _ = other.apply(decline("c", 1, "no-time"), now: at(1))
    _ = other.update("a", 1)
    _ = other.update("b", 1)
    #expect(other.apply(.roundCommitted(round: 1), now: at(2)).asked == ["a", "b", "c"])
  }

  @Test("end the run at once when the others cannot make a quorum, but not a round that has its updates")
  func tooFew() throws {
    var state = try makeState(rounds: 3)
    _ = state.ready("a", "b", "c")
    #expect(state.apply(decline("c", 1, "budget-spent"), now: at(1)).outcome == nil)
    // Lost clients may come back, so they are still counted.
    #expect(state.apply(.clientLost(name: "b"), now: at(1)).outcome == nil)
    guard case .failed(let reason)? = state.apply(decline("a", 1, "participations-spent"), now: at(2)).outcome else {
      Issue.record("the run goes on")
      return
    }
    #expect(
      reason == "round 1 needs 2 updates, but 1 of 3 clients are left; the others have spent their privacy budget or "
        + "their participations, or were sent away"
    )

    var complete = try makeState(rounds: 3)
    _ = complete.ready("a", "b", "c")
    _ = complete.update("a", 1)
    _ = complete.update("b", 1)
    _ = complete.apply(decline("a", 2, "budget-spent"), now: at(1))
    #expect(complete.apply(decline("c", 1, "budget-spent"), now: at(1)).committed?.map(\.name) == ["a", "b"])
    let next = complete.apply(.roundCommitted(round: 1), now: at(2))
    #expect(next.first == .announceCommit(round: 1, to: ["a", "b", "c"], updates: 2))
    guard case .failed? = next.outcome else {
      Issue.record("the run goes on")
      return
    }
    // Before the run has begun others may still join.
    var early = try makeState()
    _ = early.ready("a", "b")
    #expect(early.apply(decline("a", 0, "budget-spent"), now: at(1)).outcome == nil)
    #expect(early.ready("c").isEmpty)
    #expect(early.ready("d").asked == ["b", "c", "d"])
  }
}

@Suite("Cohorts that the driver draws")
struct SecretCohortTests {
  private func makeState(population: Int = 3, needsAll: Bool = false, rounds: Int = 2) throws -> RunState {
    RunState(
      policy: try RoundPolicy(
        rounds: rounds,
        minClients: 2,
        clientsPerRound: 2,
        quorum: 1,
        deadline: .seconds(60),
        draw: .secret(population: population, needsAll: needsAll)
      ),
      seed: 1
    )
  }

  @Test("are drawn among present and absent clients, once, and closed with however few updates")
  func life() throws {
    var state = try makeState()
    #expect(state.ready("b").isEmpty)
    #expect(state.ready("a") == [.drawCohort(round: 1, from: ["a", "b"])])
    #expect(state.ready("c").isEmpty && state.phase == .drawing)
    _ = state.apply(.clientLost(name: "c"), now: at(0))
    let opened = state.apply(.cohortDrawn(round: 1, cohort: ["c", "a"]), now: at(0))
    #expect(
      opened == [
        .openAttempt(round: 1, attempt: 1, cohort: ["a", "c"]), .armTimer(round: 1, attempt: 1, at: at(60)),
        .sendRound(to: ["a"], round: 1, attempt: 1, deadline: at(60)),
      ]
    )
    // A second draw changes nothing.
    #expect(state.apply(.cohortDrawn(round: 1, cohort: ["b"]), now: at(0)).isEmpty)
    // Who comes back while the round is open is sent it; a stranger to the cohort and to the population is not.
    #expect(state.ready("c").asked == ["c"])
    #expect(
      state.ready("d") == [
        .record(
          name: "d",
          round: 1,
          code: ReasonCode.populationFull,
          reason: "the run draws from 3 clients, and so many joined before"
        )
      ]
    )
    #expect(state.update("b", 1).acks == [.late])
    _ = state.update("a", 1)
    let end = state.apply(.deadlinePassed(round: 1, attempt: 1), now: at(60))
    #expect(end.committed?.map(\.name) == ["a"])
    #expect(
      state.apply(.roundCommitted(round: 1), now: at(61)) == [
        .announceCommit(round: 1, to: ["a", "c"], updates: 1), .drawCohort(round: 2, from: ["a", "b", "c"]),
      ]
    )
    // Nobody drawn: the round is committed all the same.
    let empty = state.apply(.cohortDrawn(round: 2, cohort: []), now: at(62))
    #expect(empty.committed == [] && empty.first == .openAttempt(round: 2, attempt: 1, cohort: []))
    #expect(state.apply(.roundCommitted(round: 2), now: at(63)).outcome == .completed)
    #expect(state.participations == ["a": 1, "c": 1])
  }

  @Test("wait for the whole population where the draw needs it, and for a quorum that is present")
  func waits() throws {
    var state = try makeState(needsAll: true)
    #expect(state.ready("a", "b").isEmpty)
    #expect(state.ready("c") == [.drawCohort(round: 1, from: ["a", "b", "c"])])
    for name in ["a", "b", "c"] { _ = state.apply(.clientLost(name: name), now: at(1)) }
    // All absent: the round is over at once, but the next is not drawn before somebody is here.
    #expect(state.apply(.cohortDrawn(round: 1, cohort: ["a", "b"]), now: at(1)).committed == [])
    #expect(state.apply(.roundCommitted(round: 1), now: at(2)).count == 1)
    #expect(state.phase == .waiting)
    #expect(state.ready("b") == [.drawCohort(round: 2, from: ["a", "b", "c"])])
    #expect(state.apply(.budgetSpent(reason: "enough"), now: at(3)).outcome == .budgetSpent(reason: "enough"))
    #expect(state.committedRounds == 1)
  }

  @Test("count clients that were told to come back later among the population")
  func turnedAway() throws {
    var state = try makeState(needsAll: true)
    #expect(state.ready("a", "b").isEmpty)
    #expect(
      state.apply(.clientTurnedAway(name: "c"), now: at(1)) == [
        .roster(name: "c", isReady: false), .drawCohort(round: 1, from: ["a", "b", "c"]),
      ]
    )
    #expect(state.ready["c"] == nil)
    // Once is enough, and a population that is complete takes nobody else.
    #expect(state.apply(.clientTurnedAway(name: "c"), now: at(2)).isEmpty)
    #expect(state.apply(.clientTurnedAway(name: "d"), now: at(2)).codes == [ReasonCode.populationFull])
    #expect(state.known == ["a", "b", "c"])
  }

  @Test("are not drawn again after a restart once they are durable")
  func recovery() throws {
    func recovered(attempt: Int, _ members: [String: RunState.MemberStatus]) throws -> RunState {
      RunState(
        policy: try makeState().policy,
        seed: 1,
        recovered: RecoveredRun(
          lastCommittedRound: 1,
          lastContributions: [],
          attempt: attempt,
          members: members,
          outcome: nil,
          roster: ["a"],
          known: ["a", "b", "c"]
        )
      )
    }
    var open = try recovered(attempt: 1, ["b": .training])
    #expect(open.resume(now: at(0)).contains(.armTimer(round: 2, attempt: 1, at: at(60))))
    #expect(open.ready("a").isEmpty)
    #expect(open.ready("b").asked == ["b"])
    #expect(open.update("b", 2).committed?.map(\.name) == ["b"])
    var empty = try recovered(attempt: 1, [:])
    #expect(empty.resume(now: at(0)).committed == [])
    var undrawn = try recovered(attempt: 0, [:])
    #expect(undrawn.resume(now: at(0)) == [.armTimer(round: 0, attempt: 0, at: at(60))])
    #expect(undrawn.ready("a") == [.drawCohort(round: 2, from: ["a", "b", "c"])])
  }
}
