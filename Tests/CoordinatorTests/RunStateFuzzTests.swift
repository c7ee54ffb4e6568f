import FedLoRACoordinator
import Testing

/// Clients, clock and driver around a `RunState`, all drawn from one seed, checking the promises at every effect.
private struct World {
  struct Client {
    var isConnected = false
    /// The round that it was told to train.
    var task: Int?
    /// A trained update that is not acknowledged.
    var sealed: Int?
  }

  var state: RunState
  var clients: [String: Client]
  var generator: SeededGenerator
  var now = RunInstant(sinceOrigin: .zero)
  var timers: [(round: Int, attempt: Int, at: RunInstant)] = []
  var assigned: [Int: Set<String>] = [:]
  var acceptedAcks: Set<String> = []
  var firstDigest: [String: String] = [:]
  var commitPending: Int?
  var commits: [Int: [Contribution]] = [:]
  var outcome: RunOutcome?
  var violations: [String] = []
  var codes: Set<String> = []
  var roster: Set<String> = []
  var retired: Set<String> = []
  /// In how many rounds each client was asked, counted here.
  var asked: [String: Int] = [:]
  var draws: [Int: Set<String>] = [:]

  init(seed: UInt64) throws {
    generator = SeededGenerator(seed: seed)
    let count = Int.random(in: 1...7, using: &generator)
    let perRound = Int.random(in: 1...count, using: &generator)
    let quorum = Int.random(in: 1...perRound, using: &generator)
    let minClients = Int.random(in: quorum...count, using: &generator)
    let draw: CohortDraw =
      switch seed % 4 {
      case 0: .seeded(.balanced)
      case 1: .secret(population: Int.random(in: minClients...count, using: &generator), needsAll: seed % 8 == 1)
      default: .seeded(.random)
      }
    let policy = try RoundPolicy(
      rounds: Int.random(in: 1...6, using: &generator),
      minClients: minClients,
      clientsPerRound: perRound,
      quorum: quorum,
      deadline: .seconds(60),
      draw: draw
    )
    state = RunState(policy: policy, seed: seed)
    clients = Dictionary(uniqueKeysWithValues: (0..<count).map { ("c\($0)", Client()) })
  }

  mutating func apply(_ event: RunEvent) {
    let wasFinished = outcome != nil
    let effects = state.apply(event, now: now)
    for effect in effects { handle(effect) }
    if wasFinished, effects.outcome != nil { violations.append("finished twice") }
    if let outcome, state.phase != .finished(outcome) { violations.append("went on after the end") }
  }

  private mutating func handle(_ effect: RunEffect) {
    switch effect {
    case .drawCohort(let round, let names):
      if draws[round] != nil { violations.append("round \(round) drawn twice") }
      if case .secret(let population, let needsAll) = state.policy.draw {
        if names.count > population || (needsAll && names.count < population) { violations.append("drawn of \(names)") }
      }
      if names != names.sorted() || !Set(names).isSuperset(of: draws[round - 1] ?? []) {
        violations.append("the population shrank to \(names)")
      }
      draws[round] = Set(names.filter { _ in Bool.random(using: &generator) })
      apply(.cohortDrawn(round: round, cohort: draws[round].map(Array.init) ?? []))
    case .sendAway, .dismiss, .extendCohort: break
    case .retire(let name, _):
      if !retired.insert(name).inserted { violations.append("\(name) retired twice") }
    case .openAttempt(let round, let attempt, let cohort):
      if commits[round] != nil { violations.append("round \(round) opened after its commit") }
      if attempt > state.policy.maxAttempts { violations.append("attempt \(attempt)") }
      checkDraw(cohort, round)
      for name in cohort where assigned[round]?.contains(name) != true { asked[name, default: 0] += 1 }
      assigned[round, default: []].formUnion(cohort)
    case .sendRound(let names, let round, _, let deadline):
      if deadline < now { violations.append("a deadline in the past") }
      for name in names {
        if clients[name]?.isConnected != true { violations.append("sent a round to \(name), which is away") }
        if assigned[round]?.contains(name) != true { violations.append("sent before it was durable") }
        if retired.contains(name) { violations.append("\(name) was asked after it had retired") }
        clients[name]?.task = round
      }
    case .armTimer(let round, let attempt, let time): timers.append((round, attempt, time))
    case .ack(let name, let round, let status, _):
      if clients[name]?.sealed == round { clients[name]?.sealed = nil }
      let key = "\(name)/\(round)"
      if status == .accepted, !acceptedAcks.insert(key).inserted { violations.append("accepted \(key) twice") }
      if status == .accepted, commits[round] != nil { violations.append("accepted \(key) after the commit") }
      if status == .duplicate, !acceptedAcks.contains(key) { violations.append("\(key) is no duplicate") }
    case .roster(let name, let isReady):
      if isReady == roster.contains(name) { violations.append("roster of \(name) repeated") }
      if isReady { roster.insert(name) } else { roster.remove(name) }
    case .record(_, _, let code, _): codes.insert(code)
    case .commit(let round, let contributions, _):
      if commits[round] != nil { violations.append("round \(round) committed twice") }
      if round != commits.count + 1 { violations.append("round \(round) committed out of turn") }
      if contributions.count < state.policy.quorum, !state.policy.draw.isSecret {
        violations.append("below the quorum")
      }
      let names = contributions.map(\.name)
      if names != names.sorted() || Set(names).count != names.count { violations.append("names \(names)") }
      if !Set(names).isSubset(of: assigned[round] ?? []) { violations.append("a stranger counts") }
      for one in contributions {
        let key = "\(one.name)/\(round)"
        if !acceptedAcks.contains(key) { violations.append("\(key) counts unacknowledged") }
        if firstDigest[key] != one.digest { violations.append("\(key) counts with another digest") }
      }
      let acknowledged = acceptedAcks.filter { $0.hasSuffix("/\(round)") }.count
      if acknowledged != contributions.count { violations.append("an acknowledged update was dropped") }
      commits[round] = contributions
      commitPending = round
    case .announceCommit(let round, _, let updates):
      if commits[round]?.count != updates { violations.append("announced another round") }
    case .finish(let outcome): self.outcome = outcome
    }
  }

