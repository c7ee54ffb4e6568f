import FedLoRACheckpoint
import FedLoRAClient
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAObservability
import FedLoRAProtocol
import FedLoRATestSupport
import Testing

@Suite("A coordinator's metrics", .timeLimit(.minutes(1)))
struct MetricsTests {
  private let project: Project

  init() throws { project = try Project() }

  private struct Observed {
    let coordinator: RunningCoordinator
    let server: MetricsServer

    func scrape() async throws -> Scrape {
      let (status, _, body) = try await HTTPProbe.get("/metrics", port: server.port)
      #expect(status == 200)
      return try Scrape(body)
    }
  }

  private func observe(
    _ run: ToyRun,
    limits: MetricsServer.Limits = MetricsServer.Limits()
  ) async throws -> Observed {
    let registry = PrometheusRegistry(CoordinatorMetric.descriptions + ProcessMetrics.descriptions)
    let process = ProcessMetrics(registry)
    let coordinator = try await project.serve(run, metrics: registry)
    let server = try await MetricsServer.bind(
      host: "127.0.0.1",
      port: 0,
      limits: limits,
      logger: Project.silent,
      routes: coordinator.server.metricsRoutes(registry) { process.sample() }
    )
    return Observed(coordinator: coordinator, server: server)
  }

  private func clients(_ names: [String], port: Int) -> Task<[ClientOutcome], any Error> {
    Task {
      try await withThrowingTaskGroup(of: ClientOutcome.self) { group in
        for name in names {
          let client = try project.client(name, port: port)
          group.addTask { try await client.run() }
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
    }
  }

  @Test("agree with what the run did")
  func agree() async throws {
    let run = try ToyRun(.fedit, head: .shared, rounds: 3, quorum: 2)
    let observed = try await observe(run)
    let port = observed.coordinator.port
    #expect(try await HTTPProbe.get("/healthz", port: observed.server.port).body == "ok\n")
    #expect(try await observed.scrape()["fedlora_rounds_committed"] == 0)
    // Two strangers, one whose Hello lies and one that speaks no TLS.
    _ = try? await RawParticipant.greet(try project.identity("mallory"), port: port, name: "alice")
    try await observed.coordinator.log.first { if case .refused(_, "name-mismatch", _) = $0 { true } else { false } }
    _ = try await HTTPProbe.exchange(port: port, "GET / HTTP/1.1\r\n\r\n")
    try await observed.coordinator.log.first { if case .refused(_, "not-tls", _) = $0 { true } else { false } }
    // One client whose updates have another shape.
    let bad = try await RawParticipant.join(try project.identity("bad"), port: port)
    let others = clients(["c1", "c2"], port: port)
    for round in 1...3 {
      #expect(try await bad.round().number == round)
      var (update, tensors) = bad.update(round: round, client: "bad")
      tensors[try #require(tensors.names.first)] = Tensor(zeros: [7])
      try await bad.send(update, tensors)
      #expect(try await bad.ack().status == .refused)
    }
    _ = try await bad.next { if case .goodbye? = $0.message { true } else { false } }
    await bad.connection.close()
    #expect(try await others.value.allSatisfy { $0.ending == .completed })
    #expect(try await observed.coordinator.result().outcome == .completed)

    let scrape = try await observed.scrape()
    for description in CoordinatorMetric.descriptions where !description.name.contains("epsilon") {
      // Nobody declined, and nothing was to be said about the coordinator itself.
      if ["declines", "notices", "absences"].contains(where: { description.name.contains($0) }) { continue }
      #expect(scrape.types[description.name] == description.kind.rawValue, "\(description.name) is missing")
      #expect(scrape.help[description.name] == description.help)
    }
    #expect(scrape["fedlora_updates_total{outcome=\"accepted\",reason=\"accepted\"}"] == 6)
    #expect(scrape["fedlora_updates_total{outcome=\"refused\",reason=\"wrong-shape\"}"] == 3)
    #expect(scrape.sum(of: "fedlora_updates_total") == 9)
    #expect(scrape["fedlora_refusals_total{reason=\"name-mismatch\"}"] == 1)
    #expect(scrape["fedlora_refusals_total{reason=\"not-tls\"}"] == 1)
    #expect(scrape.sum(of: "fedlora_refusals_total") == 2)
    #expect(scrape["fedlora_round_seconds_count"] == 3)
    for phase in ["waiting", "collecting", "aggregating", "committing"] {
      #expect(scrape["fedlora_round_phase_seconds_count{phase=\"\(phase)\"}"] == 3, "\(phase)")
    }
    let parts = ["collecting", "aggregating", "committing"]
      .compactMap { scrape["fedlora_round_phase_seconds_sum{phase=\"\($0)\"}"] }.reduce(0, +)
    #expect(abs(parts - (scrape["fedlora_round_seconds_sum"] ?? 0)) < 1e-6)
    #expect(scrape["fedlora_client_phase_seconds_count{phase=\"sending\"}"] == 9)
    #expect(scrape["fedlora_client_phase_seconds_count{phase=\"working\"}"] == 9)
    #expect(scrape["fedlora_client_phase_seconds_count{phase=\"uploading\"}"] == 6)
    #expect(scrape["fedlora_client_answer_seconds_count"] == 6)
    #expect(scrape["fedlora_update_store_seconds_count"] == 6)
    #expect(scrape["fedlora_update_acknowledge_seconds_count"] == 9)
    #expect(scrape["fedlora_rounds_committed"] == 3 && scrape["fedlora_rounds_planned"] == 3)
    #expect(scrape["fedlora_round"] == 3 && scrape["fedlora_round_attempt"] == 1)
    #expect(scrape["fedlora_round_attempts_total"] == 3)
    #expect(scrape["fedlora_run_over"] == 1)
    #expect(scrape["fedlora_clients_at_work"] == 0)
    #expect(scrape["fedlora_outgoing_messages"] == 0 && scrape["fedlora_driver_jobs"] == 0)
    #expect(scrape["fedlora_connections{state=\"open\"}"] == 0)
    #expect(scrape["fedlora_connections{state=\"handshake\"}"] == 0)
    let days = try #require(scrape["fedlora_certificate_remaining_seconds"]) / 86_400
    #expect(abs(days - observed.coordinator.server.identityStatus.expiry.daysLeft()) < 0.01)
    #expect(scrape["fedlora_certificate_ends_soon"] == (days < 14 ? 1 : 0))
    // Tensors in frames in TLS: exact where nothing but the run decides.
    let updateBytes = Double(run.manifest.update.reduce(0) { $0 + 4 * $1.shape.reduce(1) { $0 * Int($1) } })
    let stateBytes = Double(run.manifest.state.reduce(0) { $0 + 4 * $1.shape.reduce(1) { $0 * Int($1) } })
    func bytes(_ layer: String, _ direction: String) -> Double {
      scrape["fedlora_\(layer)_total{direction=\"\(direction)\"}"] ?? -1
    }
    #expect(bytes("payload_bytes", "received") >= 6 * updateBytes)
    // Three rounds and the final state for each.
    #expect(bytes("payload_bytes", "sent") == 12 * stateBytes)
    for direction in ["sent", "received"] {
      #expect(bytes("payload_bytes", direction) < bytes("frame_bytes", direction))
      #expect(bytes("frame_bytes", direction) < bytes("wire_bytes", direction))
      #expect(bytes("frames", direction) >= 14)
    }
    #expect(
      !scrape.samples.keys.contains { key in ["c1", "c2", "bad", "mallory", "alice"].contains { key.contains($0) } }
    )
    #expect(scrape.samples.count < 300)
    let health = try await HTTPProbe.get("/healthz", port: observed.server.port)
    #expect(health.status == 503)
    await observed.server.close()
  }

  @Test("show who is ready and at work while a round is open")
  func openRound() async throws {
    let run = try ToyRun(.fedit, head: .shared, rounds: 1, clients: 2)
    let observed = try await observe(run)
    let port = observed.coordinator.port
    let first = try await RawParticipant.join(try project.identity("p1"), port: port)
    let second = try await RawParticipant.join(try project.identity("p2"), port: port)
    _ = try await first.round()
    _ = try await second.round()
    var scrape = try await observed.scrape()
    #expect(scrape["fedlora_clients_ready"] == 2 && scrape["fedlora_clients_at_work"] == 2)
    #expect(scrape["fedlora_connections{state=\"open\"}"] == 2)
    #expect(scrape["fedlora_round"] == 1 && scrape["fedlora_run_over"] == 0)
    #expect(scrape["fedlora_round_seconds_count"] == 0)
    let (update, tensors) = first.update(round: 1, client: "p1")
    try await first.send(update, tensors)
    #expect(try await first.ack().status == .accepted)
    // The same once more is told apart from what counts.
    try await first.send(update, tensors)
    #expect(try await first.ack().status == .duplicate)
    await second.connection.close()
    try await observed.coordinator.log.first { if case .clientOutcome(1, "p2", "lost", _) = $0 { true } else { false } }
    scrape = try await observed.scrape()
    #expect(scrape["fedlora_clients_ready"] == 1 && scrape["fedlora_clients_at_work"] == 0)
    #expect(scrape["fedlora_absences_total{reason=\"lost\"}"] == 1)
    #expect(scrape["fedlora_updates_total{outcome=\"unused\",reason=\"duplicate\"}"] == 1)
    #expect(scrape["fedlora_updates_total{outcome=\"accepted\",reason=\"accepted\"}"] == 1)
    await observed.coordinator.server.stop(reason: "the test is over")
    _ = try await observed.coordinator.result()
    await observed.server.close()
  }

  @Test("count what clients choose to say under words of our own")
  func declines() async throws {
    let observed = try await observe(try ToyRun(.fedit, head: .shared, rounds: 1))
    for (name, code) in [("p1", "policy"), ("p2", "évil \"word\""), ("p3", "another")] {
      let participant = try await RawParticipant.greet(try project.identity(name), port: observed.coordinator.port)
      var decline = WireDecline()
      decline.runID = participant.manifest.runID
      decline.code = code
      try await participant.connection.send(WireEnvelope(.decline(decline)))
      try await observed.coordinator.log.first { if case .declined(0, name, code, _) = $0 { true } else { false } }
      await participant.connection.close()
    }
    let scrape = try await observed.scrape()
    #expect(scrape["fedlora_declines_total{code=\"policy\"}"] == 1)
    #expect(scrape["fedlora_declines_total{code=\"other\"}"] == 2)
    #expect(scrape.sum(of: "fedlora_declines_total") == 3)
    await observed.coordinator.server.stop(reason: "the test is over")
    _ = try await observed.coordinator.result()
    await observed.server.close()
  }

  @Test("do not tell who or how many were drawn where that is secret")
  func secretCohorts() async throws {
    var run = try ToyRun(.fedit, head: .shared, rounds: 2, clients: 2)
    run.manifest.privacy.level = "client"
    run.manifest.privacy.relation = "add-or-remove-one"
    run.manifest.privacy.sampling = "poisson"
    run.manifest.privacy.samplingRate = 1
    run.manifest.privacy.clippingNorm = 1
    run.manifest.privacy.clipping = "flat"
    run.manifest.privacy.noiseMultiplier = 5
    run.manifest.privacy.divisor = 2
    run.manifest.privacy.population = 2
    run.manifest.privacy.epsilon = 50
    run.manifest.privacy.delta = 1e-5
    let observed = try await observe(run)
    let before = try await observed.scrape()
    #expect(before["fedlora_privacy_epsilon_spent"] == 0 && before["fedlora_privacy_epsilon_budget"] == 50)
    let outcomes = try await clients(["c1", "c2"], port: observed.coordinator.port).value
    #expect(outcomes.allSatisfy { $0.ending == .completed })
    let result = try await observed.coordinator.result()
    let scrape = try await observed.scrape()
    #expect(scrape["fedlora_rounds_committed"] == 2 && scrape["fedlora_round_seconds_count"] == 2)
    #expect(scrape["fedlora_privacy_epsilon_spent"] == result.privacy?.epsilon)
    #expect(try #require(result.privacy?.epsilon) > 0)
    for name in [
      "updates", "absences", "declines", "clients_at_work", "client_", "update_", "outgoing", "_bytes", "frames",
    ] {
      let shown = scrape.samples.keys.filter { $0.hasPrefix("fedlora_") && $0.contains(name) }
      #expect(shown.isEmpty, "\(shown)")
    }
    await observed.server.close()
  }

  @Test("are no way to hold up a round: scrapers that are slow, half-open or many")
  func hostileScrapers() async throws {
    var limits = MetricsServer.Limits()
    limits.connections = 8
    limits.requestTime = .seconds(30)
    limits.answerTime = .seconds(30)
    let observed = try await observe(try ToyRun(.fedit, head: .shared, rounds: 5), limits: limits)
    var probes: [HTTPProbe] = []
    for number in 0..<24 {
      let probe = try await HTTPProbe.connect(port: observed.server.port, reads: false)
      await probe.send(number % 2 == 0 ? "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" : "GET /met")
      probes.append(probe)
    }
    let clock = ContinuousClock.now
    let outcomes = try await clients(["c1", "c2", "c3"], port: observed.coordinator.port).value
    #expect(outcomes.allSatisfy { $0.ending == .completed })
    #expect(try await observed.coordinator.result().outcome == .completed)
    // Nothing that these hold ends within thirty seconds.
    #expect(ContinuousClock.now - clock < .seconds(15))
    #expect(observed.server.connectionCount <= 8)
    for probe in probes { probe.close() }
    await observed.server.close()
  }
}
