import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAFederation
import Foundation
import Testing

/// An asynchronous run whose events a test plays by hand.
private struct BufferedDriver {
  var state: RunState

  init(
    _ names: [String] = ["a", "b", "c", "d"],
    rounds: Int = 5,
    atWork: Int = 2,
    size: Int = 2,
    quorum: Int = 1,
    mostStale: Int = 10
  ) throws {
    state = RunState(
      policy: try RoundPolicy(
        rounds: rounds,
        minClients: names.count,
        clientsPerRound: atWork,
        quorum: quorum,
        deadline: .seconds(60),
        buffer: try BufferTerms(size: size, mostStale: mostStale)
      ),
      seed: 3
    )
  }

  /// Plays an event; what is committed is durable at once.
  mutating func play(_ event: RunEvent, at time: Double = 1) -> [RunEffect] {
    var effects = state.apply(event, now: at(time))
    if case .committing = state.phase {
      effects += state.apply(.roundCommitted(round: state.current.round), now: at(time))
    }
    return effects
  }

  mutating func ready(_ names: [String] = ["a", "b", "c", "d"]) -> [String] {
    names.flatMap { play(.clientReady(name: $0, examples: 1, pendingRound: nil), at: 0).asked }
  }

  mutating func update(_ name: String, _ start: Int, at time: Double = 1) -> [RunEffect] {
    play(.updateReceived(name: name, round: start, examples: 1, digest: "\(name)-\(start)"), at: time)
  }
}

@Suite("Asynchronous runs")
struct BufferedRunTests {
  @Test("keep so many at work, close with the first updates, and count the late ones by their start")
  func course() throws {
    var driver = try BufferedDriver()
    let first = driver.ready()
    #expect(first.count == 2)
    // Whoever is done makes room at once; the round is not over.
    let second = driver.update(first[0], 1)
    #expect(second.acks == [.accepted] && second.asked.count == 1 && second.committed == nil)
    let newcomer = try #require(second.asked.first)
    #expect(!first.contains(newcomer))
    // The buffer is full: the slow one goes on, and another starts from the new state.
    let third = driver.update(newcomer, 1)
    #expect(third.committed?.map(\.start) == [1, 1])
    #expect(driver.state.current.round == 2)
    #expect(driver.state.current.members[first[1]] == .training)
    #expect(third.asked.count == 1 && !third.asked.contains(first[1]))
    let fresh = try #require(third.asked.first)
    #expect(driver.update(fresh, 2).acks == [.accepted])
    let last = driver.update(first[1], 1)
    #expect(last.acks == [.accepted])
    let starts = Dictionary(uniqueKeysWithValues: (last.committed ?? []).map { ($0.name, $0.start) })
    #expect(starts == [fresh: 2, first[1]: 1])
    #expect(driver.state.current.round == 3)
  }

  @Test("recognise what is repeated, also rounds later, and count nothing twice")
  func repeats() throws {
    var driver = try BufferedDriver(["a", "b"], atWork: 2, size: 1)
    #expect(driver.ready(["a", "b"]) == ["a", "b"])
    #expect(driver.update("a", 1).committed?.map(\.name) == ["a"])
    #expect(driver.update("a", 1).acks == [.duplicate])
    #expect(driver.update("a", 2).committed?.map(\.name) == ["a"])
    #expect(driver.update("a", 3).committed?.map(\.name) == ["a"])
    // Its first start is three rounds back by now, and still its own.
    #expect(driver.update("b", 1).committed?.map(\.start) == [1])
    #expect(driver.update("b", 1).acks == [.duplicate])
    let other = driver.play(.updateReceived(name: "b", round: 1, examples: 1, digest: "another"))
    #expect(other.acks == [.refused] && other.codes == [ReasonCode.conflict])
    #expect(driver.update("a", 9).codes == [ReasonCode.futureRound])
  }

  @Test("answer LATE who is too far behind, and give the place to another")
  func tooStale() throws {
    var driver = try BufferedDriver(["a", "b"], atWork: 2, size: 1, mostStale: 1)
    _ = driver.ready(["a", "b"])
    _ = driver.update("a", 1)
    #expect(driver.state.current.members["b"] == .training)
    let effects = driver.update("a", 2)
    // "b" would be two rounds behind: it is asked again, for the new state.
    #expect(effects.asked.contains("b") && driver.state.current.round == 3)
    let late = driver.update("b", 1)
    #expect(late.acks == [.late] && late.codes == [ReasonCode.stale])
    #expect(driver.update("b", 3).acks == [.accepted])
  }

