import FedLoRACoordinator
import Testing

/// A run in which four clients are ready and its first round is open.
private func openState(
  clientsPerRound: Int = 4,
  quorum: Int = 1,
  overSelected: Int = 0,
  uploadGrace: Duration = .zero
) throws -> (state: RunState, cohort: [String]) {
  var state = RunState(
    policy: try RoundPolicy(
      rounds: 3,
      minClients: 4,
      clientsPerRound: clientsPerRound,
      quorum: quorum,
      deadline: .seconds(60),
      overSelected: overSelected,
      uploadGrace: uploadGrace
    ),
    seed: 1
  )
  var effects: [RunEffect] = []
  for name in ["a", "b", "c", "d"] {
    effects += state.apply(.clientReady(name: name, examples: 1, pendingRound: nil), now: at(0))
  }
  return (state, effects.asked.sorted())
}

extension RunState {
  fileprivate mutating func update(_ name: String, _ round: Int = 1, at time: Double = 1) -> [RunEffect] {
    apply(.updateReceived(name: name, round: round, examples: 1, digest: "\(name)-\(round)"), now: .init(time))
  }

  fileprivate mutating func sendAway(_ name: String, discards: Bool) -> [RunEffect] {
    apply(.dismissed(name: name, reason: "asked", discards: discards), now: .init(2))
  }
}

extension RunInstant {
  fileprivate init(_ seconds: Double) { self.init(sinceOrigin: .seconds(seconds)) }
}

@Suite("Over-selection")
struct OverSelectionTests {
  @Test("asks more, closes with the first who are needed, and answers the others LATE")
  func closesEarly() throws {
    var (state, cohort) = try openState(clientsPerRound: 2, quorum: 2, overSelected: 1)
    #expect(cohort.count == 3)
    #expect(state.update(cohort[2]).committed == nil)
    let last = state.update(cohort[0])
    #expect(last.committed?.map(\.name) == [cohort[0], cohort[2]])
    #expect(last.codes == [ReasonCode.accepted, ReasonCode.surplus])
    #expect(state.update(cohort[1]).acks == [.late])
  }

  @Test("without it a round waits for everybody who was asked")
  func waits() throws {
    var (state, cohort) = try openState(clientsPerRound: 3, quorum: 2)
    #expect(state.update(cohort[0]).committed == nil)
    #expect(state.update(cohort[1]).committed == nil)
    #expect(state.update(cohort[2]).committed?.count == 3)
  }

  @Test("is refused where cohorts are secret, and numbers below 0 are refused by name")
  func refused() {
    func policy(overSelected: Int = 0, mostConnected: Int = 0, draw: CohortDraw = .seeded(.random)) throws {
      _ = try RoundPolicy(
        rounds: 1,
        minClients: 2,
        clientsPerRound: 2,
        quorum: 1,
        deadline: .seconds(1),
        overSelected: overSelected,
        mostConnected: mostConnected,
        draw: draw
      )
    }
    #expect(throws: RoundPolicyError.overSelectedSecretly) {
      try policy(overSelected: 1, draw: .secret(population: 4, needsAll: false))
    }
    #expect(throws: RoundPolicyError.negative(setting: "over_selected")) { try policy(overSelected: -1) }
    #expect(throws: RoundPolicyError.tooFewConnected(value: 2, needed: 3)) {
      try policy(overSelected: 1, mostConnected: 2)
    }
  }
}

@Suite("A deadline while updates are arriving")
struct UploadGraceTests {
  @Test("is put off as long as there is progress, at most by the grace")
  func putOff() throws {
    var (state, _) = try openState(uploadGrace: .seconds(12))
    _ = state.update("a")
    var time = 60.0
    var fired = 0
    while state.phase == .open, fired < 20 {
      #expect(state.apply(.uploading(round: 1, names: ["b"]), now: at(time)).isEmpty)
      let effects = state.apply(.deadlinePassed(round: 1, attempt: 1), now: at(time))
      fired += 1
      for case .armTimer(_, _, let next) in effects { time = next.sinceOrigin / .seconds(1) }
    }
    #expect(state.phase == .committing && time == 72 && fired == 4)
  }

