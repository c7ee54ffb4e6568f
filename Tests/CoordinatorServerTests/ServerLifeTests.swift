import FedLoRACheckpoint
import FedLoRAClient
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

@Suite("The coordinator's run", .timeLimit(.minutes(1)))
struct ServerLifeTests {
  private let project: Project

  init() throws { project = try Project() }

  private func start(
    _ names: [String],
    port: Int,
    trainer: @Sendable (String) -> ToyTrainer = { _ in ToyTrainer() }
  ) throws -> Task<[ClientOutcome], any Error> {
    let clients = try names.map { try project.client($0, port: port, trainer: trainer($0)) }
    return Task {
      try await withThrowingTaskGroup(of: ClientOutcome.self) { group in
        for client in clients { group.addTask { try await client.run() } }
        return try await group.reduce(into: []) { $0.append($1) }
      }
    }
  }

  @Test("counts a client that disconnects in mid-round, and completes the round with the rest")
  func lost() async throws {
    let coordinator = try await project.serve(try ToyRun(rounds: 1, quorum: 2))
    let leaver = try await RawParticipant.join(try project.identity("leaver"), port: coordinator.port)
    let others = try start(["c1", "c2"], port: coordinator.port)
    _ = try await leaver.round()
    await leaver.connection.close()
    #expect(try await withDeadline { try await others.value }.allSatisfy { $0.ending == .completed })
    let counts = try await coordinator.counts(ofRound: 1)
    #expect(counts == ["lost": 1, "accepted": 2])
    #expect(coordinator.log.events.contains { if case .clientLost("leaver", _) = $0 { true } else { false } })
    // The leaver is not told the end: the coordinator waits for it, but not for ever.
    let again = try await RawParticipant.join(try project.identity("leaver"), port: coordinator.port)
    #expect(try await again.next { if case .goodbye? = $0.message { true } else { false } } != nil)
    await again.connection.close()
    #expect(try await coordinator.result().outcome == .completed)
  }

  @Test("counts a client that exceeds the deadline, completes without it, and tells it the end while it still trains")
  func deadline() async throws {
    let coordinator = try await project.serve(try ToyRun(rounds: 1, quorum: 2, deadline: 3))
    let clients = try start(["c1", "c2", "slow"], port: coordinator.port) { name in
      ToyTrainer { _ in if name == "slow" { try await Gate().pass() } }
    }
    let outcomes = try await withDeadline(.seconds(15)) { try await clients.value }
    #expect(outcomes.count == 3)
    #expect(outcomes.allSatisfy { $0.ending == .completed })
    #expect(outcomes.map(\.roundsTrained).sorted() == [0, 1, 1])
    let counts = try await coordinator.counts(ofRound: 1)
    #expect(counts["accepted"] == 2 && counts["deadline"] == 1)
    #expect(try await coordinator.result().outcome == .completed)
  }

  @Test("stops where its folder cannot be written, and goes on to the same bytes once it can")
  func storeFails() async throws {
    let run = try ToyRun(.fedsvd, head: .shared, rounds: 3)
    let undisturbed = try Project()
    let twin = try await undisturbed.serve(run)
    let twins = try ["c1", "c2", "c3"].map { try undisturbed.client($0, port: twin.port) }
    async let twinOutcomes = withThrowingTaskGroup(of: Void.self) { group in
      for client in twins { group.addTask { _ = try await client.run() } }
      try await group.waitForAll()
    }
    let wanted = try await twin.result().finalState
    _ = try await twinOutcomes

    // A file where round 2's updates are to lie: as good as a disk that is full from then on.
    let obstacle = project.folder.appending("coordinator/updates/000002")
    let first = try await project.serve(run)
    try Data("in the way".utf8).write(to: obstacle)
    let clients = try start(["c1", "c2", "c3"], port: first.port)
    let stopped = try await first.result()
    guard case .stopped(let reason) = stopped.outcome else {
      Issue.record("ended as \(stopped.outcome)")
      return
    }
    #expect(reason.contains("updates/000002") && reason.contains("resume"), "\(reason)")
    #expect(stopped.roundsCommitted == 1)
    try FileManager.default.removeItem(at: obstacle)
    let second = try await project.serve(run, port: first.port)
    let result = try await second.result()
    #expect(result.outcome == .completed)
    #expect(result.finalState == wanted)
    #expect(try await withDeadline { try await clients.value }.allSatisfy { $0.ending == .completed })
  }

  @Test("does not commit a round below the quorum")
  func belowQuorum() async throws {
    let coordinator = try await project.serve(try ToyRun(rounds: 1, quorum: 3))
    let clients = try start(["c1", "c2"], port: coordinator.port)
    let bad = try await RawParticipant.join(try project.identity("bad"), port: coordinator.port)
    _ = try await bad.round()
    var decline = WireDecline()
    decline.runID = "toy"
    decline.round = 1
    decline.code = "no-time"
    try await bad.connection.send(WireEnvelope(.decline(decline)))
    // Nobody else can be asked, so the next attempts wait for their deadlines; stopping leaves the run as it is.
    try await coordinator.log.first { if case .declined(1, "bad", "no-time", _) = $0 { true } else { false } }
    await coordinator.server.stop(reason: "no more")
    let result = try await coordinator.result()
    #expect(result.outcome == .stopped(reason: "no more"))
    #expect(result.roundsCommitted == 0)
    clients.cancel()
    _ = try? await clients.value
    await bad.connection.close()
  }