  @Test("send a client that comes back what it was at work on, whatever the run did since")
  func returning() throws {
    var driver = try BufferedDriver(["a", "b"], atWork: 2, size: 1)
    _ = driver.ready(["a", "b"])
    _ = driver.play(.clientLost(name: "b"))
    #expect(driver.update("a", 1).committed != nil)
    let back = driver.play(.clientReady(name: "b", examples: 1, pendingRound: nil))
    guard case .sendRound(["b"], 1, _, _)? = back.last(where: { if case .sendRound = $0 { true } else { false } })
    else {
      Issue.record("\(back)")
      return
    }
    _ = driver.play(.clientLost(name: "b"))
    // With a sealed update of that round it is not sent again.
    #expect(driver.play(.clientReady(name: "b", examples: 1, pendingRound: 1)).asked.isEmpty)
    #expect(driver.update("b", 1).acks == [.accepted])
  }

  @Test("close with the quorum when the deadline passes, and fail below it after all attempts")
  func deadlines() throws {
    var driver = try BufferedDriver(["a", "b", "c"], atWork: 2, size: 3, quorum: 1)
    let asked = driver.ready(["a", "b", "c"])
    _ = driver.update(asked[0], 1)
    let passed = driver.play(.deadlinePassed(round: 1, attempt: 1), at: 60)
    #expect(passed.committed?.count == 1 && driver.state.current.round == 2)

    var idle = try BufferedDriver(["a", "b", "c"], atWork: 2, size: 2, quorum: 2)
    let first = idle.ready(["a", "b", "c"])
    let second = idle.play(.deadlinePassed(round: 1, attempt: 1), at: 60)
    // Those two still count when they come, but take nobody's place any more.
    #expect(second.asked == ["a", "b", "c"].filter { !first.contains($0) } && idle.state.current.attempt == 2)
    #expect(idle.update(first[0], 1, at: 61).acks == [.accepted])
    _ = idle.play(.deadlinePassed(round: 1, attempt: 2), at: 120)
    let end = idle.play(.deadlinePassed(round: 1, attempt: 3), at: 180)
    guard case .failed? = end.outcome else {
      Issue.record("\(end)")
      return
    }
  }

  @Test("ask nobody in the last round for what cannot count any more")
  func lastRound() throws {
    var driver = try BufferedDriver(rounds: 1, atWork: 4, size: 2)
    let asked = driver.ready()
    #expect(asked.count == 2)
    _ = driver.update(asked[0], 1)
    #expect(driver.update(asked[1], 1).outcome == .completed)
  }

  @Test("let a drained client finish, and take a removed one out")
  func leaving() throws {
    var driver = try BufferedDriver(["a", "b", "c"], atWork: 3, size: 2)
    _ = driver.ready(["a", "b", "c"])
    _ = driver.play(.dismissed(name: "c", reason: "asked", discards: false))
    _ = driver.update("a", 1)
    _ = driver.update("b", 1)
    #expect(driver.state.current.round == 2 && driver.state.current.members["c"] == .training)
    _ = driver.update("a", 2)
    let last = driver.update("c", 1)
    #expect(last.acks == [.accepted] && last.contains(.dismiss(name: "c", reason: "asked")))
    _ = driver.update("a", 3)
    let removed = driver.play(.dismissed(name: "a", reason: "asked", discards: true))
    #expect(removed.contains(.dismiss(name: "a", reason: "asked")))
    #expect(driver.update("a", 3).codes == [ReasonCode.removed])
    #expect(driver.state.current.contributions.isEmpty)
  }

