import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAFederation
import Foundation
import Testing

/// A coordinator without a network: state machine, store and aggregation driven as a server would, with crashes between
/// any two effects.
private struct Driver {
  struct Crash: Error {}

  let directory: URL
  let policy: RoundPolicy
  let strategy: Strategy
  /// Nil for the mean by examples.
  let robust: RobustRule?
  var store: RunStore?
  var state: RunState
  /// Effects left until the next crash; nil for never.
  var fuse: Int?
  /// What each client was told to train.
  var tasks: [String: Int] = [:]
  var outcome: RunOutcome?

  static let run = RunStore.Description(runID: "resume", seed: 11, manifest: Data("m".utf8))

  init(directory: URL, initialState: TensorSet, rule: SelectionRule, robust: RobustRule? = nil) throws {
    self.directory = directory
    self.robust = robust
    let cohort = robust?.leastUpdates ?? (rule == .balanced ? 2 : 3)
    policy = try RoundPolicy(
      rounds: 5,
      minClients: max(4, cohort),
      clientsPerRound: cohort,
      quorum: cohort,
      deadline: .seconds(60),
      draw: .seeded(rule)
    )
    strategy = try Strategy(name: .fedsvd, head: .shared, refactoriseEvery: 2)
    store = try RunStore.create(at: directory, run: Driver.run, initialState: initialState)
    state = RunState(policy: policy, seed: Driver.run.seed)
  }

  mutating func step() throws {
    guard let left = fuse else { return }
    if left == 0 { throw Crash() }
    fuse = left - 1
  }

  mutating func apply(_ event: RunEvent) throws { try perform(state.apply(event, now: at(0))) }

  mutating func perform(_ effects: [RunEffect]) throws {
    guard let store else { return }
    for effect in effects {
      try step()
      switch effect {
      case .openAttempt(let round, let attempt, let cohort), .extendCohort(let round, let attempt, let cohort):
        try store.openAttempt(round: round, attempt: attempt, cohort: cohort)
      case .sendRound(let names, let round, _, _): for name in names { tasks[name] = round }
      case .roster(let name, let isReady): try store.setRoster(name: name, isReady: isReady)
      case .retire(let name, let code): try store.retire(name: name, code: code)
      case .sendAway, .dismiss: break
      case .record(let name, let round, let code, let reason):
        try store.record(name: name, round: round, code: code, reason: reason)
      case .commit(let round, let contributions, let counts):
        let next =
          if let robust {
            try store.aggregateRobustly(
              round: round,
              contributions: contributions,
              strategy: strategy,
              rule: robust
            ).state
          } else {
            try store.aggregate(round: round, contributions: contributions, strategy: strategy, weighting: .examples)
          }
        try step()
        try store.commit(round: round, contributions: contributions, counts: counts, state: next)
        try step()
        try apply(.roundCommitted(round: round))
      case .finish(let outcome):
        try store.finish(outcome)
        self.outcome = outcome
      case .ack, .armTimer, .announceCommit, .drawCohort: break
      }
    }
  }

  /// All that a process loses when it is killed is lost; the folder is opened again.
  mutating func restart() throws {
    store = nil
    tasks = [:]
    let store = try RunStore.open(at: directory)
    self.store = store
    state = RunState(policy: policy, seed: store.run.seed, recovered: try store.recover())
    try perform(state.resume(now: at(0)))
  }

  /// What a client trains: a function of its name and the state that it was sent.
  func trained(_ name: String, _ round: Int) throws -> TensorSet {
    guard let store else { throw Crash() }
    var generator = SeededGenerator(seed: UInt64(name.utf8.reduce(round) { $0 * 31 + Int($1) }))
    var update = try store.state(afterRound: round - 1).filter(strategy.isUploaded)
    for entry in update.entries {
      let noise = try generator.tensor(entry.tensor.shape)
      for (index, value) in noise.values.enumerated() { update[entry.name]?.values[index] += value }
    }
    return update
  }

  mutating func deliver(_ name: String, _ round: Int) throws {
    let digest = "\(name)-\(round)"
    if case .wanted = state.admission(name: name, round: round, digest: digest) {
      try step()
      _ = try store?.storeUpdate(
        round: round,
        name: name,
        examples: 10 + name.utf8.count,
        metrics: ["loss": 1],
        digest: digest,
        tensors: trained(name, round)
      )
      try step()
    }
    tasks[name] = nil
    try apply(.updateReceived(name: name, round: round, examples: 10 + name.utf8.count, digest: digest))
  }
}

