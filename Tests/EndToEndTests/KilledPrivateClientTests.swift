import FedLoRAConfiguration
import FedLoRADP
import FedLoRAEngine
import FedLoRAProtocol
import FedLoRASimulation
import FedLoRATestSupport
import Foundation
import Testing

/// `kill -9`, 200 times, at random instants of `fedlora client` in a run with record-level privacy.
///
/// Three accounts are held against one another: the client's ledger; the releases that reached the other side; and the
/// client's own lines, where "training" comes before the charge and "trained" after the noise was drawn and sealed.
@Suite("EndToEnd: a private client that is killed", .timeLimit(.minutes(4)), .serialized)
struct KilledPrivateClientTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private static let kills = 200
  private static let localSteps = 3
  /// Rounds that the budget has room for after what an earlier run took.
  private static let room = 300
  private static let name = "hospital"
  private static let runID = "killed"

  /// Everything on disk, with the ledger of an earlier run that took half of the budget.
  private struct Deployment {
    let folder: URL
    let manifest: WireRunManifest
    let recorder: ReleaseRecorder
    let ledger: URL
    let maxEpsilon: Double
    let arguments: [String]

    func client() throws -> Program { try Program(arguments, in: folder) }

    /// What the ledger charged to the run.
    func charges() throws -> [LedgerCharge] {
      try LedgerContents(readingFrom: ledger).charges.filter { $0.runID == KilledPrivateClientTests.runID }
    }
  }

  private func deploy() async throws -> Deployment {
    let folder = scratch.url
    let lines = try String(contentsOf: EmbeddedAssets.train, encoding: .utf8).split(separator: "\n").prefix(81)
    let data = folder.appendingPathComponent("data.tsv")
    try Data((lines.joined(separator: "\n") + "\n").utf8).write(to: data)
    let labels = try DatasetReader.read(EmbeddedAssets.train).labels
    let encoder = try EmbeddedAssets.encoder
    var yaml = try LayeredYAML(defaults: RunConfiguration.defaults)
    for assignment in [
      "name=\(Self.runID)", "labels=[\(labels.joined(separator: ", "))]", "model.path='\(encoder.path)'",
      "strategy.name=fedsvd", "adapter.rank=2", "rounds=\(2 * Self.room)", "training.local_steps=\(Self.localSteps)",
      "training.batch_size=8", "privacy.level=record", "privacy.sampling_rate=0.05", "privacy.noise_multiplier=3",
    ] { try yaml.set(assignment) }
    let file = folder.appendingPathComponent("run.yaml")
    try Data(yaml.text().utf8).write(to: file)
    let base = try FrozenModel(folder: encoder)
    let (configuration, _) = try RunConfiguration.load(file, assignments: [])
    let definition = try RunDefinition(configuration, base: base)
    let terms = definition.manifest.privacy
    // Twice the room for twice the rounds, of which the earlier run took one half.
    let maxEpsilon = terms.epsilon * (1 + 1e-9)
    try Data("max_epsilon: \(maxEpsilon)\n".utf8).write(to: folder.appendingPathComponent("policy.yaml"))
    let ledgers = folder.appendingPathComponent("state/ledgers")
    try FileManager.default.createDirectory(at: ledgers, withIntermediateDirectories: true)
    let fingerprint = DatasetFingerprint.of(try DatasetReader.read(data, labels: labels))
    let url = ledgers.appendingPathComponent("ledger-\(fingerprint.prefix(16)).jsonl")
    let ledger = try PrivacyLedger(at: url, dataset: fingerprint, relation: .addOrRemoveOne)
    try ledger.charge(
      LedgerCharge(
        runID: "earlier",
        client: Self.name,
        round: 1,
        phase: try PrivatePhase(
          sampling: .poisson(rate: terms.samplingRate),
          noiseMultiplier: terms.noiseMultiplier,
          steps: Self.room * Self.localSteps
        ),
        clippingNorm: terms.clippingNorm,
        strategy: "fedsvd",
        seeded: false
      )
    )
    ledger.close()
    #expect(try await Program.run(["ca", "init", "ca"], in: folder).status == 0)
    #expect(try await Program.run(["ca", "issue", Self.name], in: folder).status == 0)
    let recorder = try await ReleaseRecorder(
      definition.manifest,
      definition.initialState,
      identity: try TLSIdentity.load(from: folder.appendingPathComponent("ca/coordinator"))
    )
    return Deployment(
      folder: folder,
      manifest: definition.manifest,
      recorder: recorder,
      ledger: url,
      maxEpsilon: maxEpsilon,
      arguments: [
        "client", "--server", "127.0.0.1:\(recorder.port)", "--identity", "ca/participants/\(Self.name)", "--model",
        encoder.path, "--data", "data.tsv", "--labels", labels.joined(separator: ","), "--state", "state", "--policy",
        "policy.yaml",
      ]
    )
  }

  /// How long a start up to the first round and a round take, at best so far: other tests may load the machine meanwhile.
  private struct Pace {
    var start: Duration
    var round: Duration

    /// Measures a life that nobody cuts short.
    init(_ deployment: Deployment) async throws {
      let begin = ContinuousClock.now
      let program = try deployment.client()
      defer { program.cleanUp() }
      try await program.line("round 1: training")
      start = ContinuousClock.now - begin
      try await program.line("round 4: training")
      round = (ContinuousClock.now - begin - start) / 3
      program.kill()
      _ = try await program.end()
    }
  }

  @Test("200 times has paid for every step that it released, and never passes its budget")
  func killed() async throws {
    let deployment = try await deploy()
    let recorder = deployment.recorder
    let serving = Task { await recorder.serve() }
    defer { recorder.stop() }
    var pace = try await Pace(deployment)
    var seed = UInt64.random(in: 0...UInt64.max)
    if let text = ProcessInfo.processInfo.environment["FEDLORA_TEST_SEED"], let given = UInt64(text) { seed = given }
    var random = SeededGenerator(seed: seed, "kills")
    var begun = 4
    var trained = 3
    var lastCharges = try deployment.charges()
    for life in 1...Self.kills {
      let begin = ContinuousClock.now
      let program = try deployment.client()
      defer { program.cleanUp() }
      // A fifth of the instants lie anywhere in the start, the others between joining and the end of the second round.
      if random.uniform() < 0.2 {
        try await Task.sleep(for: pace.start * random.uniform())
      } else {
        try await program.line("joined run")
        pace.start = min(pace.start, ContinuousClock.now - begin)
        pace.round = min(pace.round, recorder.record.fastest ?? pace.round)
        try await Task.sleep(for: pace.round * (1.6 * random.uniform()))
      }
      program.kill()
      let status = try await program.end().status
      #expect(status == -9, "life \(life), seed \(seed): \(program.errors.events)")
      begun += program.errors.events.count { $0.hasSuffix(": training") }
      trained += program.errors.events.count { $0.hasSuffix(": trained") }
      let released = recorder.record.released
      let charges = try deployment.charges()
      #expect(Array(charges.prefix(lastCharges.count)) == lastCharges, "life \(life), seed \(seed)")
      #expect(charges.count >= max(released, trained) && charges.count <= begun, "life \(life), seed \(seed)")
      lastCharges = charges
    }
    // Left alone it trains until the budget is spent, and says so instead of passing it.
    let last = try deployment.client()
    defer { last.cleanUp() }
    try await recorder.declined.first(within: .seconds(60)) { $0 == "budget-spent" }
    last.kill()
    _ = try await last.end()
    recorder.stop()
    await serving.value
    try expectAccounts(deployment, beforeLast: lastCharges.count, seed: seed)
  }

  private func expectAccounts(_ deployment: Deployment, beforeLast: Int, seed: UInt64) throws {
    let record = deployment.recorder.record
    let contents = try LedgerContents(readingFrom: deployment.ledger)
    let charges = try deployment.charges()
    #expect(deployment.recorder.faults.events.isEmpty, "seed \(seed): \(deployment.recorder.faults.events)")
    #expect(Set(record.declines) == ["budget-spent"], "seed \(seed): \(record.declines)")
    // One round, one release, however often it was asked for; and each was paid for.
    for (round, digests) in record.releases {
      #expect(digests.count == 1, "seed \(seed): round \(round) was released \(digests.count) times")
      #expect(charges.contains { $0.round == round }, "seed \(seed): round \(round)")
    }
    let chargedSteps = charges.reduce(0) { $0 + $1.phase.steps }
    #expect(chargedSteps >= record.released * Self.localSteps)
    #expect(charges.allSatisfy { $0.phase.steps == Self.localSteps && !$0.seeded })
    // The budget is used up to the last round that fits, and not passed.
    let delta = deployment.manifest.privacy.delta
    #expect(charges.count == Self.room, "seed \(seed)")
    #expect(try contents.spent(delta: delta).epsilon <= deployment.maxEpsilon)
    let next = try #require(charges.last).phase
    #expect(try !contents.fits(next, epsilon: deployment.maxEpsilon, delta: delta))
    // The kills hit what they should: rounds that were paid for and never released, and rounds that were.
    let lost = charges.count - record.released
    #expect(lost >= 20 && record.released >= 20, "\(lost) attempts were lost, \(record.released) rounds released")
    #expect(beforeLast >= 40, "seed \(seed): only \(beforeLast) charges before the last life")
  }
}
