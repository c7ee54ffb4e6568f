import FedLoRAClient
import FedLoRACoordinator
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

@Suite("A client that was away", .timeLimit(.minutes(1)))
struct AwayClientTests {
  @Test("for ten rounds joins the current one, with its own tensors of the last round that it trained")
  func tenRounds() async throws {
    let project = try Project()
    let run = try ToyRun(rounds: 13, clients: 3, quorum: 2)
    let coordinator = try await project.serve(run)
    let isAway = EventLog<Bool>()
    let isBack = EventLog<Bool>()
    // The others wait for its departure before round 2, and for its return in round 12.
    let other = { @Sendable in
      ToyTrainer { assignment in
        if assignment.round == 2 { try await isAway.first { $0 } }
        if assignment.round == 12 { try await isBack.first { $0 } }
      }
    }
    let others = try ["b", "c"].map { try project.client($0, port: coordinator.port, trainer: other()) }
    let rest = Task {
      try await withThrowingTaskGroup(of: ClientOutcome.self) { group in
        for client in others { group.addTask { try await client.run() } }
        return try await group.reduce(into: []) { $0.append($1) }
      }
    }
    let trainer = ToyTrainer()
    let log = EventLog<ClientEvent>()
    let first = try project.client("a", port: coordinator.port, trainer: trainer, log: log)
    let before = Task { try await first.run() }
    try await log.first { if case .acknowledged(1, _, _) = $0 { true } else { false } }
    before.cancel()
    _ = try? await before.value
    let personal = try ClientStateFolder(
      parent: project.folder.appending("clients/a/client-a"),
      runID: run.manifest.runID
    ).latest()?.personal
    isAway.record(true)
    try await coordinator.log.first { if case .roundOpened(12, _, _) = $0 { true } else { false } }

    let handed = EventLog<RoundAssignment>()
    let again = EventLog<ClientEvent>()
    let second = try project.client(
      "a",
      port: coordinator.port,
      trainer: ToyTrainer { handed.record($0) },
      log: again
    )
    let after = Task { try await second.run() }
    try await again.first { if case .waiting = $0 { true } else { false } }
    isBack.record(true)
    #expect(try await withDeadline { try await after.value }.ending == .completed)
    #expect(try await withDeadline { try await rest.value }.allSatisfy { $0.ending == .completed })
    let rounds = handed.events.map(\.round)
    #expect(trainer.trained.first == 1 && rounds == [13], "\(trainer.trained) and \(rounds)")
    #expect(handed.events.first?.personal == personal && personal != nil)
    #expect(try await coordinator.result().outcome == .completed)
  }
}
