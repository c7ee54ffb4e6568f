import FedLoRACheckpoint
import FedLoRAClient
import FedLoRAConfiguration
import FedLoRADP
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol
import Foundation

/// Model and data of an audit, and how a configuration's worlds are chosen from them.
package struct AuditPreparation: Sendable {
  /// The embedded default, without dropout, with one short round of full batches and a clipping norm that every gradient
  /// exceeds.
  package let scenario: ScenarioConfiguration
  /// Model and data.
  package let data: SimulationData

  /// Records that both worlds have.
  package static let recordCount = 16
  /// Tickets that can become the canary.
  private static let candidateTickets = 8
  /// Canaries whose worlds are tried without noise.
  private static let triedCanaries = 4
  /// Steps without privacy on other tickets before the audited ones, as after some rounds of a run.
  private static let warmUpSteps = 20

  /// Reads the embedded model and data.
  package init(noiseMultiplier: Double, steps: Int) throws {
    scenario = try ScenarioConfiguration.load(
      nil,
      assignments: [
        "rounds=1", "training.local_steps=\(steps)", "adapter.dropout=0", "privacy.level=record",
        "privacy.noise_multiplier=\(noiseMultiplier)", "privacy.sampling_rate=1", "privacy.clipping_norm=0.0001",
        "data.train_limit=480", "clients.partition=iid",
      ]
    ).0
    data = try SimulationData.load(scenario)
  }

  /// The terms of a configuration, by the way that a run file takes.
  package func terms(_ subject: AuditSubject) throws -> (RunTerms, RecordPrivacy) {
    guard var method = scenario.method(subject.strategy.rawValue) else {
      throw ConfigurationError(source: "audit", reason: "there is no strategy '\(subject.strategy.rawValue)'")
    }
    method.privacy.personal = subject.personal.rawValue
    let definition = try RunDefinition(
      name: "audit",
      seed: scenario.seed,
      rounds: scenario.rounds,
      labels: data.labels,
      base: data.base,
      model: scenario.model,
      strategy: method.strategy,
      adapter: method.adapter,
      training: method.training,
      cohort: scenario.cohort,
      privacy: method.privacy
    )
    let terms = try RunTerms(definition.manifest)
    guard let privacy = terms.privacy else {
      throw ConfigurationError(source: "audit", key: "privacy.level", reason: "must be 'record'")
    }
    return (terms, privacy)
  }

  /// Chooses start, canary and direction. Must be called from the runner's pool.
  package func setting(
    _ subject: AuditSubject,
    _ terms: RunTerms,
    _ privacy: RecordPrivacy,
    _ runner: ModelRunner
  ) throws -> AuditSetting {
    let start = try start(subject, terms, runner)
    let records = Array(tickets(subject).prefix(AuditPreparation.recordCount))
    let claimed = try PrivacyAccountant(relation: privacy.relation).epsilon(
      of: [privacy.phase(steps: terms.localSteps)],
      delta: privacy.delta
    ).epsilon
    func made(_ canary: EncodedExample, _ direction: [Float], _ separation: Double) -> AuditSetting {
      AuditSetting(
        subject: subject,
        terms: terms,
        privacy: privacy,
        claimed: claimed,
        start: start,
        records: records,
        canary: canary,
        direction: direction,
        separation: separation
      )
    }
    let candidates = try candidates(subject, terms, start, runner)
    var best = made(candidates[0], [], -1)
    let without = try releases(best, runner, records)
    for canary in candidates {
      let with = try releases(best, runner, records + [canary])
      let difference = zip(with, without).map { $0 - $1 }
      let (direction, separation) = direction(difference, best, runner)
      if separation > best.separation { best = made(canary, direction, separation) }
    }
    return best
  }

  /// The start of the run from its seed, and some plain steps on tickets that are in neither world.
  ///
  /// With them B is not zero, so that A has a gradient from the first step on. The leak of an unnoised B is largest from
  /// B = 0, in a client whose own head has learnt its one class.
  private func start(_ subject: AuditSubject, _ terms: RunTerms, _ runner: ModelRunner) throws -> [Float] {
    var values = try AdapterInitialisation.parameters(of: runner.model, seed: scenario.seed)
    let kinds: TrainedKinds = subject == .broken(.unsoundFedSA) ? .head : terms.trained
    _ = try LocalTraining(options: terms.options, trained: kinds, seed: scenario.seed).run(
      runner,
      parameters: &values,
      examples: Array(
        tickets(subject).dropFirst(AuditPreparation.recordCount + AuditPreparation.candidateTickets)
      ),
      steps: AuditPreparation.warmUpSteps,
      firstStep: 0
    )
    return values
  }

  /// The tickets that an audit uses, the shortest first, which are the cheapest: first the records, then those that can
  /// become the canary, then those of the steps before. For the unnoised B all are of one class: where the client's head
  /// knows it well, a wrong label outweighs all records and turns B around.
  private func tickets(_ subject: AuditSubject) -> [EncodedExample] {
    let all = data.train.sorted { $0.ids.count < $1.ids.count }
    return subject == .broken(.unsoundFedSA) ? all.filter { $0.label == 0 } : all
  }

  /// Tickets with each wrong label: those whose gradients show most in what is uploaded, and among equals the largest.
  private func candidates(
    _ subject: AuditSubject,
    _ terms: RunTerms,
    _ start: [Float],
    _ runner: ModelRunner
  ) throws -> [EncodedExample] {
    let own = tickets(subject).dropFirst(AuditPreparation.recordCount).prefix(AuditPreparation.candidateTickets)
    let all = own.flatMap { ticket in
      data.labels.indices.filter { $0 != ticket.label }.map {
        EncodedExample(ids: ticket.ids, typeIds: ticket.typeIds, label: $0)
      }
    }
    let entries = runner.model.layout.entries.filter { terms.trained.includes($0.kind) }
    let gradients = try runner.exampleGradients(PackedBatch(all), parameters: start, trained: terms.trained)
    let weights = gradients.map { gradient in
      var place = 0
      var uploaded = 0.0
      for entry in entries {
        if terms.strategy.isUploaded(entry.name) {
          uploaded += gradient[place..<place + entry.count].reduce(0) { $0 + Double($1) * Double($1) }
        }
        place += entry.count
      }
      let norm = GradientNorm.norm(gradient)
      return (share: norm > 0 ? (100 * uploaded.squareRoot() / norm).rounded() : 0, norm: norm)
    }
    let order = weights.indices.sorted { weights[$0] > weights[$1] }
    return order.prefix(AuditPreparation.triedCanaries).map { all[$0] }
  }

  /// The sum over the steps of what they release, without noise.
  private func releases(_ setting: AuditSetting, _ runner: ModelRunner, _ examples: [EncodedExample]) throws -> [Double]
  {
    var values = setting.start
    let sums = try setting.noiseFree.sums(runner, parameters: &values, examples: examples, randomness: .system())
    var total = [Double](repeating: 0, count: sums.first?.count ?? 0)
    for sum in sums { for index in total.indices { total[index] += sum[index] } }
    return total
  }

  /// The direction over the whole vector from the difference of the released sums, and its norm in units of C.
  private func direction(_ difference: [Double], _ setting: AuditSetting, _ runner: ModelRunner) -> ([Float], Double) {
    var direction = [Float](repeating: 0, count: runner.model.layout.count)
    var squares = 0.0
    var place = 0
    for entry in runner.model.layout.entries where setting.noiseFree.released.includes(entry.kind) {
      defer { place += entry.count }
      guard setting.terms.strategy.isUploaded(entry.name) else { continue }
      // Noise and signal move a parameter by its learning rate: what weighs is the ratio of the two.
      let options = setting.terms.options
      let rate = entry.kind == .head ? options.headLearningRate : options.learningRate
      for index in 0..<entry.count {
        let value = difference[place + index] / setting.privacy.clippingNorm
        squares += value * value
        direction[entry.offset + index] = Float(-value / rate)
      }
    }
    return (direction, squares.squareRoot())
  }
}
