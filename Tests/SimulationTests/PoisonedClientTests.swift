import FedLoRACheckpoint
import FedLoRAClient
import FedLoRAConfiguration
import FedLoRACoordinator
import FedLoRAEngine
import FedLoRAFederation
import FedLoRASimulation
import FedLoRATestSupport
import Foundation
import Testing

@Suite("Hostile clients of a simulation")
struct PoisonedTrainerTests {
  private func section(_ clients: Int, _ attack: PoisonSection.Attack, _ factor: Double) throws -> PoisonSection {
    try ScenarioConfiguration.load(
      nil,
      assignments: ["poison.clients=\(clients)", "poison.attack=\(attack.rawValue)", "poison.factor=\(factor)"]
    ).0.poison
  }

  private struct Sent {
    let honest: LocalUpdate
    let poisoned: LocalUpdate
    /// What the client sent, what an honest one would have sent, and what it was sent, element by element.
    let values: [(sent: Double, honest: Double, old: Double)]
  }

  private func send(_ attack: PoisonSection.Attack, _ factor: Double, round: Int = 1) async throws -> Sent {
    let run = try ToyRun(.fedit, head: .personal)
    let assignment = RoundAssignment(
      manifest: run.manifest,
      round: round,
      clientName: "mallory",
      state: run.initialState,
      personal: try await ToyTrainer().initialPersonal(run.manifest)
    )
    let honest = try await ToyTrainer().train(assignment)
    let poisoned = try await PoisonedTrainer(ToyTrainer(), section(1, attack, factor)).train(assignment)
    func flat(_ set: TensorSet) -> [Double] { set.entries.flatMap { $0.tensor.values.map(Double.init) } }
    let old = flat(run.initialState.filter { honest.upload[$0] != nil })
    return Sent(
      honest: honest,
      poisoned: poisoned,
      values: zip(zip(flat(poisoned.upload), flat(honest.upload)), old).map { ($0.0, $0.1, $1) }
    )
  }

  @Test("send what their attack says in the place of what they trained, and keep the rest as it is")
  func arithmetic() async throws {
    for attack in PoisonSection.Attack.allCases {
      let found = try await send(attack, 3)
      #expect(found.poisoned.upload.names == found.honest.upload.names && found.values.count == 14)
      #expect(found.poisoned.personal == found.honest.personal && found.poisoned.metrics == found.honest.metrics)
      for (sent, honest, old) in found.values {
        switch attack {
        case .signFlip: #expect(abs(sent - (old - 3 * (honest - old))) < 1e-6)
        case .scale, .labelFlip: #expect(abs(sent - (old + 3 * (honest - old))) < 1e-6)
        case .zero: #expect(sent == 0)
        case .noise: #expect(sent != honest)
        }
      }
    }
  }

  @Test("of noise send as much as they trained times the factor, the same again when asked again")
  func noise() async throws {
    var squares = (sent: 0.0, honest: 0.0)
    for round in 1...60 {
      let found = try await send(.noise, 3, round: round)
      #expect(found.poisoned.upload == (try await send(.noise, 3, round: round)).poisoned.upload)
      for (sent, honest, old) in found.values {
        squares.sent += (sent - old) * (sent - old)
        squares.honest += (honest - old) * (honest - old)
      }
    }
    // 840 draws: the ratio of the roots is within 5 standard deviations, each 1/√(2·840).
    #expect(abs((squares.sent / squares.honest).squareRoot() / 3 - 1) < 5 / (2 * 840.0).squareRoot())
    let one = try await send(.noise, 3, round: 1).poisoned.upload
    #expect(one != (try await send(.noise, 3, round: 2).poisoned.upload))
  }

  @Test("train on labels that are all wrong")
  func labels() {
    let examples = (0..<7).map { EncodedExample(ids: [Int32($0)], typeIds: [0], label: $0 % 3) }
    let flipped = PoisonedTrainer.flipped(examples, labels: 3)
    #expect(flipped.map(\.label) == [1, 2, 0, 1, 2, 0, 1] && flipped.map(\.ids) == examples.map(\.ids))
  }

  @Test("are chosen by the seed, and fewer are some of more")
  func choice() throws {
    let names = (1...20).map { "c\($0)" }
    let four = try section(4, .zero, 1)
    #expect(four.names(among: names, seed: 1) == four.names(among: names, seed: 1))
    #expect(Set((1...6).map { four.names(among: names, seed: $0) }).count > 1)
    #expect(try section(2, .zero, 1).names(among: names, seed: 1).isStrictSubset(of: four.names(among: names, seed: 1)))
    #expect(four.names(among: names, seed: 9).count == 4)
    #expect(try section(0, .zero, 1).names(among: names, seed: 9).isEmpty)
    // Somebody stays honest where the data name fewer clients than were expected.
    #expect(four.names(among: ["a", "b"], seed: 1).count == 1)
  }
}

