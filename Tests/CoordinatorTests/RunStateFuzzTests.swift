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

  init(seed: UInt64) throws {
    generator = SeededGenerator(seed: seed)
    let count = Int.random(in: 1...7, using: &generator)
    let perRound = Int.random(in: 1...count, using: &generator)
    let quorum = Int.random(in: 1...perRound, using: &generator)
    let policy = try RoundPolicy(
      rounds: Int.random(in: 1...6, using: &generator),
      minClients: Int.random(in: quorum...count, using: &generator),
      clientsPerRound: perRound,
      quorum: quorum,
      deadline: .seconds(60)
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
    case .openAttempt(let round, let attempt, let cohort):
      if commits[round] != nil { violations.append("round \(round) opened after its commit") }
      if attempt > state.policy.maxAttempts { violations.append("attempt \(attempt)") }
      if cohort.count > state.policy.clientsPerRound { violations.append("cohort of \(cohort.count)") }
      assigned[round, default: []].formUnion(cohort)
    case .sendRound(let names, let round, _, let deadline):
      if deadline < now { violations.append("a deadline in the past") }
      for name in names {
        if clients[name]?.isConnected != true { violations.append("sent a round to \(name), which is away") }
        if assigned[round]?.contains(name) != true { violations.append("sent before it was durable") }
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
      if contributions.count < state.policy.quorum { violations.append("below the quorum") }
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
        apply(.declined(name: name, round: task, code: "policy", reason: "no"))
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
      switch world.outcome {
      case .completed?:
        outcomes["completed", default: 0] += 1
        #expect(world.commits.count == world.state.policy.rounds, "seed \(seed)")
      case .failed?: outcomes["failed", default: 0] += 1
      case .stopped?, nil: Issue.record("seed \(seed): no end after \(steps) good steps in phase \(world.state.phase)")
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
      #expect(world.codes == [ReasonCode.accepted], "seed \(seed)")
    }
  }
}
