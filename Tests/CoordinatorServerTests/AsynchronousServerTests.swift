import FedLoRACheckpoint
import FedLoRAClient
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

/// Asynchronous runs over real connections, and manifests that ask for what makes no sense.
@Suite("An asynchronous run", .timeLimit(.minutes(1)))
struct AsynchronousServerTests {
  private let project: Project

  init() throws { project = try Project() }

  private func run(_ strategy: StrategyName = .fedsaLoRA, rounds: Int = 8) throws -> ToyRun {
    var run = try ToyRun(strategy, head: .frozen, rounds: rounds, clients: 3, quorum: 1)
    run.manifest.cohort.bufferSize = 1
    run.manifest.cohort.stalenessExponent = 0.5
    run.manifest.cohort.maxStaleness = 20
    return run
  }

  @Test("goes on without a slow client, whose update counts when it comes, less the staler it is")
  func slowClient() async throws {
    let run = try run()
    let coordinator = try await project.serve(run)
    // "slow" has its first round's state until the others have made four rounds of it; then they wait for it.
    let handed = EventLog<RoundAssignment>()
    let isAtWork = EventLog<Bool>()
    let log = coordinator.log
    let slow = ToyTrainer { assignment in
      handed.record(assignment)
      isAtWork.record(true)
      guard assignment.round == 1 else { return }
      try await log.first { if case .roundCommitted(4, _, _, _, _, _) = $0 { true } else { false } }
    }
    let quick = ToyTrainer { assignment in
      try await isAtWork.first { $0 }
      guard assignment.round >= 6 else { return }
      try await log.first { if case .updateAccepted(1, "slow", _) = $0 { true } else { false } }
    }
    let clients = try [("slow", slow), ("b", quick), ("c", quick)].map {
      try project.client($0.0, port: coordinator.port, trainer: $0.1)
    }
    let endings = try await withDeadline {
      try await withThrowingTaskGroup(of: ClientOutcome.self) { group in
        for client in clients { group.addTask { try await client.run() } }
        return try await group.reduce(into: []) { $0.append($1.ending) }
      }
    }
    #expect(endings == [.completed, .completed, .completed])
    let result = try await coordinator.result()
    #expect(result.outcome == .completed && result.roundsCommitted == 8)

    // What the coordinator made of it, by the formula, from its own records.
    let store = try RunStore.open(at: project.folder.appending("coordinator"))
    defer { store.close() }
    let settled = try store.recover(isBuffered: true).settled
    let late = try #require(handed.events.first)
    #expect(late.round == 1 && settled.contains { $0.name == "slow" })
    var found: Int?
    for round in 2...8 {
      let (before, after) = (try store.state(afterRound: round - 1), try store.state(afterRound: round))
      let update = try await ToyTrainer().train(late).upload
      let share = Float(try BufferTerms(size: 1).units(staleness: round - 1)) / 256
      let fits = update.entries.allSatisfy { entry in
        let (old, new) = (before[entry.name]?.values ?? [], after[entry.name]?.values ?? [])
        let start = late.state[entry.name]?.values ?? []
        return entry.tensor.values.indices.allSatisfy { index in
          abs(old[index] + share * (entry.tensor.values[index] - start[index]) - new[index]) < 1e-6
        }
      }
      if fits { found = round }
    }
    #expect(found ?? 0 >= 5, "the slow client's update is in no round")
  }

  struct Refusal: Sendable, CustomTestStringConvertible {
    let words: [String]
    let strategy: StrategyName
    let change: @Sendable (inout WireRunManifest) -> Void
    var testDescription: String { words.joined(separator: " … ") }

    init(
      _ words: [String],
      _ strategy: StrategyName = .fedsaLoRA,
      _ change: @escaping @Sendable (inout WireRunManifest) -> Void = { _ in }
    ) { (self.words, self.strategy, self.change) = (words, strategy, change) }
  }

  @Test(
    "is refused by name with the reason where it is not sound",
    arguments: [
      Refusal(["cohort.buffer_size", "fedsvd", "re-factorises"], .fedsvd),
      Refusal(["cohort.buffer_size", "median", "use mean"]) {
        $0.aggregation.rule = "median"
        $0.aggregation.byzantine = 1
        $0.cohort.quorum = 3
        $0.cohort.bufferSize = 3
      },
      Refusal(["cohort.buffer_size", "privacy level 'client'"]) {
        $0.privacy.level = "client"
        $0.privacy.relation = "add-or-remove-one"
        $0.privacy.sampling = "poisson"
        $0.privacy.samplingRate = 1
        $0.privacy.clippingNorm = 1
        $0.privacy.clipping = "flat"
        $0.privacy.noiseMultiplier = 1
        $0.privacy.divisor = 3
        $0.privacy.population = 3
        $0.privacy.epsilon = 50
        $0.privacy.delta = 1e-5
      },
      Refusal(["cohort.staleness_exponent is 9"]) { $0.cohort.stalenessExponent = 9 },
      Refusal(["cohort.max_staleness is 2000"]) { $0.cohort.maxStaleness = 2000 },
      Refusal(["cohort.max_staleness", "only asynchronous runs"]) {
        $0.cohort.bufferSize = 0
        $0.cohort.stalenessExponent = 0
      },
    ]
  )
  func refusals(refusal: Refusal) async throws {
    var run = try run(refusal.strategy)
    refusal.change(&run.manifest)
    do {
      _ = try await project.serve(run)
      Issue.record("it was served")
    } catch CoordinatorError.badManifest(let reason) {
      for word in refusal.words { #expect(reason.contains(word), "\(reason)") }
    }
  }
}
