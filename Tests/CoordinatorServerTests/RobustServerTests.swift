import FedLoRACheckpoint
import FedLoRAClient
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

/// Runs with robust rules over real connections, and manifests with rules that cannot work.
@Suite("A coordinator with a robust rule", .timeLimit(.minutes(1)))
struct RobustServerTests {
  private let project: Project

  init() throws { project = try Project() }

  private func manifest(
    _ rule: String,
    _ run: ToyRun,
    _ change: (inout WireRunManifest) -> Void = { _ in }
  ) -> WireRunManifest {
    var manifest = run.manifest
    manifest.aggregation.rule = rule
    manifest.aggregation.byzantine = 1
    change(&manifest)
    return manifest
  }

  struct Refusal: Sendable, CustomTestStringConvertible {
    let rule: String
    let words: [String]
    let change: @Sendable (inout WireRunManifest) -> Void
    var testDescription: String { words.joined(separator: " … ") }

    init(_ rule: String, _ words: [String], _ change: @escaping @Sendable (inout WireRunManifest) -> Void = { _ in }) {
      (self.rule, self.words, self.change) = (rule, words, change)
    }
  }

  @Test(
    "is refused by name with the reason where its terms cannot work",
    arguments: [
      Refusal("best", ["aggregation.rule", "'best'", "multi-krum"]),
      Refusal("krum", ["cohort.quorum is 4", "krum needs 5 updates to withstand 1"]) { $0.cohort.quorum = 4 },
      Refusal("median", ["aggregation.byzantine is 0"]) { $0.aggregation.byzantine = 0 },
      Refusal("mean", ["aggregation.byzantine is 1", "withstands no hostile client"]),
      Refusal("median", ["aggregation.trim is 0.25, which median does not use"]) { $0.aggregation.trim = 0.25 },
      Refusal("median", ["strategy.weighting must be 'uniform' with median"]) { $0.strategy.weighting = "examples" },
      Refusal("krum", ["strategy.weighting must be 'uniform' with krum"]) { $0.strategy.weighting = "capped" },
      Refusal("median", ["aggregation.rule is 'median'", "privacy level 'client'"]) {
        $0.privacy.level = "client"
        $0.privacy.relation = "add-or-remove-one"
        $0.privacy.sampling = "poisson"
        $0.privacy.samplingRate = 1
        $0.privacy.clippingNorm = 1
        $0.privacy.clipping = "flat"
        $0.privacy.noiseMultiplier = 1
        $0.privacy.divisor = 5
        $0.privacy.population = 5
        $0.privacy.epsilon = 50
        $0.privacy.delta = 1e-5
      },
    ]
  )
  func refusals(refusal: Refusal) async throws {
    let run = try ToyRun(clients: 5)
    let served = manifest(refusal.rule, run, refusal.change)
    do {
      let coordinator = try await project.serve(served, run.initialState)
      await coordinator.server.stop(reason: "the test is over")
      _ = try await coordinator.result()
      Issue.record("the run was served")
    } catch CoordinatorError.badManifest(let reason) {
      for word in refusal.words { #expect(reason.contains(word), "\(reason)") }
    }
  }

  @Test("commits what the rule chooses, and reports whose updates had no part in it")
  func krum() async throws {
    let run = try ToyRun(.fedit, head: .shared, rounds: 2, clients: 5)
    let coordinator = try await project.serve(manifest("krum", run), run.initialState)
    let clients = try (1...5).map { try project.client("c\($0)", port: coordinator.port) }
    let outcomes = try await withThrowingTaskGroup(of: ClientOutcome.self) { group in
      for client in clients { group.addTask { try await client.run() } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    let result = try await coordinator.result()
    #expect(result.outcome == .completed && outcomes.allSatisfy { $0.ending == .completed })
    var chosen: [Set<String>] = []
    for case .aggregated(_, let rule, let updates, let leftOut, _, let seconds) in coordinator.log.events {
      #expect(rule == .krum && updates == 5 && leftOut.count == 4 && leftOut == leftOut.sorted() && seconds >= 0)
      chosen.append(Set((1...5).map { "c\($0)" }).subtracting(leftOut))
    }
    #expect(chosen.count == 2 && chosen.allSatisfy { $0.count == 1 })
    // The final state is the chosen client's update, bit for bit: the toy trainer's arithmetic for that client alone.
    let name = try #require(chosen.last?.first)
    let trainer = ToyTrainer()
    let first = try #require(chosen.first?.first)
    var state = run.initialState
    for (round, client) in [first, name].enumerated() {
      state = try await trainer.train(
        RoundAssignment(
          manifest: run.manifest,
          round: round + 1,
          clientName: client,
          state: state,
          personal: TensorSet()
        )
      ).upload
    }
    #expect(result.finalState == state)
  }

  @Test("does not commit a round with fewer updates than the rule needs, however often it is asked")
  func quorum() async throws {
    let run = try ToyRun(.fedit, head: .shared, rounds: 1, clients: 3, deadline: 1)
    let coordinator = try await project.serve(manifest("median", run), run.initialState)
    let gate = Gate()
    let clients = try (1...3).map { index in
      try project.client(
        "c\(index)",
        port: coordinator.port,
        trainer: ToyTrainer { _ in if index == 3 { try await gate.pass() } }
      )
    }
    let tasks = clients.map { client in Task { try await client.run() } }
    let result = try await coordinator.result()
    for task in tasks { task.cancel() }
    guard case .failed(let reason) = result.outcome else {
      Issue.record("\(result.outcome)")
      return
    }
    #expect(result.roundsCommitted == 0 && result.finalState == run.initialState, "\(reason)")
  }
}
