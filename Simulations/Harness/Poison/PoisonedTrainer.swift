import FedLoRACheckpoint
import FedLoRAClient
import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRAProtocol

/// A client that does everything as an honest one does, policy, training, personal tensors, sealing and sending alike, and then
/// sends something else than what it trained. For simulations alone: no configuration of a run leads here.
package struct PoisonedTrainer: LocalTrainer {
  private let honest: any LocalTrainer
  private let attack: PoisonSection.Attack
  private let factor: Double

  /// - Parameters:
  ///   - honest: what trains; under `label-flip` on data that are flipped already (`flipped`).
  ///   - section: what is sent in the place of what was trained.
  package init(_ honest: any LocalTrainer, _ section: PoisonSection) {
    self.honest = honest
    attack = section.attack
    factor = section.factor
  }

  package func statedExamples(_ manifest: WireRunManifest) async throws -> Int {
    try await honest.statedExamples(manifest)
  }

  package func check(_ manifest: WireRunManifest) async throws { try await honest.check(manifest) }

  package func initialPersonal(_ manifest: WireRunManifest) async throws -> TensorSet {
    try await honest.initialPersonal(manifest)
  }

  package func resident(_ state: TensorSet) -> TensorSet { honest.resident(state) }

  package func train(_ assignment: RoundAssignment) async throws -> LocalUpdate {
    let update = try await honest.train(assignment)
    var upload = update.upload
    let spread = PoisonedTrainer.rootMeanSquare(of: update.upload, from: assignment.state)
    // The same round gives the same update, so that a crash changes nothing.
    var generator = SeededGenerator(
      seed: assignment.manifest.seed,
      "poison",
      .name(assignment.clientName),
      .number(UInt64(assignment.round))
    )
    for entry in update.upload.entries {
      let sent = assignment.state[entry.name]?.values ?? []
      upload[entry.name]?.values = zip(entry.tensor.values, sent).map { new, old in
        let (new, old) = (Double(new), Double(old))
        let poisoned =
          switch attack {
          case .signFlip: old - factor * (new - old)
          case .scale, .labelFlip: old + factor * (new - old)
          case .noise: old + factor * spread * generator.normal()
          case .zero: 0.0
          }
        return Float(poisoned)
      }
    }
    return LocalUpdate(upload: upload, personal: update.personal, metrics: update.metrics)
  }

  package func finish(_ assignment: RoundAssignment) async throws -> TensorSet { try await honest.finish(assignment) }

  private static func rootMeanSquare(of upload: TensorSet, from state: TensorSet) -> Double {
    var squares = 0.0
    for entry in upload.entries {
      for (new, old) in zip(entry.tensor.values, state[entry.name]?.values ?? []) {
        squares += (Double(new) - Double(old)) * (Double(new) - Double(old))
      }
    }
    return (squares / Double(max(1, upload.elementCount))).squareRoot()
  }

  /// The examples with each label exchanged for the next one, the last for the first.
  package static func flipped(_ examples: [EncodedExample], labels count: Int) -> [EncodedExample] {
    examples.map { example in
      EncodedExample(ids: example.ids, typeIds: example.typeIds, label: (example.label + 1) % max(1, count))
    }
  }
}

extension PoisonSection {
  /// Which of these clients are hostile: as many as the section says, by the scenario's seed; in one scenario those of a smaller
  /// number are among those of a larger.
  package func names(among clients: [String], seed: UInt64) -> Set<String> {
    guard self.clients > 0 else { return [] }
    var generator = SeededGenerator(seed: seed, "poisoned-clients")
    let order = generator.permutation(clients.count)
    return Set(order.prefix(min(self.clients, clients.count - 1)).map { clients[$0] })
  }
}
