import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAFederation
import Foundation
import Testing

/// A coordinator of a private run without a network, with crashes between any two durable steps.
private struct PrivateDriver {
  struct Crash: Error {}

  static let names = ["east", "hub", "north", "south", "west"]

  let directory: URL
  let policy: RoundPolicy
  let strategy: Strategy
  let terms: ClientLevelPrivacy
  let account: ReleaseAccount
  var store: RunStore?
  var state: RunState
  var inbox: [RunEvent] = []
  var tasks: [String: Int] = [:]
  var outcome: RunOutcome?
  /// Durable steps left until the next crash; nil for never.
  var fuse: Int?
  /// Draws come out differently each time, so a second draw of a round would be seen.
  var draws: SeededGenerator
  /// The cohorts as they were when they became durable.
  var durable: [Int: [String]] = [:]
  var violations: [String] = []
  var isBetweenChargeAndCommit = false
  var doubleCharges = 0

  init(directory: URL, seed: UInt64, epsilon: Double = 100) throws {
    self.directory = directory
    policy = try RoundPolicy(
      rounds: 6,
      minClients: 5,
      clientsPerRound: 3,
      quorum: 3,
      deadline: .seconds(60),
      draw: .secret(population: 5, needsAll: false)
    )
    strategy = try Strategy(name: .fedsvd, head: .shared, refactoriseEvery: 2)
    terms = try makeTerms(
      sampling: .poisson(rate: 0.6),
      population: 5,
      clippingNorm: 1,
      noiseMultiplier: 0.8,
      divisor: 3,
      epsilon: epsilon,
      adaptive: .init(quantile: 0.5, learningRate: 0.2, noise: 2)
    )
    account = ReleaseAccount(terms: terms, coordinates: 14)
    draws = SeededGenerator(seed: seed)
    var generator = SeededGenerator(seed: 4)
    store = try RunStore.create(
      at: directory,
      run: RunStore.Description(runID: "private", seed: 11, manifest: Data("m".utf8)),
      initialState: TensorSet([
        "l.lora_A.weight": try generator.tensor([2, 7]), "l.lora_B.weight": Tensor(zeros: [5, 2]),
        "classifier.bias": try generator.tensor([3]),
      ])
    )
    state = RunState(policy: policy, seed: 11)
  }

  mutating func step() throws {
    guard let left = fuse else { return }
    if left == 0 { throw Crash() }
    fuse = left - 1
  }

  mutating func apply(_ event: RunEvent) throws {
    try perform(state.apply(event, now: at(0)))
    while !inbox.isEmpty { try perform(state.apply(inbox.removeFirst(), now: at(0))) }
  }

  mutating func perform(_ effects: [RunEffect]) throws {
    guard let store else { return }
    for effect in effects {
      try step()
      switch effect {
      case .drawCohort(let round, let names):
        if durable[round] != nil { violations.append("round \(round) was drawn again") }
        if names != PrivateDriver.names { violations.append("drawn from \(names)") }
        if let reason = try account.refusal(after: store.chargedReleases()) {
          inbox.append(.budgetSpent(reason: reason))
        } else {
          let cohort = names.filter { _ in Double.random(in: 0..<1, using: &draws) < 0.6 }
          inbox.append(.cohortDrawn(round: round, cohort: cohort))
        }
      case .openAttempt(let round, let attempt, let cohort):
        try store.openAttempt(round: round, attempt: attempt, cohort: cohort)
        durable[round] = cohort
      case .sendRound(let names, let round, _, _):
        for name in names { tasks[name] = round }
        if !Set(names).isSubset(of: durable[round] ?? []) { violations.append("\(names) were not drawn") }
      case .roster(let name, let isReady): try store.setRoster(name: name, isReady: isReady)
      case .retire(let name, let code): try store.retire(name: name, code: code)
      case .sendAway, .dismiss, .extendCohort: break
      case .record(let name, let round, let code, let reason):
        try store.record(name: name, round: round, code: code, reason: reason)
      case .commit(let round, let contributions, let counts):
        guard try account.refusal(after: store.chargedReleases()) == nil else {
          inbox.append(.budgetSpent(reason: "spent"))
          continue
        }
        if contributions.map(\.name) != durable[round] { violations.append("round \(round) lacks updates") }
        try store.chargeRelease(round: round)
        isBetweenChargeAndCommit = true
        try step()
        let next = try store.releasePrivately(
          round: round,
          contributions: contributions,
          strategy: strategy,
          terms: terms
        )
        try step()
        try store.commit(
          round: round,
          contributions: contributions,
          counts: counts,
          state: next.state,
          nextClippingNorm: next.clippingNorm
        )
        isBetweenChargeAndCommit = false
        try step()
        inbox.append(.roundCommitted(round: round))
      case .finish(let outcome):
        try store.finish(outcome)
        self.outcome = outcome
      case .ack, .armTimer, .announceCommit: break
      }
    }
  }

  mutating func restart() throws {
    if isBetweenChargeAndCommit { doubleCharges += 1 }
    isBetweenChargeAndCommit = false
    store = nil
    tasks = [:]
    inbox = []
    let store = try RunStore.open(at: directory)
    self.store = store
    state = RunState(policy: policy, seed: 11, recovered: try store.recover())
    try perform(state.resume(now: at(0)))
    while !inbox.isEmpty { try perform(state.apply(inbox.removeFirst(), now: at(0))) }
  }