/// Runs of the embedded encoder in which two of seven clients are hostile.
@Suite("A simulation with hostile clients", .timeLimit(.minutes(4)))
struct PoisonedSimulationTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func scenario(_ extra: [String]) throws -> (ScenarioConfiguration, String) {
    try ScenarioConfiguration.load(
      nil,
      assignments: [
        "name=hostile", "output='\(scratch.url.path)'", "rounds=6", "clients.count=7", "clients.partition=iid",
        "cohort.min_clients=7", "cohort.clients_per_round=7", "cohort.quorum=7", "training.local_steps=8",
        "training.batch_size=16", "training.learning_rate=0.005", "baselines=[]", "strategies=[mean, robust]",
        "poison.clients=2", "overrides.mean.strategy=fedsvd", "overrides.robust.strategy=fedsvd",
        "overrides.robust.byzantine=2",
      ] + extra
    )
  }

  private func run(_ extra: [String]) async throws -> (SimulationReport, [CoordinatorEvent]) {
    let (scenario, text) = try scenario(extra)
    let log = EventLog<CoordinatorEvent>()
    let report = try await SimulationRun(scenario: scenario, effectiveConfiguration: text, command: "").run {
      if case .coordinator(_, let event) = $0 { log.record(event) }
    }
    return (report, log.events)
  }

  @Test("that flip the sign breaks the mean and not multi-Krum, which leaves them out")
  func signFlip() async throws {
    let (report, events) = try await run([
      "overrides.robust.aggregation=multi-krum", "poison.attack=sign-flip", "poison.factor=5",
    ])
    let accuracies = report.rows.map { $0.globalAccuracy ?? 0 }
    // Six classes of a hundred examples each: the mean has learnt nothing, or little more.
    #expect(accuracies[0] < 0.3 && accuracies[1] > 0.45, "\(accuracies)")
    // The accuracy is that of the honest.
    let (own, _) = try scenario(["overrides.robust.aggregation=multi-krum"])
    let hostile = own.poison.names(among: (1...7).map { "client-\($0)" }, seed: own.seed)
    #expect(hostile.count == 2 && Set(report.clients.filter(\.isHostile).map(\.name)) == hostile)
    for row in report.rows {
      #expect(Set(row.clientAccuracies.keys) == Set((1...7).map { "client-\($0)" }).subtracting(hostile))
      #expect((row.aggregationSeconds ?? 0) > 0)
    }
    var rounds = 0
    for case .aggregated(_, .multiKrum, 7, let leftOut, _, _) in events {
      rounds += 1
      #expect(leftOut.count == 4 && hostile.isSubset(of: leftOut), "\(leftOut)")
    }
    #expect(rounds == 6)
  }

  @Test("that send noise throw the mean about and not the median")
  func noise() async throws {
    let (report, _) = try await run([
      "overrides.robust.aggregation=median", "poison.attack=noise", "poison.factor=50",
    ])
    let accuracies = report.rows.map { $0.globalAccuracy ?? 0 }
    #expect(accuracies[0] < 0.3 && accuracies[1] > 0.45, "\(accuracies)")
  }

  @Test("compares rules under attacks, pairs them attack by attack, and goes on where it was stopped")
  func comparison() async throws {
    let extra = [
      "rounds=1", "training.local_steps=1", "data.train_limit=350", "compare.seeds=[1, 2]",
      "compare.attacks=[none, zero]", "overrides.robust.aggregation=median",
    ]
    let report = try await Comparison(scenario: scenario(extra).0).run()
    #expect(report.runs.count == 8 && report.lines.count == 4)
    #expect(report.lines.map(\.attack) == ["none", "none", "zero", "zero"])
    #expect(report.lines.map(\.method) == ["mean", "robust", "mean", "robust"])
    #expect(report.lines.allSatisfy { $0.runs == 2 && ($0.aggregationSeconds ?? 0) > 0 })
    for line in report.lines {
      let same = report.runs.filter { $0.method == line.method && $0.attack == line.attack }
      #expect(same.map(\.seed) == [1, 2])
      // Hostile clients count only where there are any.
      #expect(same.allSatisfy { $0.row.clientAccuracies.count == (line.attack == "none" ? 7 : 5) })
    }
    #expect(report.table.contains("attack") && report.table.contains("aggregation ms"))
    let played = EventLog<String>()
    _ = try await Comparison(scenario: scenario(extra).0).run {
      if case .cell(let name, _, _) = $0 { played.record(name) }
    }
    #expect(played.events.isEmpty)
    _ = try await Comparison(scenario: scenario(extra + ["poison.factor=2"]).0).run {
      if case .cell(let name, _, _) = $0 { played.record(name) }
    }
    // Without hostile clients nothing has changed.
    #expect(played.events == ["mean-zero-seed1", "robust-zero-seed1", "mean-zero-seed2", "robust-zero-seed2"])
  }

  @Test("keeps privacy of records, whatever the rule")
  func privacy() async throws {
    let (report, _) = try await run([
      "rounds=1", "training.local_steps=1", "data.train_limit=350", "overrides.robust.aggregation=geometric-median",
      "privacy.level=record", "privacy.epsilon=8", "privacy.sampling_rate=0.1",
    ])
    #expect(report.rows.allSatisfy { ($0.epsilon ?? 0) > 0 && ($0.epsilon ?? 9) <= 8 })
  }
}
