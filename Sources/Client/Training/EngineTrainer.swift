import FedLoRACheckpoint
import FedLoRADP
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol
import Foundation

/// Trains rounds with fedlora's own engine on examples that are already encoded.
public struct EngineTrainer: LocalTrainer {
  /// Where it runs.
  public let slots: EngineSlots
  /// This client's training data, read once a run's terms are acceptable.
  public let data: LocalData
  /// What this client agrees to, and where it accounts for what was spent.
  public let privacy: ClientPrivacy

  /// Takes the slots, the client's own data and its side of privacy.
  public init(slots: EngineSlots, data: LocalData, privacy: ClientPrivacy) {
    self.slots = slots
    self.data = data
    self.privacy = privacy
  }

  /// The number of training examples; in private runs the number that the policy declares, which is not counted.
  public func statedExamples(_ manifest: WireRunManifest) async throws -> Int {
    manifest.hasPrivacy
      ? privacy.policy.declaredExamples : try await data.records(try RunTerms(manifest).records).examples.count
  }

  /// Checks policy, model fingerprint, labels, length, adapter, the declared tensors, the arithmetic of private steps and
  /// the ledger, in this order.
  public func check(_ manifest: WireRunManifest) async throws {
    try privacy.policy.check(manifest)
    let terms = try RunTerms(manifest)
    guard Array(manifest.model.fingerprint) == slots.base.fingerprint else {
      let wanted = manifest.model.fingerprint.prefix(8).map { String(format: "%02x", $0) }.joined()
      throw ManifestRefusal(
        code: "wrong-model",
        reason: "the run is about model \(wanted)…, this client holds another one",
        ownerReason:
          "the run is about model \(wanted)…, this client holds \(slots.base.fingerprintText.prefix(16))… at "
          + "\(slots.base.folder.path)"
      )
    }
    let records = try await data.records(terms.records)
    let (labels, maxLength) = (records.labels, records.maxLength)
    guard manifest.model.labels == labels else {
      throw ManifestRefusal(
        code: "wrong-labels",
        // Which classes there are may be known from the data alone.
        reason: "the run's classes are \(manifest.model.labels.joined(separator: ", ")), this client's data has others",
        ownerReason: "the run's classes are \(manifest.model.labels.joined(separator: ", ")), this client's data has "
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
    if let privacy = terms.privacy {
      let layout = try AdaptedModel(base: slots.base, adapter: terms.adapter, head: terms.head).layout
      let trained = layout.entries.filter { terms.trained.includes($0.kind) }
      _ = try privacy.mechanism(dimension: trained.reduce(0) { $0 + $1.count })
      _ = try await ledger(privacy, terms.records)
    }
  }

  /// B and head where the strategy keeps them personal, at their common start.
  public func initialPersonal(_ manifest: WireRunManifest) async throws -> TensorSet {
    let terms = try RunTerms(manifest)
    return try initialTensors(terms, seed: manifest.seed).filter { terms.strategy.role(of: $0) == .personal }
  }

  /// Runs the round's local steps.
  ///
  /// Without privacy everything random comes from (run seed, client name, round). With it the steps are charged to the
  /// ledger first, sampling and noise come from the system, and nothing but tensors is returned.
  public func train(_ assignment: RoundAssignment) async throws -> LocalUpdate {
    let terms = try RunTerms(assignment.manifest)
    let parameters = try self.parameters(terms, assignment)
    let examples = try await data.records(terms.records).examples
    let seed = SeededGenerator.derive(
      assignment.manifest.seed,
      "round",
      .name(assignment.clientName),
      .number(UInt64(assignment.round))
    )
    let firstStep = (assignment.round - 1) * terms.localSteps
    let work: @Sendable (ModelRunner, inout [Float], StopFlag) throws -> LossSummary?
    if let record = terms.privacy {
      let ledger = try await ledger(record, terms.records)
      let privacy = privacy
      let training = PrivateTraining(
        terms: record,
        options: terms.options,
        trained: terms.trained,
        randomness: privacy.randomness(assignment, terms: record),
        dropoutSeed: SeededGenerator.derive(seed, "dropout")
      )
      work = { runner, values, flag in
        try flag.check()
        try privacy.charge(assignment, terms: record, localSteps: terms.localSteps, to: ledger)
        try training.run(runner, parameters: &values, examples: examples, steps: terms.localSteps, firstStep: firstStep)
        {
          _ in try flag.check()
        }
        return nil
      }
    } else {
      let training = LocalTraining(options: terms.options, trained: terms.trained, seed: seed)
      work = { runner, values, flag in
        try training.run(runner, parameters: &values, examples: examples, steps: terms.localSteps, firstStep: firstStep)
        {
          _,
          _ in try flag.check()
        }
      }
    }
    let (trained, summary) = try await run(work, terms, from: parameters)
    guard summary?.meanLoss.isFinite ?? true, trained.entries.allSatisfy({ $0.tensor.isFinite }) else {
      throw ManifestRefusal(
        code: "diverged",
        reason: "local training gave NaN or infinity; the run needs a lower learning rate"
      )
    }
    // A loss is about the records: in a private run it stays here.
    let sharesLoss = privacy.policy.metrics.contains("loss") && !assignment.manifest.hasPrivacy
    return LocalUpdate(
      upload: trained.filter(terms.strategy.isUploaded),
      personal: trained.filter { terms.strategy.role(of: $0) == .personal },
      metrics: sharesLoss ? summary.map { ["loss": $0.meanLoss] } ?? [:] : [:]
    )
  }

  /// Trains personal tensors that the run's privacy terms held until now. Nothing of it leaves this client.
  public func finish(_ assignment: RoundAssignment) async throws -> TensorSet {
    let terms = try RunTerms(assignment.manifest)
    guard let record = terms.privacy, record.personal == .after, !terms.trainedAfter.isEmpty, record.personalSteps > 0
    else { return assignment.personal }
    let examples = try await data.records(terms.records).examples
    let seed = SeededGenerator.derive(assignment.manifest.seed, "after", .name(assignment.clientName))
    let training = LocalTraining(options: terms.options, trained: terms.trainedAfter, seed: seed)
    let (trained, _) = try await run(
      { runner, values, flag in
        try training.run(runner, parameters: &values, examples: examples, steps: record.personalSteps, firstStep: 0) {
          _,
          _ in try flag.check()
        }
      },
      terms,
      from: try parameters(terms, assignment)
    )
    return trained.filter { terms.strategy.role(of: $0) == .personal }
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
    return model.layout.tensors(from: try parameters(terms, assignment)).merging(model.frozenAdapterTensors)
  }

  /// Runs `work` on one of the slots, from `parameters`; cancelling stops it after a step.
  private func run(
    _ work: @escaping @Sendable (ModelRunner, inout [Float], StopFlag) throws -> LossSummary?,
    _ terms: RunTerms,
    from parameters: [Float]
  ) async throws -> (TensorSet, LossSummary?) {
    let flag = StopFlag()
    return try await withTaskCancellationHandler {
      try await slots.withRunner(adapter: terms.adapter, head: terms.head) { runner in
        var values = parameters
        let summary = try work(runner, &values, flag)
        return (runner.model.layout.tensors(from: values), summary)
      }
    } onCancel: {
      flag.raise()
    }
  }

  private func ledger(_ terms: RecordPrivacy, _ records: RecordTerms) async throws -> PrivacyLedger {
    do { return try await data.ledger(privacy, relation: terms.relation, terms: records) } catch let error
      as LedgerError
    {
      throw ManifestRefusal(error)
    }
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