  @Test("closes the round where nothing moves, or those who send are not awaited")
  func closes() throws {
    for names: Set<String> in [[], ["a"], ["stranger"]] {
      var (state, _) = try openState(uploadGrace: .seconds(12))
      _ = state.update("a")
      _ = state.apply(.uploading(round: 1, names: names), now: at(60))
      #expect(state.apply(.deadlinePassed(round: 1, attempt: 1), now: at(60)).committed?.count == 1)
    }
  }

  @Test("is not put off without a grace")
  func noGrace() throws {
    var (state, _) = try openState()
    _ = state.update("a")
    _ = state.apply(.uploading(round: 1, names: ["b"]), now: at(60))
    #expect(state.apply(.deadlinePassed(round: 1, attempt: 1), now: at(60)).committed?.count == 1)
  }
}

@Suite("A client that the operator sends away")
struct LeavingClientTests {
  @Test("drained while it trains: its update counts, it is let go with the commit, and asked no more")
  func drained() throws {
    var (state, _) = try openState()
    let effects = state.sendAway("b", discards: false)
    #expect(
      effects == [
        .sendAway(name: "b", round: 1, code: ReasonCode.drained, reason: "asked", discards: false),
        .roster(name: "b", isReady: false),
      ]
    )
    for name in ["a", "c", "d"] { #expect(state.update(name).committed == nil) }
    #expect(state.update("b").committed?.map(\.name) == ["a", "b", "c", "d"])
    let next = state.apply(.roundCommitted(round: 1), now: at(3))
    #expect(next.contains(.dismiss(name: "b", reason: "asked")))
    #expect(next.asked == ["a", "c", "d"])
    #expect(
      state.apply(.clientReady(name: "b", examples: 1, pendingRound: nil), now: at(4)) == [
        .dismiss(name: "b", reason: "asked")
      ]
    )
  }

  @Test("drained and restarted: it is given its round again, and no other")
  func returns() throws {
    var (state, _) = try openState()
    _ = state.sendAway("b", discards: false)
    _ = state.apply(.clientLost(name: "b"), now: at(3))
    let back = state.apply(.clientReady(name: "b", examples: 1, pendingRound: nil), now: at(4))
    #expect(back.asked == ["b"] && state.current.members["b"] == .training && state.ready["b"] == nil)
  }

  @Test("removed after its update was accepted: the update is taken out, and a repetition is refused")
  func removed() throws {
    var (state, _) = try openState()
    _ = state.update("b")
    let effects = state.sendAway("b", discards: true)
    #expect(effects.first == .sendAway(name: "b", round: 1, code: ReasonCode.removed, reason: "asked", discards: true))
    #expect(effects.contains(.dismiss(name: "b", reason: "asked")))
    #expect(state.admission(name: "b", round: 1, digest: "b-1") == .answered(.refused, code: ReasonCode.removed))
    for name in ["a", "c"] { #expect(state.update(name).committed == nil) }
    #expect(state.update("d").committed?.map(\.name) == ["a", "c", "d"])
    #expect(state.sendAway("b", discards: true).isEmpty)
  }

  @Test("removed as the last one that was awaited: the round closes; too few are left: the run fails and says why")
  func lastOne() throws {
    var (state, _) = try openState(quorum: 3)
    for name in ["a", "b", "c"] { _ = state.update(name) }
    #expect(state.sendAway("d", discards: true).committed?.map(\.name) == ["a", "b", "c"])
    var (other, _) = try openState(quorum: 3)
    _ = other.sendAway("a", discards: true)
    #expect(other.sendAway("b", discards: true).outcome != nil)
  }

  @Test("after a restart removed clients stay away, and drained ones may finish")
  func recovered() throws {
    let recovered = RecoveredRun(
      lastCommittedRound: 0,
      lastContributions: [],
      attempt: 1,
      members: ["a": .training, "b": .training, "c": .training],
      outcome: nil,
      roster: ["c"],
      known: ["a", "b", "c"],
      retired: ["a", "b"],
      dismissed: [
        "a": Dismissal(reason: "x", isRemoval: true), "b": Dismissal(reason: "y", isRemoval: false),
      ],
      attemptWasGiven: true
    )
    let (open, _) = try openState()
    let state = RunState(policy: open.policy, seed: 1, recovered: recovered)
    #expect(state.current.members == ["a": .declined, "b": .training, "c": .training])
  }
}