  mutating func deliver(_ name: String, _ round: Int) throws {
    guard let store else { throw Crash() }
    let digest = "\(name)-\(round)"
    if case .wanted = state.admission(name: name, round: round, digest: digest) {
      try step()
      var generator = SeededGenerator(seed: UInt64(name.utf8.reduce(round) { $0 * 31 + Int($1) }))
      var update = try store.state(afterRound: round - 1).filter(strategy.isUploaded)
      for entry in update.entries {
        let noise = try generator.tensor(entry.tensor.shape)
        for (index, value) in noise.values.enumerated() { update[entry.name]?.values[index] += value }
      }
      _ = try store.storeUpdate(round: round, name: name, examples: 9, metrics: [:], digest: digest, tensors: update)
      try step()
    }
    tasks[name] = nil
    try apply(.updateReceived(name: name, round: round, examples: 9, digest: digest))
  }

  /// Runs to the end; after each crash all clients come back.
  mutating func play(crashing generator: inout SeededGenerator, often: Bool) throws -> Int {
    var restarts = 0
    var isConnected = false
    var steps = 0
    while outcome == nil, steps < 10_000 {
      steps += 1
      do {
        if often, fuse == nil { fuse = Int.random(in: 0...20, using: &generator) }
        if !isConnected {
          for name in PrivateDriver.names { try apply(.clientReady(name: name, examples: 9, pendingRound: nil)) }
          isConnected = true
        }
        for name in tasks.keys.sorted().shuffled(using: &generator) {
          guard let round = tasks[name] else { continue }
          try deliver(name, round)
        }
      } catch is Crash {
        restarts += 1
        fuse = nil
        try restart()
        isConnected = false
      }
    }
    return restarts
  }
}

@Suite("Resuming a private run")
struct PrivateResumeTests {
  @Test("killed between any two steps: cohorts are drawn once, nothing is lost, and every noised version is charged")
  func resume() throws {
    var restarts = 0
    var doubleCharges = 0
    for seed in 1...40 as ClosedRange<UInt64> {
      let folder = try TemporaryFolder()
      var generator = SeededGenerator(seed: seed)
      var driver = try PrivateDriver(directory: folder.url.appendingPathComponent("run"), seed: seed)
      restarts += try driver.play(crashing: &generator, often: true)
      let store = try #require(driver.store)
      #expect(driver.outcome == .completed && driver.violations.isEmpty, "seed \(seed): \(driver.violations)")
      for round in 1...6 {
        #expect(try store.participants(round: round) == driver.durable[round], "seed \(seed), round \(round)")
        #expect(try store.clippingNorm(round: round + 1) != nil)
      }
      #expect(try store.chargedReleases() == 6 + driver.doubleCharges, "seed \(seed)")
      doubleCharges += driver.doubleCharges

      // The same cohorts without a crash give the same bytes: updates, clipping norms and (seeded) noise all came back.
      let other = try TemporaryFolder()
      var straight = try PrivateDriver(directory: other.url.appendingPathComponent("run"), seed: seed)
      straight.fuse = nil
      let cohorts = driver.durable
      var expected = try #require(straight.store).state(afterRound: 0)
      var norm = straight.terms.clippingNorm
      for round in 1...6 {
        let sent = expected.filter(straight.strategy.isUploaded)
        var release = try PrivateRelease(terms: straight.terms, layout: TensorLayout(of: sent), clippingNorm: norm)
        for name in cohorts[round] ?? [] {
          var noise = SeededGenerator(seed: UInt64(name.utf8.reduce(round) { $0 * 31 + Int($1) }))
          var update = sent
          for entry in sent.entries {
            let values = try noise.tensor(entry.tensor.shape).values
            for (index, value) in values.enumerated() { update[entry.name]?.values[index] += value }
          }
          try release.fold(update, sent: sent, examples: 9)
        }
        let outcome = release.release(round: round)
        norm = outcome.nextClippingNorm
        expected = try straight.strategy.nextState(
          round: round,
          previous: expected,
          mean: PrivateSum.moved(sent, by: outcome.differences)
        )
        #expect(try store.state(afterRound: round) == expected, "seed \(seed), round \(round)")
      }
    }
    #expect(restarts > 40 && doubleCharges > 5, "\(restarts) restarts, \(doubleCharges) double charges")
  }

  @Test("the run stops before the release that would pass the budget, keeps its last state, and stays stopped")
  func budget() throws {
    let folder = try TemporaryFolder()
    var generator = SeededGenerator(seed: 1)
    let directory = folder.url.appendingPathComponent("run")
    let unlimited = try PrivateDriver(directory: directory, seed: 1)
    // What four releases cost, and a little: the fifth does not fit.
    let epsilon = try unlimited.account.spent(releases: 4).epsilon * 1.001
    var driver = try PrivateDriver(directory: folder.url.appendingPathComponent("limited"), seed: 1, epsilon: epsilon)
    _ = try driver.play(crashing: &generator, often: false)
    guard case .budgetSpent(let reason)? = driver.outcome else {
      Issue.record("\(String(describing: driver.outcome))")
      return
    }
    #expect(reason.hasPrefix("budget-spent: 4 private releases have spent epsilon "))
    #expect(try driver.store?.lastCommittedRound() == 4 && driver.store?.chargedReleases() == 4)
    #expect(try driver.store?.recover().outcome == driver.outcome)
    #expect(driver.durable[5] == nil)
    driver.outcome = nil
    try driver.restart()
    #expect(driver.outcome == .budgetSpent(reason: reason))

    // A charge that a crash made useless counts: one round less fits.
    driver = try PrivateDriver(directory: folder.url.appendingPathComponent("crashed"), seed: 1, epsilon: epsilon)
    try driver.store?.chargeRelease(round: 1)
    _ = try driver.play(crashing: &generator, often: false)
    #expect(try driver.store?.lastCommittedRound() == 3 && driver.store?.chargedReleases() == 4)
  }
}
