import FedLoRACheckpoint
import FedLoRAClient
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

@Suite("A federated client", .timeLimit(.minutes(1)))
struct FederatedClientTests {
  let project: Project

  init() throws { project = try Project() }

  private static let names = ["c1", "c2", "c3"]

  /// Runs these clients to their end.
  private func outcomes(_ clients: [String: FederatedClient]) async throws -> [String: ClientOutcome] {
    try await withDeadline {
      try await withThrowingTaskGroup(of: (String, ClientOutcome).self) { group in
        for (name, client) in clients { group.addTask { (name, try await client.run()) } }
        var result: [String: ClientOutcome] = [:]
        for try await (name, outcome) in group { result[name] = outcome }
        return result
      }
    }
  }

  struct Kind: Sendable, CustomTestStringConvertible {
    let name: StrategyName
    let head: HeadRole
    var testDescription: String { "\(name.rawValue), \(head.rawValue) head" }
    static let all = StrategyName.allCases.flatMap { name in
      [HeadRole.frozen, .personal, .shared].map { Kind(name: name, head: $0) }
    }
  }

  @Test("plays three rounds with two others under every strategy", arguments: Kind.all)
  func strategies(kind: Kind) async throws {
    let run = try ToyRun(kind.name, head: kind.head)
    let coordinator = try await project.serve(run)
    let trainers = Dictionary(uniqueKeysWithValues: Self.names.map { ($0, ToyTrainer()) })
    let outcomes = try await outcomes(
      try trainers.reduce(into: [:]) {
        $0[$1.key] = try project.client($1.key, port: coordinator.port, trainer: $1.value)
      }
    )
    let result = try await coordinator.result()
    #expect(result.outcome == .completed)
    #expect(result.roundsCommitted == 3)
    for name in Self.names {
      let outcome = try #require(outcomes[name])
      #expect(outcome.ending == .completed)
      #expect(outcome.finalState == result.finalState)
      #expect(outcome.roundsTrained == 3)
      #expect(trainers[name]?.trained == [1, 2, 3])
      #expect(outcome.personal.names == ToyRun.start.names.filter { run.strategy.role(of: $0) == .personal })
      #expect(outcome.traffic.sent > 0 && outcome.traffic.received > 0)
    }
    let expected = try replay(run)
    #expect(result.finalState == expected.state)
    for name in Self.names { #expect(outcomes[name]?.personal == expected.personal[name]) }
    let sum = outcomes.values.reduce(Traffic()) { $0 + $1.traffic }
    #expect(result.traffic.received <= sum.sent && result.traffic.sent >= sum.received)
  }

  /// The run without a network.
  private func replay(_ run: ToyRun) throws -> (state: TensorSet, personal: [String: TensorSet]) {
    var state = run.initialState
    let start = ToyRun.start.filter { run.strategy.role(of: $0) == .personal }
    var personal = Dictionary(uniqueKeysWithValues: Self.names.map { ($0, start) })
    for round in 1...Int(run.manifest.rounds) {
      var sum = ExactSum(layout: run.strategy.uploadLayout(state: state))
      for name in Self.names {
        var all = ToyRun.start.merging(personal[name] ?? TensorSet()).merging(state)
        for entry in all.entries where run.strategy.isTrained(entry.name) {
          let step = ToyRun.tensor(entry.tensor.shape, name, round, entry.name)
          all[entry.name]?.values = zip(entry.tensor.values, step.values).map { 0.9 * $0 + 0.1 * $1 }
        }
        try sum.fold(all.filter(run.strategy.isUploaded), weight: 1)
        personal[name] = all.filter { run.strategy.role(of: $0) == .personal }
      }
      state = try run.strategy.nextState(round: round, previous: state, mean: sum.mean())
    }
    return (state, personal)
  }

  @Test(
    "tells its number of examples only where weights need it",
    arguments: [("uniform", 0), ("examples", 25), ("capped", 10)]
  )
  func examples(weighting: String, expected: Int) async throws {
    let run = try ToyRun(rounds: 1, clients: 1, weighting: weighting)
    let (updates, server) = (
      EventLog<WireUpdate>(),
      try await fakeCoordinator(run) { session, log in
        log.record(try await session.sendRound(1))
      }
    )
    let task = Task { try await server.serve(updates) }
    let client = try project.client("c1", port: server.port, trainer: ToyTrainer(examples: 25))
    let running = Task { try await client.run() }
    let update = try await updates.first { _ in true }
    #expect(update.examples == UInt64(expected))
    running.cancel()
    server.stop()
    _ = try? await running.value
    try await task.value
  }

  @Test("sends the sealed bytes again when the connection broke before the answer")
  func resending() async throws {
    let run = try ToyRun(rounds: 1, clients: 1)
    let (updates, server) = (
      EventLog<WireUpdate>(),
      try await fakeCoordinator(run) { session, log in
        let isFirst = log.events.isEmpty
        if isFirst {
          log.record(try await session.sendRound(1))
          // The session ends here, unanswered.
        } else {
          #expect(session.pendingRound == 1)
          log.record(try await session.receiveUpdate())
          try await session.acknowledge(1)
          try await session.complete()
        }
      }
    )
    let serving = Task { try await server.serve(updates) }
    let trainer = ToyTrainer()
    let sealed = EventLog<Data>()
    let file = project.stateFolder("c1", run: run).appendingPathComponent("round-000001/update.sealed")
    let client = try project.client("c1", port: server.port, trainer: trainer) { event in
      if case .trained = event, let data = try? Data(contentsOf: file) { sealed.record(data) }
    }
    let outcome = try await withDeadline { try await client.run() }
    server.stop()
    try await serving.value
    #expect(outcome.ending == .completed)
    #expect(trainer.trained == [1])
    #expect(updates.events.count == 2)
    #expect(updates.events.first == updates.events.last)
    let bytes = try #require(sealed.events.first)
    #expect(try Data(contentsOf: file) == bytes)
    let onWire = try #require(updates.events.last)
    guard case .update(let onDisk)? = try SealedMessage(bytes: bytes).envelope.message else {
      Issue.record("no update is sealed")
      return
    }
    #expect(onWire == onDisk)
  }

  @Test("is counted once when its connection is cut before the coordinator has read the update")
  func cutBeforeUpdate() async throws {
    let run = try ToyRun(.fedsvd, head: .shared)
    let expected = try replay(run)
    let coordinator = try await project.serve(run)
    let proxy = try await CuttableProxy(to: coordinator.port)
    defer { proxy.stop() }
    let trainer = ToyTrainer()
    let log = EventLog<ClientEvent>()
    let first = try project.client("c1", port: proxy.port, trainer: trainer, log: log) { event in
      if case .trained(2, _) = event { proxy.silence(.up) }
    }
    let cutting = Task {
      try await log.first { if case .trained(2, _) = $0 { true } else { false } }
      proxy.cut()
    }
    let all = try await outcomes([
      "c1": first, "c2": try project.client("c2", port: coordinator.port),
      "c3": try project.client("c3", port: coordinator.port),
    ])
    try await cutting.value
    let result = try await coordinator.result()
    #expect(all["c1"]?.ending == .completed)
    #expect(trainer.trained == [1, 2, 3])
    #expect(log.events.contains { if case .disconnected = $0 { true } else { false } })
    #expect(try await coordinator.counts(ofRound: 2)["accepted"] == 3)
    #expect(result.finalState == expected.state)
  }

  @Test("is counted once when its connection is cut before it has read the answer")
  func cutBeforeAck() async throws {
    let run = try ToyRun(.fedsvd, head: .shared)
    let expected = try replay(run)
    let coordinator = try await project.serve(run)
    let proxy = try await CuttableProxy(to: coordinator.port)
    defer { proxy.stop() }
    let trainer = ToyTrainer()
    let log = EventLog<ClientEvent>()
    let first = try project.client("c1", port: proxy.port, trainer: trainer, log: log) { event in
      if case .trained(2, _) = event { proxy.silence(.down) }
    }
    // The others wait until the first is back, so that the round is still open then.
    let gate = Gate()
    let patient = { ToyTrainer { if $0.round == 2 { try await gate.pass() } } }
    let cutting = Task {
      try await coordinator.log.first { if case .updateAccepted(2, "c1", _) = $0 { true } else { false } }
      proxy.cut()
      try await log.first { if case .acknowledged(2, "duplicate", _) = $0 { true } else { false } }
      gate.open()
    }
    let all = try await outcomes([
      "c1": first, "c2": try project.client("c2", port: coordinator.port, trainer: patient()),
      "c3": try project.client("c3", port: coordinator.port, trainer: patient()),
    ])
    try await cutting.value
    let result = try await coordinator.result()
    #expect(all["c1"]?.ending == .completed)
    #expect(trainer.trained == [1, 2, 3])
    let counts = try await coordinator.counts(ofRound: 2)
    #expect(counts["accepted"] == 3)
    #expect(counts["duplicate"] == 1)
    #expect(result.finalState == expected.state)
  }

  @Test("does not train a sealed round again after a restart")
  func restart() async throws {
    let run = try ToyRun()
    let expected = try replay(run)
    let coordinator = try await project.serve(run)
    let proxy = try await CuttableProxy(to: coordinator.port)
    defer { proxy.stop() }
    let (before, after) = (ToyTrainer(), ToyTrainer())
    let log = EventLog<ClientEvent>()
    let first = try project.client("c1", port: proxy.port, trainer: before, log: log) { event in
      if case .trained(2, _) = event { proxy.silence(.up) }
    }
    let running = Task { try await first.run() }
    let others = Task {
      try await outcomes([
        "c2": try project.client("c2", port: coordinator.port), "c3": try project.client("c3", port: coordinator.port),
      ])
    }
    try await log.first { if case .trained(2, _) = $0 { true } else { false } }
    running.cancel()
    await #expect(throws: CancellationError.self) { try await running.value }
    proxy.cut()
    let outcome = try await withDeadline {
      try await project.client("c1", port: proxy.port, trainer: after).run()
    }
    _ = try await others.value
    let result = try await coordinator.result()
    #expect(before.trained == [1, 2])
    #expect(after.trained == [3])
    #expect(outcome.roundsTrained == 3)
    #expect(outcome.personal == expected.personal["c1"])
    #expect(result.finalState == expected.state)
  }

  @Test("trains a round again, with the same result, when it stopped before the round was sealed")
  func restartInTraining() async throws {
    let run = try ToyRun()
    let expected = try replay(run)
    let coordinator = try await project.serve(run)
    let reached = EventLog<Int>()
    let first = try project.client(
      "c1",
      port: coordinator.port,
      trainer: ToyTrainer {
        guard $0.round == 2 else { return }
        reached.record(2)
        try await Gate().pass()
      }
    )
    let running = Task { try await first.run() }
    let others = Task {
      try await outcomes([
        "c2": try project.client("c2", port: coordinator.port), "c3": try project.client("c3", port: coordinator.port),
      ])
    }
    try await reached.first { $0 == 2 }
    running.cancel()
    await #expect(throws: CancellationError.self) { try await running.value }
    let again = ToyTrainer()
    let outcome = try await withDeadline {
      try await project.client("c1", port: coordinator.port, trainer: again).run()
    }
    _ = try await others.value
    let result = try await coordinator.result()
    #expect(outcome.ending == .completed)
    #expect(again.trained.last == 3)
    #expect(result.finalState == expected.state)
  }

  @Test("declines a run about another model, and the others go on")
  func declining() async throws {
    let run = try ToyRun(clients: 3, perRound: 3, quorum: 3)
    let coordinator = try await project.serve(run)
    let stranger = try project.client(
      "stranger",
      port: coordinator.port,
      trainer: ToyTrainer(fingerprint: Data("another".utf8))
    )
    let outcome = try await withDeadline { try await stranger.run() }
    #expect(outcome.ending == .declined(code: "wrong-model", reason: "the run is about another model"))
    try await coordinator.log.first {
      if case .declined(0, "stranger", "wrong-model", _) = $0 { true } else { false }
    }
    let all = try await outcomes(
      try Self.names.reduce(into: [:]) { $0[$1] = try project.client($1, port: coordinator.port) }
    )
    #expect(all.values.allSatisfy { $0.ending == .completed })
    #expect(try await coordinator.result().outcome == .completed)
  }

  @Test("declines a run whose terms have changed under the same name")
  func changedTerms() async throws {
    let first = try await project.serve(try ToyRun(rounds: 1, clients: 1))
    #expect(try await outcomes(["c1": try project.client("c1", port: first.port)])["c1"]?.ending == .completed)
    _ = try await first.result()
    let second = try await project.serve(try ToyRun(seed: 8, rounds: 1, clients: 1), directory: "second")
    let outcome = try #require(try await outcomes(["c1": try project.client("c1", port: second.port)])["c1"])
    guard case .declined("terms-changed", let reason) = outcome.ending else {
      Issue.record("\(outcome.ending)")
      return
    }
    #expect(reason.contains(project.stateFolder("c1", run: try ToyRun()).path))
    await second.server.stop(reason: "the test is over")
    _ = try await second.result()
  }

  @Test("declines a round that its trainer cannot train, and the round goes on without it")
  func failingTrainer() async throws {
    struct Broken: Error {}
    let run = try ToyRun(rounds: 1, quorum: 2)
    let coordinator = try await project.serve(run)
    let broken = try project.client("c1", port: coordinator.port, trainer: ToyTrainer { _ in throw Broken() })
    let failing = Task { try await broken.run() }
    let all = try await outcomes([
      "c2": try project.client("c2", port: coordinator.port), "c3": try project.client("c3", port: coordinator.port),
    ])
    await #expect(throws: Broken.self) { try await failing.value }
    #expect(all.values.allSatisfy { $0.ending == .completed })
    #expect(try await coordinator.counts(ofRound: 1)["declined"] == 1)
    _ = try await coordinator.result()
  }

  @Test("never touches the state of another client")
  func isolation() async throws {
    let run = try ToyRun(rounds: 2, quorum: 2)
    let coordinator = try await project.serve(run)
    let gate = Gate()
    let (seen, log) = (EventLog<[String: Data]>(), EventLog<ClientEvent>())
    let folder = project.folder.appending("clients/c2")
    // The second client has sealed round 1 and waits before round 2, while the first trains round 2.
    let second = try project.client(
      "c2",
      port: coordinator.port,
      trainer: ToyTrainer { if $0.round == 2 { try await gate.pass() } },
      log: log
    )
    let first = try project.client(
      "c1",
      port: coordinator.port,
      trainer: ToyTrainer {
        guard $0.round == 2 else { return }
        try await log.first { if case .roundStarted(2) = $0 { true } else { false } }
        if let found = try? contents(of: folder) { seen.record(found) }
      }
    ) { event in
      guard case .acknowledged(2, _, _) = event else { return }
      if let found = try? contents(of: folder) { seen.record(found) }
      gate.open()
    }
    let all = try await outcomes(["c1": first, "c2": second, "c3": try project.client("c3", port: coordinator.port)])
    _ = try await coordinator.result()
    #expect(all.count == 3)
    #expect(seen.events.count == 2)
    #expect(seen.events.first?.isEmpty == false)
    #expect(seen.events.first == seen.events.last)
    #expect(all["c1"]?.personal != all["c2"]?.personal)
  }

  @Test("gives up after so many attempts at a coordinator that is not there")
  func unreachable() async throws {
    let coordinator = try await project.serve(try ToyRun())
    await coordinator.server.stop(reason: "gone")
    _ = try await coordinator.result()
    let client = try project.client(
      "c1",
      port: coordinator.port,
      backoff: Backoff(initial: .milliseconds(1), longest: .milliseconds(2), attempts: 3)
    )
    do {
      _ = try await withDeadline { try await client.run() }
      Issue.record("it ended")
    } catch ClientError.unreachable(let attempts, let last) {
      #expect(attempts == 3)
      #expect(last.contains("\(coordinator.port)"))
    }
  }

  @Test("stops where its certificate is of another authority")
  func refusedCertificate() async throws {
    let coordinator = try await project.serve(try ToyRun())
    let stranger = try Project()
    let client = try stranger.client("c1", port: coordinator.port)
    await #expect(throws: TransportError.self) { try await withDeadline { try await client.run() } }
    await coordinator.server.stop(reason: "the test is over")
    _ = try await coordinator.result()
  }
}