/// A run that waits for something that nobody will do.
private struct Stuck: Error {
  let seed: UInt64
  let state: RunState
}

@Suite("Resuming a run")
struct ResumeTests {
  private let names = ["north", "south", "east", "west", "hub"]

  private func initialState() throws -> TensorSet {
    var generator = SeededGenerator(seed: 4)
    return TensorSet([
      "l.lora_A.weight": try generator.tensor([2, 7]), "l.lora_B.weight": Tensor(zeros: [5, 2]),
      "classifier.bias": try generator.tensor([3]),
    ])
  }

  /// Runs to the end; after each crash all clients come back. Returns the bytes of every round's state file.
  private func play(
    seed: UInt64,
    crashes: Bool,
    rule: SelectionRule = .random,
    robust: RobustRule? = nil
  ) throws -> (
    files: [Data], cohorts: [[String]], restarts: Int
  ) {
    let folder = try TemporaryFolder()
    var generator = SeededGenerator(seed: seed)
    var driver = try Driver(
      directory: folder.url.appendingPathComponent("run"),
      initialState: initialState(),
      rule: rule,
      robust: robust
    )
    var restarts = 0
    var isConnected = false
    var steps = 0
    while driver.outcome == nil {
      steps += 1
      guard steps < 10_000 else { throw Stuck(seed: seed, state: driver.state) }
      do {
        if crashes, driver.fuse == nil { driver.fuse = Int.random(in: 0...25, using: &generator) }
        if !isConnected {
          // Sorted for the first start, so that the first cohort is drawn from the same four clients or more.
          for name in names.sorted() {
            try driver.apply(.clientReady(name: name, examples: 1, pendingRound: nil))
          }
          isConnected = true
        }
        for name in driver.tasks.keys.sorted().shuffled(using: &generator) {
          guard let round = driver.tasks[name] else { continue }
          // From the third round on one of them has had enough of balanced runs.
          if rule == .balanced, name == "hub", round >= 3 {
            driver.tasks[name] = nil
            try driver.apply(.declined(name: name, round: round, code: ReasonCode.budgetSpent, reason: "spent"))
            continue
          }
          try driver.deliver(name, round)
        }
      } catch is Driver.Crash {
        restarts += 1
        driver.fuse = nil
        try driver.restart()
        isConnected = false
      }
    }
    #expect(driver.outcome == .completed, "seed \(seed)")
    let states = driver.directory.appendingPathComponent("state")
    return (
      try (0...5).map { try Data(contentsOf: states.appendingPathComponent("round-00000\($0).safetensors")) },
      try (1...5).map { try driver.store?.participants(round: $0) ?? [] }, restarts
    )
  }

  @Test("killed between any two effects, however often, the run ends with the same bytes")
  func sameBytes() throws {
    let expected = try play(seed: 0, crashes: false).files
    #expect(Set(expected).count == 6)
    var restarts = 0
    for seed in 1...12 as ClosedRange<UInt64> {
      let (files, _, count) = try play(seed: seed, crashes: true)
      #expect(files == expected, "seed \(seed)")
      restarts += count
    }
    #expect(restarts > 12)
    // And without crashes in another order of the updates.
    for seed in 26...28 as ClosedRange<UInt64> {
      #expect(try play(seed: seed, crashes: false).files == expected, "seed \(seed)")
    }
  }

  @Test(
    "the same holds of every robust rule",
    arguments: [
      RobustRule.Kind.normBound(.medianTimes(1)), .median, .trimmedMean(fraction: 0), .krum, .multiKrum(keep: 0),
      .geometricMedian(smoothing: 1e-6, iterations: 100),
    ]
  )
  func robustBytes(kind: RobustRule.Kind) throws {
    let robust = try RobustRule(kind, byzantine: 1)
    let expected = try play(seed: 0, crashes: false, robust: robust).files
    #expect(Set(expected).count == 6)
    var restarts = 0
    for seed in 1...3 as ClosedRange<UInt64> {
      let (files, _, count) = try play(seed: seed, crashes: true, robust: robust)
      #expect(files == expected, "seed \(seed)")
      restarts += count
    }
    #expect(restarts > 3)
    #expect(try play(seed: 27, crashes: false, robust: robust).files == expected)
  }