  @Test(
    "goes on after a restart, to the same bytes as an uninterrupted run",
    arguments: [StrategyName.fedsvd, .fedsaLoRA]
  )
  func restart(strategy: StrategyName) async throws {
    let run = try ToyRun(strategy, head: .shared, rounds: 5)
    let names = ["c1", "c2", "c3"]
    let straight = try await project.serve(run, directory: "straight")
    let clients = try start(names, port: straight.port)
    let wanted = try await straight.result().finalState
    _ = try await clients.value

    let second = try Project()
    let first = try await second.serve(run)
    let port = first.port
    let again = try names.map { try second.client($0, port: port) }
    let running = Task {
      try await withThrowingTaskGroup(of: ClientOutcome.self) { group in
        for client in again { group.addTask { try await client.run() } }
        return try await group.reduce(into: []) { $0.append($1) }
      }
    }
    try await first.log.first { if case .roundCommitted(2, _, _, _, _, _) = $0 { true } else { false } }
    first.task.cancel()
    let stopped = try await first.result()
    guard case .stopped = stopped.outcome else {
      Issue.record("\(stopped.outcome)")
      return
    }
    #expect((2..<5).contains(stopped.roundsCommitted))
    let resumed = try await second.serve(run, port: port)
    let result = try await resumed.result()
    #expect(result.outcome == .completed)
    #expect(result.roundsCommitted == 5)
    #expect(result.finalState == wanted)
    let outcomes = try await withDeadline { try await running.value }
    #expect(outcomes.allSatisfy { $0.ending == .completed && $0.finalState == wanted && $0.roundsTrained == 5 })
    let states = (0...5).map { "state/round-00000\($0).safetensors" }
    for file in states {
      #expect(
        try Data(contentsOf: second.folder.appending("coordinator/\(file)"))
          == Data(contentsOf: project.folder.appending("straight/\(file)")),
        "\(file)"
      )
    }
  }

  @Test("has the same result whatever the order in which updates arrive", arguments: ["uniform", "examples"])
  func order(weighting: String) async throws {
    let run = try ToyRun(.fedit, head: .shared, rounds: 1, weighting: weighting)
    var results: [TensorSet] = []
    for (index, order) in [["a", "b", "c"], ["c", "a", "b"], ["b", "c", "a"]].enumerated() {
      let coordinator = try await project.serve(run, directory: "order-\(index)")
      var participants: [String: RawParticipant] = [:]
      for (examples, name) in zip([UInt64(3), 5, 900], ["a", "b", "c"]) {
        participants[name] = try await RawParticipant.join(
          try project.identity(name),
          port: coordinator.port,
          examples: examples
        )
      }
      for name in order {
        let participant = try #require(participants[name])
        _ = try await participant.round()
        var (update, tensors) = participant.update(round: 1, client: name)
        update.examples = ["a": 3, "b": 5, "c": 900][name] ?? 0
        try await participant.send(update, tensors)
        #expect(try await participant.ack().status == .accepted)
      }
      for participant in participants.values {
        _ = try await participant.next { if case .goodbye? = $0.message { true } else { false } }
        await participant.connection.close()
      }
      results.append(try await coordinator.result().finalState)
    }
    #expect(results[0] == results[1] && results[0] == results[2])
  }

  @Test("answers a repeated update DUPLICATE, another one of the same round REFUSED, and a late one LATE")
  func repeats() async throws {
    let coordinator = try await project.serve(try ToyRun(.fedit, head: .shared, rounds: 2, clients: 2))
    let one = try await RawParticipant.join(try project.identity("one"), port: coordinator.port)
    let two = try await RawParticipant.join(try project.identity("two"), port: coordinator.port)
    _ = try await one.round()
    let (update, tensors) = one.update(round: 1, client: "one")
    try await one.send(update, tensors)
    #expect(try await one.ack().status == .accepted)
    try await one.send(update, tensors)
    #expect(try await one.ack().status == .duplicate)
    try await one.send(update, one.update(round: 1, client: "other").tensors)
    #expect(try await one.ack().status == .refused)
    _ = try await two.round()
    let other = two.update(round: 1, client: "two")
    try await two.send(other.envelope, other.tensors)
    #expect(try await two.ack().status == .accepted)
    #expect(try await one.round().number == 2)
    try await one.send(update, one.update(round: 1, client: "other").tensors)
    #expect(try await one.ack().status == .late)
    let counts = try await coordinator.counts(ofRound: 1)
    #expect(counts == ["accepted": 2, "duplicate": 1, "conflict": 1])
    await coordinator.server.stop(reason: "the test is over")
    _ = try await coordinator.result()
    for participant in [one, two] { await participant.connection.close() }
  }

  @Test("ends although somebody is connected who never says anything")
  func silentConnection() async throws {
    let coordinator = try await project.serve(try ToyRun(rounds: 1, clients: 1))
    let mute = try await PeerClient(identity: try project.identity("mute"))
      .connect(host: "127.0.0.1", port: coordinator.port)
    let undecided = try await RawParticipant.greet(try project.identity("undecided"), port: coordinator.port)
    let client = try start(["c1"], port: coordinator.port)
    #expect(try await coordinator.result(within: .seconds(8)).outcome == .completed)
    #expect(try await client.value.first?.ending == .completed)
    await mute.close()
    await undecided.connection.close()
  }

  @Test("gives a client's place to its newest connection, and the older client stops")
  func replaced() async throws {
    let coordinator = try await project.serve(try ToyRun(rounds: 1, clients: 2))
    let log = EventLog<ClientEvent>()
    let older = try project.client("c1", port: coordinator.port, state: "older", log: log)
    let running = Task { try await older.run() }
    try await log.first { if case .waiting = $0 { true } else { false } }
    let newer = try start(["c1", "c2"], port: coordinator.port)
    await #expect(throws: ClientError.replaced(name: "c1")) { try await withDeadline { try await running.value } }
    #expect(try await withDeadline { try await newer.value }.count == 2)
    #expect(try await coordinator.result().outcome == .completed)
  }
}