  @Test("go on after a restart with who was at work, what is in the buffer, and what was counted before")
  func recovery() throws {
    let folder = try TemporaryFolder()
    let start = TensorSet(["m.lora_A.weight": try Tensor(shape: [1, 2], values: [1, 2])])
    let description = RunStore.Description(runID: "r", seed: 1, manifest: Data())
    let directory = folder.url.appendingPathComponent("run")
    var store = try RunStore.create(at: directory, run: description, initialState: start)
    func keep(_ name: String, in round: Int, from start: Int, _ value: Float) throws {
      let tensors = TensorSet(["m.lora_A.weight": try Tensor(shape: [1, 2], values: [value, value])])
      _ = try store.storeUpdate(
        round: round,
        name: name,
        examples: 2,
        metrics: [:],
        digest: "\(name)-\(start)",
        tensors: tensors,
        start: start
      )
    }
    let strategy = try Strategy(name: .fedsaLoRA, head: .frozen)
    let terms = try BufferTerms(size: 2, exponent: 1)
    func contribution(_ name: String, _ start: Int) -> Contribution {
      Contribution(name: name, examples: 2, digest: "\(name)-\(start)", start: start)
    }
    func commit(_ round: Int, _ contributions: [Contribution]) throws -> TensorSet {
      let next = try store.aggregateBuffered(
        round: round,
        contributions: contributions,
        strategy: strategy,
        weighting: .uniform,
        terms: terms
      )
      try store.commit(round: round, contributions: contributions, counts: [:], state: next)
      return next
    }
    try store.openAttempt(round: 1, attempt: 1, cohort: ["a", "b", "c"])
    try keep("a", in: 1, from: 1, 3)
    let second = try commit(1, [contribution("a", 1)])
    #expect(second["m.lora_A.weight"]?.values == [3, 3])
    try store.openAttempt(round: 2, attempt: 1, cohort: ["a"])
    try keep("a", in: 2, from: 2, 4)
    try keep("b", in: 2, from: 1, 5)
    // a moves the state by 1; b, a round behind, by half of what it changed: (1 + ½·4)/2 and (1 + ½·3)/2.
    #expect(try commit(2, [contribution("a", 2), contribution("b", 1)])["m.lora_A.weight"]?.values == [4.5, 4.25])
    // An update can come before the next round is opened, while too few others are there.
    try keep("e", in: 3, from: 2, 7)
    #expect(try store.recover(isBuffered: true).attempt == 0)
    try store.openAttempt(round: 3, attempt: 1, cohort: ["a", "b", "d"])
    try store.record(name: "d", round: 3, code: ReasonCode.declined, reason: "")
    try keep("b", in: 3, from: 3, 6)
    store.close()
    store = try RunStore.open(at: directory)

    let recovered = try store.recover(isBuffered: true)
    #expect(recovered.starts == ["a": 3, "b": 3, "c": 1, "d": 3, "e": 2])
    #expect(
      recovered.members == [
        "a": .training, "b": .accepted(examples: 2, digest: "b-3"), "c": .training, "d": .declined,
        "e": .accepted(examples: 2, digest: "e-2"),
      ]
    )
    #expect(recovered.settled == [contribution("a", 2), contribution("b", 1)])
    func resumed(mostStale: Int) throws -> RunState {
      let policy = try RoundPolicy(
        rounds: 9,
        minClients: 1,
        clientsPerRound: 2,
        quorum: 1,
        deadline: .seconds(9),
        buffer: try BufferTerms(size: 2, mostStale: mostStale)
      )
      return RunState(policy: policy, seed: 1, recovered: recovered)
    }
    let state = try resumed(mostStale: 2)
    #expect(state.phase == .open)
    #expect(state.admission(name: "b", round: 1, digest: "b-1") == .answered(.duplicate, code: ReasonCode.duplicate))
    #expect(state.admission(name: "c", round: 1, digest: "c-1") == .wanted)
    let stale = RunState.Admission.answered(.late, code: ReasonCode.stale)
    #expect(try resumed(mostStale: 1).admission(name: "c", round: 1, digest: "c-1") == stale)
  }

  @Test("wait for nobody after a restart, and know at the deadline who has not come back")
  func afterARestart() throws {
    var driver = try BufferedDriver(["a"], atWork: 2, size: 2)
    driver.state = RunState(
      policy: driver.state.policy,
      seed: 3,
      recovered: RecoveredRun(
        lastCommittedRound: 1,
        lastContributions: [],
        attempt: 0,
        members: [:],
        outcome: nil,
        roster: ["a", "b", "c"]
      )
    )
    #expect(driver.state.resume(now: at(0)) == [.armTimer(round: 0, attempt: 0, at: at(60))])
    let back = driver.play(.clientReady(name: "a", examples: 1, pendingRound: nil))
    #expect(back.asked == ["a"] && !back.contains(.roster(name: "a", isReady: true)))
    let later = driver.play(.deadlinePassed(round: 0, attempt: 0), at: 60)
    #expect(later == [.roster(name: "b", isReady: false), .roster(name: "c", isReady: false)])
  }
}