  @Test("balanced cohorts come out the same after crashes, and a client that has retired stays so")
  func sameCohorts() throws {
    let expected = try play(seed: 0, crashes: false, rule: .balanced)
    // Four of five were here for the first draw; then the fifth is first in turn, until it retires.
    #expect(expected.cohorts.joined().filter { $0 == "hub" }.count <= 2)
    let others = ["east", "north", "south", "west"].map { name in expected.cohorts.joined().filter { $0 == name }.count
    }
    #expect((others.max() ?? 0) - (others.min() ?? 0) <= 1, "\(expected.cohorts)")
    for seed in 1...60 as ClosedRange<UInt64> {
      let run = try play(seed: seed, crashes: true, rule: .balanced)
      #expect(run.cohorts == expected.cohorts && run.files == expected.files, "seed \(seed)")
    }
  }

  @Test("a recovered state waits for who was at work, and closes a round that lacks nobody")
  func recoveredStates() throws {
    let policy = try RoundPolicy(rounds: 3, minClients: 2, clientsPerRound: 2, quorum: 2, deadline: .seconds(60))
    func recovered(_ members: [String: RunState.MemberStatus], attempt: Int = 1) -> RunState {
      RunState(
        policy: policy,
        seed: 1,
        recovered: RecoveredRun(
          lastCommittedRound: 1,
          lastContributions: [Contribution(name: "a", examples: 1, digest: "a1")],
          attempt: attempt,
          members: members,
          outcome: nil
        )
      )
    }
    var open = recovered(["a": .accepted(examples: 1, digest: "a2"), "b": .training])
    #expect(open.resume(now: at(5)) == [.armTimer(round: 2, attempt: 1, at: at(65))])
    #expect(open.apply(.clientReady(name: "b", examples: 1, pendingRound: nil), now: at(6)).asked == ["b"])
    #expect(open.admission(name: "a", round: 1, digest: "a1") == .answered(.duplicate, code: ReasonCode.duplicate))
    #expect(open.admission(name: "a", round: 2, digest: "a2") == .answered(.duplicate, code: ReasonCode.duplicate))

    var complete = recovered(["a": .accepted(examples: 1, digest: "a2"), "b": .accepted(examples: 1, digest: "b2")])
    #expect(complete.resume(now: at(0)).committed?.map(\.name) == ["a", "b"])

    // A wait for another attempt goes on as a wait and costs no attempt.
    var waiting = recovered(["a": .accepted(examples: 1, digest: "a2"), "b": .declined], attempt: 2)
    #expect(waiting.resume(now: at(0)) == [.armTimer(round: 2, attempt: 2, at: at(60))])
    #expect(waiting.phase == .waiting && waiting.current.attempt == 2)
    #expect(waiting.apply(.clientReady(name: "c", examples: 1, pendingRound: nil), now: at(1)).asked == ["c"])

    // The roster of these is empty, so nobody is waited for.
    var between = recovered([:], attempt: 0)
    #expect(between.resume(now: at(0)).isEmpty)
    var over = RunState(
      policy: policy,
      seed: 1,
      recovered: RecoveredRun(lastCommittedRound: 3, lastContributions: [], attempt: 0, members: [:], outcome: nil)
    )
    #expect(over.resume(now: at(0)) == [.finish(.completed)])
    #expect(over.committedRounds == 3)

    // Who was ready before the restart is waited for, but no longer than a deadline.
    var roster = RunState(
      policy: policy,
      seed: 1,
      recovered: RecoveredRun(
        lastCommittedRound: 1,
        lastContributions: [],
        attempt: 0,
        members: [:],
        outcome: nil,
        roster: ["a", "b", "c"]
      )
    )
    #expect(roster.resume(now: at(0)) == [.armTimer(round: 0, attempt: 0, at: at(60))])
    for name in ["a", "b"] {
      #expect(roster.apply(.clientReady(name: name, examples: 1, pendingRound: nil), now: at(1)).isEmpty)
    }
    var late = roster
    #expect(late.apply(.clientReady(name: "c", examples: 1, pendingRound: nil), now: at(2)).asked.count == 2)
    let given = roster.apply(.deadlinePassed(round: 0, attempt: 0), now: at(60))
    #expect(given.first == .roster(name: "c", isReady: false) && given.asked == ["a", "b"])
  }
}
