import FedLoRACheckpoint
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol
import Foundation

/// Trains rounds with fedlora's own engine on examples that are already encoded.
public struct EngineTrainer: LocalTrainer {
  /// Where it runs.
  public let slots: EngineSlots
  /// This client's training examples.
  public let examples: [EncodedExample]
  /// Class names in the order in which `examples` count them.
  public let labels: [String]
  /// Longest sequence to which the examples were truncated.
  public let maxLength: Int
  /// Whether the mean training loss may leave the client.
  public let sharesLoss: Bool

  /// Takes the slots and the client's own data.
  public init(
    slots: EngineSlots,
    examples: [EncodedExample],
    labels: [String],
    maxLength: Int,
    sharesLoss: Bool = true
  ) {
    self.slots = slots
    self.examples = examples
    self.labels = labels
    self.maxLength = maxLength
    self.sharesLoss = sharesLoss
  }

  /// Number of training examples.
  public var exampleCount: Int { examples.count }

  /// Checks model fingerprint, labels, length, adapter and the declared tensors.
  public func check(_ manifest: WireRunManifest) async throws {
    let terms = try RunTerms(manifest)
    guard Array(manifest.model.fingerprint) == slots.base.fingerprint else {
      let wanted = manifest.model.fingerprint.prefix(8).map { String(format: "%02x", $0) }.joined()
      throw ManifestRefusal(
        code: "wrong-model",
        reason: "the run is about model \(wanted)…, this client holds \(slots.base.fingerprintText.prefix(16))… at "
          + "\(slots.base.folder.path)"
      )
    }
    guard manifest.model.labels == labels else {
      throw ManifestRefusal(
        code: "wrong-labels",
        reason: "the run's classes are \(manifest.model.labels.joined(separator: ", ")), this client's data has "
          + labels.joined(separator: ", ")
      )
    }
    guard terms.maxLength == maxLength else {
      throw ManifestRefusal(
        code: "wrong-length",
        reason: "the run truncates to \(terms.maxLength) tokens, this client to \(maxLength)"
      )
    }
    let initial = try initialTensors(terms, seed: manifest.seed)
    let state = FedLoRAProtocol.TensorLayout(initial.filter(terms.strategy.isSentDown)).declarations
    let update = FedLoRAProtocol.TensorLayout(initial.filter(terms.strategy.isUploaded)).declarations
    guard state == manifest.state, update == manifest.update else {
      throw ManifestRefusal(
        code: "wrong-tensors",
        reason: "the manifest declares other tensors than strategy \(manifest.strategy.name) has on this model"
      )
    }
  }

  /// B and head where the strategy keeps them personal, at their common start.
  public func initialPersonal(_ manifest: WireRunManifest) async throws -> TensorSet {
    let terms = try RunTerms(manifest)
    return try initialTensors(terms, seed: manifest.seed).filter { terms.strategy.role(of: $0) == .personal }
  }

  /// Runs the round's local steps. Everything random comes from (run seed, client name, round).
  public func train(_ assignment: RoundAssignment) async throws -> LocalUpdate {
    let terms = try RunTerms(assignment.manifest)
    let parameters = try self.parameters(terms, assignment)
    let examples = examples
    let seed = SeededGenerator.derive(
      assignment.manifest.seed,
      "round",
      .name(assignment.clientName),
      .number(UInt64(assignment.round))
    )
    let flag = StopFlag()
    let (trained, summary) = try await withTaskCancellationHandler {
      try await slots.withRunner(adapter: terms.adapter, head: terms.head) { runner in
        var values = parameters
        let training = LocalTraining(options: terms.options, trained: terms.trained, seed: seed)
        let summary = try training.run(
          runner,
          parameters: &values,
          examples: examples,
          steps: terms.localSteps,
          firstStep: (assignment.round - 1) * terms.localSteps
        ) { _, _ in
          if flag.isRaised { throw CancellationError() }
        }
        return (runner.model.layout.tensors(from: values), summary)
      }
    } onCancel: {
      flag.raise()
    }
    guard summary.meanLoss.isFinite, trained.entries.allSatisfy({ $0.tensor.isFinite }) else {
      throw ManifestRefusal(
        code: "diverged",
        reason: "local training gave NaN or infinity; the run needs a lower learning rate"
      )
    }
    return LocalUpdate(
      upload: trained.filter(terms.strategy.isUploaded),
      personal: trained.filter { terms.strategy.role(of: $0) == .personal },
      metrics: sharesLoss ? ["loss": summary.meanLoss] : [:]
    )
  }

  /// Loss and accuracy of this client's model: the state from the coordinator with the client's own tensors.
  public func evaluate(_ assignment: RoundAssignment, on held: [EncodedExample]) async throws -> LossSummary {
    let terms = try RunTerms(assignment.manifest)
    let parameters = try self.parameters(terms, assignment)
    return try await slots.withRunner(adapter: terms.adapter, head: terms.head) { runner in
      try Evaluation.run(runner, parameters: parameters, examples: held)
    }
  }

  /// The full adapter of this client: frozen, served, shared and personal tensors together.
  public func adapter(_ assignment: RoundAssignment) throws -> TensorSet {
    let terms = try RunTerms(assignment.manifest)
    let model = try AdaptedModel(base: slots.base, adapter: terms.adapter, head: terms.head)
    return model.layout.tensors(from: try parameters(terms, assignment))
  }

  private func parameters(_ terms: RunTerms, _ assignment: RoundAssignment) throws -> [Float] {
    let model = try AdaptedModel(base: slots.base, adapter: terms.adapter, head: terms.head)
    var values = try AdapterInitialisation.parameters(of: model, seed: assignment.manifest.seed)
    try model.layout.assign(assignment.personal, to: &values)
    try model.layout.assign(assignment.state, to: &values)
    return values
  }

  private func initialTensors(_ terms: RunTerms, seed: UInt64) throws -> TensorSet {
    do {
      let model = try AdaptedModel(base: slots.base, adapter: terms.adapter, head: terms.head)
      return model.layout.tensors(from: try AdapterInitialisation.parameters(of: model, seed: seed))
    } catch let error as ModelError {
      throw ManifestRefusal(code: "bad-term", reason: "\(error)")
    }
  }
}
