import FedLoRACheckpoint
import FedLoRADP
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol
import Foundation
import Synchronization

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
    let initial = try await initialTensors(terms, seed: manifest.seed)
    let state = FedLoRAProtocol.TensorLayout(initial.filter(terms.strategy.isSentDown)).declarations
    let update = FedLoRAProtocol.TensorLayout(initial.filter(terms.strategy.isUploaded)).declarations
    guard state == manifest.state, update == manifest.update else {
      throw ManifestRefusal(
        code: "wrong-tensors",
        reason: "the manifest declares other tensors than strategy \(manifest.strategy.name) has on this model"
      )
    }
    if let privacy = terms.privacy {
      let trained = try slots.model(adapter: terms.adapter, head: terms.head).layout.entries
        .filter { terms.trained.includes($0.kind) }
      _ = try privacy.mechanism(dimension: trained.reduce(0) { $0 + $1.count })
      _ = try await ledger(privacy, terms.records)
    }
  }

  /// B and head where the strategy keeps them personal, at their common start.
  public func initialPersonal(_ manifest: WireRunManifest) async throws -> TensorSet {
    let terms = try RunTerms(manifest)
    return try await initialTensors(terms, seed: manifest.seed).filter { terms.strategy.role(of: $0) == .personal }
  }

  /// One copy for all clients of these slots.
  public func resident(_ state: TensorSet) -> TensorSet { slots.resident(state) }

  /// Runs the round's local steps.
  ///
  /// Without privacy everything random comes from (run seed, client name, round). With it the steps are charged to the
  /// ledger first, sampling and noise come from the system, and nothing but tensors is returned.
  public func train(_ assignment: RoundAssignment) async throws -> LocalUpdate {
    let terms = try RunTerms(assignment.manifest)
    let examples = try await data.records(terms.records).examples
    let seed = SeededGenerator.derive(
      assignment.manifest.seed,
      "round",
      .name(assignment.clientName),
      .number(UInt64(assignment.round))
    )
    let firstStep = (assignment.round - 1) * terms.localSteps
    let charge: @Sendable () throws -> Void
    let steps: Steps
    if let record = terms.privacy {
      let ledger = try await ledger(record, terms.records)
      let privacy = privacy
      charge = { try privacy.charge(assignment, terms: record, localSteps: terms.localSteps, to: ledger) }
      let training = PrivateTraining(
        terms: record,
        options: terms.options,
        trained: terms.trained,
        randomness: privacy.randomness(assignment, terms: record),
        dropoutSeed: SeededGenerator.derive(seed, "dropout")
      )
      steps = { runner, values, flag in
        try training.run(runner, parameters: &values, examples: examples, steps: terms.localSteps, firstStep: firstStep)
        {
          _ in try flag.check()
        }
        return nil
      }
    } else {
      charge = {}
      let training = LocalTraining(options: terms.options, trained: terms.trained, seed: seed)
      steps = { runner, values, flag in
        try training.run(runner, parameters: &values, examples: examples, steps: terms.localSteps, firstStep: firstStep)
        {
          _,
          _ in try flag.check()
        }
      }
    }
    let work = terms.work(on: examples, steps: terms.localSteps)
    let (trained, summary) = try await run(steps, work: work, terms, assignment, charge: charge)
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
      work: terms.work(on: examples, steps: record.personalSteps),
      terms,
      assignment
    )
    return trained.filter { terms.strategy.role(of: $0) == .personal }
  }

  /// How well this client's model does, as counts and sums: the state from the coordinator with the client's own
  /// tensors.
  public func score(_ assignment: RoundAssignment, on held: HeldOut) async throws -> TaskScore {
    let terms = try RunTerms(assignment.manifest)
    return try await slots.withRunner(adapter: terms.adapter, head: terms.head) { runner in
      try Evaluation.score(runner, parameters: try parameters(terms, assignment), held: held)
    }
  }

  /// The full adapter of this client: frozen, served, shared and personal tensors together.
  public func adapter(_ assignment: RoundAssignment) throws -> TensorSet {
    let terms = try RunTerms(assignment.manifest)
    let model = try slots.model(adapter: terms.adapter, head: terms.head)
    return model.layout.tensors(from: try parameters(terms, assignment)).merging(model.frozenAdapterTensors)
  }

  /// A stretch of steps on a runner, from the parameters that it is given; stops where the flag is raised.
  private typealias Steps = @Sendable (ModelRunner, inout [Float], StopFlag) throws -> LossSummary?

  /// Takes `steps` from the assignment's parameters when it is this client's turn; cancelling stops it after a step.
  ///
  /// Only the steps themselves keep a core from other clients: the parameters are put together before, and `charge`, which
  /// waits for the disk, is done before too, but not long before. What was trained becomes tensors afterwards.
  private func run(
    _ steps: @escaping Steps,
    work: Double,
    _ terms: RunTerms,
    _ assignment: RoundAssignment,
    charge: @escaping @Sendable () throws -> Void = {}
  ) async throws -> (TensorSet, LossSummary?) {
    let flag = StopFlag()
    let log = slots.log
    return try await withTaskCancellationHandler {
      let (values, summary) = try await slots.admitted(work: work) {
        let ready = try await ClientDesk.crew.perform(work: ClientDesk.urgent) {
          let values = try parameters(terms, assignment)
          try charge()
          return values
        }
        // The only one who holds them, so that steps change them in place.
        let handed = Mutex(consume ready)
        return try await slots.withRunner(adapter: terms.adapter, head: terms.head, work: work) { runner in
          var values = handed.withLock { values in
            defer { values = [] }
            return values
          }
          let take = { try steps(runner, &values, flag) }
          let summary = if let log { try log.note(.training, take) } else { try take() }
          return (values, summary)
        }
      }
      return try await ClientDesk.crew.perform(isCancellable: false) {
        (try slots.model(adapter: terms.adapter, head: terms.head).layout.tensors(from: values), summary)
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
    let model = try slots.model(adapter: terms.adapter, head: terms.head)
    var values = try slots.start(of: model, seed: assignment.manifest.seed)
    try model.layout.assign(assignment.personal, to: &values)
    try model.layout.assign(assignment.state, to: &values)
    return values
  }

  private func initialTensors(_ terms: RunTerms, seed: UInt64) async throws -> TensorSet {
    try await ClientDesk.crew.perform {
      do {
        let model = try slots.model(adapter: terms.adapter, head: terms.head)
        return model.layout.tensors(from: try slots.start(of: model, seed: seed))
      } catch let error as ModelError {
        throw ManifestRefusal(code: "bad-term", reason: "\(error)")
      }
    }
  }
}