  private mutating func checkDraw(_ cohort: [String], _ round: Int) {
    guard case .seeded(let rule) = state.policy.draw else {
      if draws[round] != Set(cohort) || assigned[round] != nil { violations.append("opened with \(cohort)") }
      return
    }
    if cohort.count > state.policy.clientsPerRound { violations.append("cohort of \(cohort.count)") }
    if cohort.contains(where: retired.contains) { violations.append("retired clients in \(cohort)") }
    // Nobody who could have been asked for the first time in this round took part less often than one who was.
    guard rule == .balanced, assigned[round] == nil, let most = cohort.map({ asked[$0] ?? 0 }).max() else { return }
    let passedOver = clients.keys.filter { name in
      clients[name]?.isConnected == true && state.ready[name] != nil && !cohort.contains(name)
    }
    if passedOver.contains(where: { (asked[$0] ?? 0) < most }) { violations.append("unbalanced: \(cohort)") }
  }

  mutating func connect(_ name: String) {
    clients[name]?.isConnected = true
    clients[name]?.task = nil
    apply(.clientReady(name: name, examples: 5, pendingRound: clients[name]?.sealed))
  }

  mutating func send(_ name: String, round: Int, digest: String) {
    if case .wanted = state.admission(name: name, round: round, digest: digest) {
      firstDigest["\(name)/\(round)"] = firstDigest["\(name)/\(round)"] ?? digest
    }
    apply(.updateReceived(name: name, round: round, examples: 5, digest: digest))
  }

  mutating func fireTimers() {
    let due = timers.filter { $0.at <= now }
    timers.removeAll { $0.at <= now }
    for timer in due { apply(.deadlinePassed(round: timer.round, attempt: timer.attempt)) }
  }

  mutating func randomStep() {
    let name = clients.keys.sorted()[Int.random(in: 0..<clients.count, using: &generator)]
    guard let client = clients[name] else { return }
    let round = state.current.round
    switch Int.random(in: 0..<20, using: &generator) {
    case 0..<4: if !client.isConnected { connect(name) }
    case 4:
      if client.isConnected {
        clients[name]?.isConnected = false
        clients[name]?.task = nil
        apply(.clientLost(name: name))
      }
    case 5..<11:
      if let task = client.task {
        clients[name]?.sealed = task
        clients[name]?.task = nil
        if client.isConnected { send(name, round: task, digest: "\(name)-\(task)") }
      } else if let sealed = client.sealed, client.isConnected {
        send(name, round: sealed, digest: "\(name)-\(sealed)")
      }
    case 11: if client.isConnected { send(name, round: max(1, round - 1), digest: "\(name)-\(max(1, round - 1))") }
    case 12: send(name, round: round + Int.random(in: -2...2, using: &generator), digest: "odd")
    case 13:
      if let task = client.task, client.isConnected {
        clients[name]?.task = nil
        let code = ["policy", "policy", "policy", ReasonCode.budgetSpent][Int.random(in: 0..<4, using: &generator)]
        apply(.declined(name: name, round: task, code: code, reason: "no"))
      }
    case 14:
      if let task = client.task, client.isConnected {
        clients[name]?.task = nil
        apply(.updateRefused(name: name, round: task, code: "not-finite", reason: "NaN"))
      }
    case 15, 16:
      now = now.advanced(by: .seconds(Int.random(in: 0...45, using: &generator)))
      fireTimers()
    case 17, 18: completeCommit()
    default:
      apply(.deadlinePassed(round: round + Int.random(in: -1...1, using: &generator), attempt: 1))
      apply(.roundCommitted(round: round + 1))
    }
  }

