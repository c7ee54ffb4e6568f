import FedLoRACheckpoint
import FedLoRAClient
import FedLoRAFederation
import FedLoRAProtocol
import Foundation
import Synchronization

/// A run of four tiny tensors that needs no model.
package struct ToyRun: Sendable {
  package var manifest: WireRunManifest
  package let initialState: TensorSet
  package let strategy: Strategy

  /// All tensors at their common start.
  package static let start: TensorSet = TensorSet([
    "m.lora_A.weight": ToyRun.tensor([2, 3], "start", 0, "A"),
    "m.lora_B.weight": ToyRun.tensor([4, 2], "start", 0, "B"),
    "classifier.weight": ToyRun.tensor([2, 4], "start", 0, "W"), "classifier.bias": ToyRun.tensor([2], "start", 0, "b"),
  ])

  package init(
    _ name: StrategyName = .fedsaLoRA,
    head: HeadRole = .personal,
    id: String = "toy",
    seed: UInt64 = 7,
    rounds: Int = 3,
    clients: Int = 3,
    perRound: Int? = nil,
    quorum: Int? = nil,
    deadline: Double = 60,
    weighting: String = "uniform"
  ) throws {
    strategy = try Strategy(name: name, head: head)
    initialState = ToyRun.start.filter(strategy.isSentDown)
    var manifest = WireRunManifest()
    manifest.runID = id
    manifest.seed = seed
    manifest.rounds = UInt32(rounds)
    manifest.strategy.name = name.rawValue
    manifest.strategy.head = head.rawValue
    manifest.strategy.weighting = weighting
    manifest.strategy.weightCap = 10
    manifest.strategy.refactoriseEvery = 1
    manifest.model.fingerprint = ToyTrainer.fingerprint
    manifest.cohort.minClients = UInt32(clients)
    manifest.cohort.clientsPerRound = UInt32(perRound ?? clients)
    manifest.cohort.quorum = UInt32(quorum ?? perRound ?? clients)
    manifest.cohort.deadlineSeconds = deadline
    manifest.state = FedLoRAProtocol.TensorLayout(initialState).declarations
    manifest.update = FedLoRAProtocol.TensorLayout(ToyRun.start.filter(strategy.isUploaded)).declarations
    self.manifest = manifest
  }

  /// Numbers in [-0.5, 0.5] that depend on all arguments and nothing else.
  package static func tensor(_ shape: [Int], _ client: String, _ round: Int, _ name: String) -> Tensor {
    var state: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in "\(client)/\(round)/\(name)".utf8 { state = (state ^ UInt64(byte)) &* 0x100_0000_01B3 }
    var result = Tensor(zeros: shape)
    for index in result.values.indices {
      state = (state ^ (state >> 29)) &* 0xBF58_476D_1CE4_E5B9 &+ 0x9E37_79B9_7F4A_7C15
      result.values[index] = Float(state >> 40) / Float(1 << 24) - 0.5
    }
    return result
  }
}

/// Trains by arithmetic: the same assignment gives the same update.
package final class ToyTrainer: LocalTrainer {
  package static let fingerprint = Data("the toy model".utf8)

  package let exampleCount: Int
  private let fingerprint: Data
  private let before: @Sendable (RoundAssignment) async throws -> Void
  private let rounds = Mutex<[Int]>([])

  /// - Parameter before: runs at the start of each round's training.
  package init(
    examples: Int = 5,
    fingerprint: Data = ToyTrainer.fingerprint,
    before: @escaping @Sendable (RoundAssignment) async throws -> Void = { _ in }
  ) {
    exampleCount = examples
    self.fingerprint = fingerprint
    self.before = before
  }

  /// The rounds that were trained here, in order.
  package var trained: [Int] { rounds.withLock { $0 } }

  package func statedExamples(_ manifest: WireRunManifest) async throws -> Int { exampleCount }

  package func check(_ manifest: WireRunManifest) async throws {
    guard manifest.model.fingerprint == fingerprint else {
      throw ManifestRefusal(code: "wrong-model", reason: "the run is about another model")
    }
  }

  package func initialPersonal(_ manifest: WireRunManifest) async throws -> TensorSet {
    let strategy = try ToyTrainer.strategy(manifest)
    return ToyRun.start.filter { strategy.role(of: $0) == .personal }
  }

  package func train(_ assignment: RoundAssignment) async throws -> LocalUpdate {
    try await before(assignment)
    let strategy = try ToyTrainer.strategy(assignment.manifest)
    var all = ToyRun.start.merging(assignment.personal).merging(assignment.state)
    for entry in all.entries where strategy.isTrained(entry.name) {
      let step = ToyRun.tensor(entry.tensor.shape, assignment.clientName, assignment.round, entry.name)
      all[entry.name]?.values = zip(entry.tensor.values, step.values).map { 0.9 * $0 + 0.1 * $1 }
    }
    rounds.withLock { $0.append(assignment.round) }
    return LocalUpdate(
      upload: all.filter(strategy.isUploaded),
      personal: all.filter { strategy.role(of: $0) == .personal },
      metrics: ["loss": 1 / Double(assignment.round), "norm": 2, "accuracy": 0.5]
    )
  }

  private static func strategy(_ manifest: WireRunManifest) throws -> Strategy {
    guard let name = StrategyName(rawValue: manifest.strategy.name),
      let head = HeadRole(rawValue: manifest.strategy.head)
    else { throw ManifestRefusal(code: "unknown-term", reason: "strategy") }
    return try Strategy(name: name, head: head)
  }
}
