import FedLoRACheckpoint
import FedLoRAClient
import FedLoRAConfiguration
import FedLoRACoordinator
import FedLoRADP
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol
import Foundation
import Logging
import Synchronization

/// One method played by a real coordinator on loopback and real clients over TLS, with a throw-away authority.
package struct SimulatedFederation: Sendable {
  let scenario: ScenarioConfiguration
  let data: SimulationData
  let slots: EngineSlots
  let method: ScenarioConfiguration.Method
  /// Folder of this method's durable state and results.
  let folder: URL
  let logger: Logger
  let report: @Sendable (SimulationEvent) -> Void

  /// Takes all parts.
  /// - Parameter report: called from several tasks; a coordinator's events come in order, and while it blocks the
  ///   coordinator does nothing else.
  package init(
    scenario: ScenarioConfiguration,
    data: SimulationData,
    slots: EngineSlots,
    method: ScenarioConfiguration.Method,
    folder: URL,
    logger: Logger,
    report: @escaping @Sendable (SimulationEvent) -> Void
  ) {
    self.scenario = scenario
    self.data = data
    self.slots = slots
    self.method = method
    self.folder = folder
    self.logger = logger
    self.report = report
  }

  /// Most personal models that are evaluated on the pooled held-out set.
  static let pooledModels = 10

  /// Plays the run to its end and evaluates what came of it.
  package func run() async throws -> ResultRow {
    let start = ContinuousClock.now
    report(.started(name: method.name, rounds: scenario.rounds))
    let definition = try definition()
    let authority = try CertificateAuthority()
    let (name, report) = (method.name, report)
    let seconds = Mutex<[Double]>([])
    let server = try await CoordinatorServer.start(
      manifest: definition.manifest,
      initialState: definition.initialState,
      directory: folder.appendingPathComponent("coordinator"),
      identity: try authority.issueCoordinator(),
      host: "127.0.0.1",
      port: 0,
      // All clients live in this process.
      configuration: .crowd,
      logger: logger
    ) { event in
      if case .aggregated(_, _, _, _, _, let duration) = event { seconds.withLock { $0.append(duration) } }
      report(.coordinator(strategy: name, event))
    }
    let (result, outcomes) = try await play(server, authority, definition.manifest)
    switch result.outcome {
    // The state after the last round within the budget stands.
    case .completed, .budgetSpent: break
    default: throw SimulationError.federationFailed(strategy: name, reason: "\(result.outcome)")
    }
    var row = try await evaluate(definition.manifest, result, outcomes, start: start)
    row.aggregationSeconds = seconds.withLock { $0.isEmpty ? nil : $0.reduce(0, +) / Double($0.count) }
    report(.finished(row))
    return row
  }

  /// The run as all parties know it.
  package func definition() throws -> RunDefinition {
    var cohort = scenario.cohort
    cohort.minClients = min(cohort.minClients, data.clients.count)
    cohort.clientsPerRound = min(cohort.clientsPerRound, data.clients.count)
    cohort.quorum = min(cohort.quorum, cohort.clientsPerRound)
    // A balanced cohort's even share is one of the clients that there are.
    var privacy = method.privacy
    if privacy.level == .client, privacy.population == 0 { privacy.population = data.clients.count }
    var model = scenario.model
    model.maxLength = min(model.maxLength, data.base.spec.maximumPositions)
    return try RunDefinition(
      name: "\(scenario.name)-\(method.name)",
      seed: scenario.seed,
      rounds: scenario.rounds,
      labels: data.labels,
      base: data.base,
      model: model,
      strategy: method.strategy,
      adapter: method.adapter,
      training: method.training,
      cohort: cohort,
      privacy: privacy,
      aggregation: method.aggregation
    )
  }

  /// The clients that send something else than what they trained.
  private var poisoned: Set<String> { scenario.poison.names(among: data.clients.map(\.name), seed: scenario.seed) }

  private func play(
    _ server: CoordinatorServer,
    _ authority: CertificateAuthority,
    _ manifest: WireRunManifest
  ) async throws -> (CoordinatorResult, [String: ClientOutcome]) {
    let poisoned = poisoned
    return try await withThrowingTaskGroup(of: (String, ClientOutcome)?.self) { group in
      let result = Task { try await server.run() }
      for client in data.clients {
        let identity = try authority.issueParticipant(try ParticipantName(client.name))
        let isPoisoned = poisoned.contains(client.name)
        let honest = trainer(client, manifest, flipsLabels: isPoisoned && scenario.poison.attack == .labelFlip)
        let trainer: any LocalTrainer = isPoisoned ? PoisonedTrainer(honest, scenario.poison) : honest
        let federated = FederatedClient(
          identity: identity,
          host: "127.0.0.1",
          port: server.port,
          stateDirectory: folder.appendingPathComponent("clients/\(client.name)"),
          trainer: trainer,
          logger: logger
        )
        group.addTask { (client.name, try await federated.run()) }
      }
      return try await withTaskCancellationHandler {
        var outcomes: [String: ClientOutcome] = [:]
        do {
          for try await case (let name, let outcome)? in group { outcomes[name] = outcome }
        } catch {
          await server.stop(reason: "a client failed: \(error)")
          _ = try? await result.value
          throw error
        }
        return (try await result.value, outcomes)
      } onCancel: {
        result.cancel()
      }
    }
  }

  private func evaluate(
    _ manifest: WireRunManifest,
    _ result: CoordinatorResult,
    _ outcomes: [String: ClientOutcome],
    start: ContinuousClock.Instant
  ) async throws -> ResultRow {
    let terms = try RunTerms(manifest)
    let isPersonal = try hasPersonalTensors(terms)
    var clients: [String: TaskScore] = [:]
    var global: [TaskScore] = []
    let adapters = folder.appendingPathComponent("adapters")
    // The pooled set is large and personal models are many: an even choice of them stands for all.
    // What becomes of the hostile clients' own models is nobody's concern.
    let honest = data.clients.filter { !poisoned.contains($0.name) }
    let step = max(1, (honest.count + SimulatedFederation.pooledModels - 1) / SimulatedFederation.pooledModels)
    for (index, client) in honest.enumerated() {
      guard let outcome = outcomes[client.name] else { continue }
      let trainer = trainer(client, manifest)
      let assignment = RoundAssignment(
        manifest: manifest,
        round: scenario.rounds,
        clientName: client.name,
        state: result.finalState,
        personal: outcome.personal
      )
      clients[client.name] = try await trainer.score(assignment, on: data.held(client))
      if isPersonal ? index % step == 0 : index == 0 {
        global.append(try await trainer.score(assignment, on: data.heldOut))
      }
      if isPersonal || index == 0 {
        let adapter = PEFTAdapterFolder(
          configuration: terms.adapter.peft(
            baseModel: scenario.model.path,
            spec: data.base.spec,
            task: terms.task,
            pooling: terms.head?.pooling
          ),
          tensors: try trainer.adapter(assignment)
        )
        try adapter.write(to: adapters.appendingPathComponent(isPersonal ? client.name : "global"))
      }
    }
    return ResultRow(
      name: method.name,
      isBaseline: false,
      clients: clients,
      global: global,
      task: terms.task,
      bytesUp: result.traffic.received,
      bytesDown: result.traffic.sent,
      epsilon: try result.privacy?.epsilon ?? largestEpsilon(manifest),
      seconds: (ContinuousClock.now - start).seconds
    )
  }

  private func trainer(
    _ client: SimulatedClient,
    _ manifest: WireRunManifest,
    flipsLabels: Bool = false
  ) -> EngineTrainer {
    EngineTrainer(
      slots: slots,
      data: LocalData(
        ClientRecords(
          examples: flipsLabels ? PoisonedTrainer.flipped(client.train, labels: data.labels.count) : client.train,
          labels: data.labels,
          maxLength: min(scenario.model.maxLength, data.base.spec.maximumPositions),
          fingerprint: client.fingerprint
        )
      ),
      privacy: ClientPrivacy(policy: .simulated(manifest), ledgerFolder: ledgers(of: client))
    )
  }

  private func ledgers(of client: SimulatedClient) -> URL { folder.appendingPathComponent("ledgers/\(client.name)") }

  /// The largest ε that a client's ledger holds; nil without privacy at record level.
  private func largestEpsilon(_ manifest: WireRunManifest) throws -> Double? {
    guard manifest.privacy.level == "record" else { return nil }
    var largest = 0.0
    for client in data.clients {
      let privacy = ClientPrivacy(policy: .simulated(manifest), ledgerFolder: ledgers(of: client))
      let url = privacy.ledgerURL(fingerprint: client.fingerprint)
      guard FileManager.default.fileExists(atPath: url.path) else { continue }
      largest = max(largest, try LedgerContents(readingFrom: url).spent(delta: manifest.privacy.delta).epsilon)
    }
    return largest
  }

  private func hasPersonalTensors(_ terms: RunTerms) throws -> Bool {
    let model = try AdaptedModel(base: data.base, adapter: terms.adapter, head: terms.head)
    return model.layout.entries.contains { terms.strategy.role(of: $0.name) == .personal }
  }
}

extension ClientPolicy {
  /// What a simulated client agrees to: the run's own terms, whoever is to be protected by them.
  static func simulated(_ manifest: WireRunManifest) -> ClientPolicy {
    var policy = ClientPolicy.standard
    policy.allowSeededNoise = true
    policy.minNoiseMultiplier = 0
    guard manifest.hasPrivacy else { return policy }
    policy.maxEpsilon = manifest.privacy.epsilon
    policy.maxDelta = manifest.privacy.delta
    policy.declaredExamples = Int(clamping: manifest.strategy.weightCap)
    return policy
  }
}