  mutating func completeCommit() {
    guard let round = commitPending else { return }
    commitPending = nil
    apply(.roundCommitted(round: round))
  }

  /// One step in which everybody does what it should.
  mutating func goodStep() {
    completeCommit()
    for name in clients.keys.sorted() {
      if clients[name]?.isConnected == false { connect(name) }
      if let sealed = clients[name]?.sealed { send(name, round: sealed, digest: "\(name)-\(sealed)") }
      if let task = clients[name]?.task {
        clients[name]?.task = nil
        send(name, round: task, digest: "\(name)-\(task)")
      }
    }
    now = now.advanced(by: .seconds(20))
    fireTimers()
  }
}

@Suite("The run's state under random events")
struct RunStateFuzzTests {
  @Test(
    "5000 runs with drop-outs, stragglers, repeats, refusals and crashes of clients keep every promise",
    arguments: 0..<10
  )
  func promises(block: Int) throws {
    var outcomes: [String: Int] = [:]
    for seed in UInt64(block * 500)..<UInt64(block * 500 + 500) {
      var world = try World(seed: seed)
      for _ in 0..<Int.random(in: 0...300, using: &world.generator) where world.outcome == nil { world.randomStep() }
      // From here on all behave: the run must come to its end.
      var steps = 0
      while world.outcome == nil, steps < 60 {
        world.goodStep()
        steps += 1
      }
      #expect(world.violations.isEmpty, "seed \(seed): \(world.violations)")
      #expect(world.state.participations == world.asked && world.state.retired == world.retired, "seed \(seed)")
      switch world.outcome {
      case .completed?:
        outcomes["completed", default: 0] += 1
        #expect(world.commits.count == world.state.policy.rounds, "seed \(seed)")
      case .failed?: outcomes["failed", default: 0] += 1
      case .stopped?, .budgetSpent?, nil:
        Issue.record("seed \(seed): no end after \(steps) good steps in phase \(world.state.phase)")
      }
      // After the end everybody who still holds an update gets an answer.
      for name in world.clients.keys.sorted() {
        guard let sealed = world.clients[name]?.sealed else { continue }
        world.send(name, round: sealed, digest: "\(name)-\(sealed)")
        #expect(world.clients[name]?.sealed == nil, "seed \(seed)")
      }
    }
    #expect((outcomes["completed"] ?? 0) > 100 && (outcomes["failed"] ?? 0) > 5, "\(outcomes)")
  }

  @Test("without faults every run completes in its first attempts, whatever the order of the updates")
  func withoutFaults() throws {
    for seed in 0..<500 as Range<UInt64> {
      var world = try World(seed: seed)
      for name in world.clients.keys.shuffled(using: &world.generator) { world.connect(name) }
      while world.outcome == nil {
        world.completeCommit()
        for name in world.clients.keys.shuffled(using: &world.generator) {
          guard let task = world.clients[name]?.task else { continue }
          world.clients[name]?.task = nil
          world.send(name, round: task, digest: "\(name)-\(task)")
        }
        #expect(world.state.current.attempt <= 1, "seed \(seed)")
      }
      #expect(world.outcome == .completed && world.violations.isEmpty, "seed \(seed): \(world.violations)")
      // Secret cohorts may be empty, and clients beyond the population are turned away.
      if world.state.policy.draw.isSecret { continue }
      #expect(world.codes == [ReasonCode.accepted], "seed \(seed)")
      if world.state.policy.draw == .seeded(.balanced) {
        let counts = world.clients.keys.map { world.asked[$0] ?? 0 }
        #expect((counts.max() ?? 0) - (counts.min() ?? 0) <= 1, "seed \(seed): \(counts)")
      }
    }
  }
}
