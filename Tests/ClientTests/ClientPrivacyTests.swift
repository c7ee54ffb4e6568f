import FedLoRACheckpoint
import FedLoRAClient
import FedLoRACoordinator
import FedLoRADP
import FedLoRAEngine
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

/// Ledger, participations and budget around the rounds of a client: charged first, declined by name, never more than agreed.
@Suite("A client's privacy", .timeLimit(.minutes(1)))
struct ClientPrivacyTests {
  /// Lets go of a trainer's ledger, as the end of its process does.
  private func end(_ trainer: EngineTrainer) async throws {
    try await trainer.data.ledger(trainer.privacy, relation: .addOrRemoveOne, terms: PrivateRun.recordTerms).close()
  }

  private func refusal(_ body: () async throws -> Void) async throws -> ManifestRefusal? {
    do { try await body() } catch let refusal as ManifestRefusal { return refusal }
    return nil
  }

  // MARK: Charges

  @Test("charges a round before its first step is taken, also one that nobody finishes")
  func chargedFirst() async throws {
    // So many steps that the test would end before they do.
    let run = try PrivateRun(localSteps: 1_000_000, rate: 1e-9, noise: 50, claim: 8)
    let records = PrivateRun.records(4)
    let trainer = run.trainer("c1", records: records)
    try await trainer.check(run.manifest)
    let training = Task { try await trainer.train(run.assignment("c1", round: 1)) }
    try await withDeadline(.seconds(20)) {
      while try run.ledger("c1", of: records).charges.isEmpty { try await Task.sleep(for: .milliseconds(2)) }
    }
    training.cancel()
    await #expect(throws: CancellationError.self) { try await training.value }
    let charges = try run.ledger("c1", of: records).charges
    #expect(charges.map(\.phase.steps) == [1_000_000] && charges.map(\.round) == [1])
  }

  @Test("pays for an interrupted round again, and for draws of nobody in full")
  func redo() async throws {
    let run = try PrivateRun(rounds: 4, localSteps: 3, rate: 1e-12)
    var uploads: [TensorSet] = []
    for _ in 0..<2 {
      let trainer = run.trainer("c1")
      try await trainer.check(run.manifest)
      uploads.append(try await trainer.train(run.assignment("c1", round: 1)).upload)
      try await end(trainer)
    }
    #expect(uploads[0] != uploads[1] && uploads[0] != run.assignment("c1", round: 1).state)
    let ledger = try run.ledger("c1")
    #expect(ledger.charges.map(\.round) == [1, 1] && ledger.charges.map(\.phase.steps) == [3, 3])
    #expect(ledger.rounds(ofRun: "private") == (rounds: [1], participations: 2))
    #expect(ledger.charges.allSatisfy { $0.phase.sampling == .poisson(rate: 1e-12) && $0.phase.noiseMultiplier == 1.5 })
  }

  @Test("trains no more rounds than the noise was calibrated for, attempts counted")
  func participations() async throws {
    let run = try PrivateRun(rounds: 4, participations: 2)
    let trainer = run.trainer("c1")
    try await trainer.check(run.manifest)
    _ = try await trainer.train(run.assignment("c1", round: 1))
    // A crash, and the same round again.
    _ = try await trainer.train(run.assignment("c1", round: 1))
    let refused = try await refusal { _ = try await trainer.train(run.assignment("c1", round: 2)) }
    #expect(refused?.code == "participations-spent")
    #expect(try run.ledger("c1").charges.count == 2)
    // Another run is another matter.
    let other = run.changed { $0.runID = "another" }
    _ = try await trainer.train(other.assignment("c1", round: 1))
    #expect(try run.ledger("c1").charges.count == 3)
  }

  @Test("declines the round that would pass the budget of the data set over all runs, and stays within it")
  func budget() async throws {
    let run = try PrivateRun(rounds: 4)
    var policy = ClientPolicy.tests
    let accountant = PrivacyAccountant(relation: .addOrRemoveOne)
    func cost(rounds: Int) throws -> Double {
      try accountant.epsilon(of: [run.terms.phase(steps: 2 * rounds)], delta: policy.maxDelta).epsilon
    }
    // Room for seven rounds of two steps: four of the first run, three of the second.
    policy.maxEpsilon = try cost(rounds: 7) * (1 + 1e-12)
    let trainer = run.trainer("c1", policy: policy)
    try await trainer.check(run.manifest)
    for round in 1...4 { _ = try await trainer.train(run.assignment("c1", round: round)) }
    let second = run.changed { $0.runID = "second" }
    try await trainer.check(second.manifest)
    for round in 1...3 { _ = try await trainer.train(second.assignment("c1", round: round)) }
    for _ in 0..<2 {
      let refused = try await refusal { _ = try await trainer.train(second.assignment("c1", round: 4)) }
      #expect(refused?.code == "budget-spent")
    }
    let ledger = try run.ledger("c1")
    #expect(ledger.charges.count == 7)
    #expect(try ledger.spent(delta: policy.maxDelta).epsilon <= policy.maxEpsilon)
    #expect(try cost(rounds: 8) > policy.maxEpsilon)
  }

  @Test("a charge of more steps than can be counted is a budget that is spent, not a crash")
  func endless() async throws {
    let run = try PrivateRun()
    let records = PrivateRun.records()
    let data = LocalData(records)
    let privacy = ClientPrivacy(policy: .tests, ledgerFolder: run.ledgers("c1"))
    let ledger = try await data.ledger(privacy, relation: .addOrRemoveOne, terms: PrivateRun.recordTerms)
    let most = try PrivatePhase(
      sampling: .poisson(rate: 0.25),
      noiseMultiplier: 1.5,
      steps: PrivatePhase.maximumSteps
    )
    try ledger.charge(
      LedgerCharge(runID: "x", client: "c1", round: 1, phase: most, clippingNorm: 1, strategy: "fedit", seeded: false)
    )
    let terms = try run.terms
    let refusal = #expect(throws: ManifestRefusal.self) {
      try privacy.charge(run.assignment("c1", round: 1), terms: terms, localSteps: 2, to: ledger)
    }
    #expect(refusal?.code == "budget-spent")
    #expect(ledger.contents.charges.count == 1)
  }

  // MARK: Ledgers that cannot be charged

  /// What a trainer answers when its ledger is in some state, and what reaches the coordinator of it.
  private func expectLedgerRefusal(
    _ run: PrivateRun,
    _ kind: String,
    path: String,
    _ body: () async throws -> Void
  ) async throws {
    let refusal = try #require(try await refusal(body))
    #expect(refusal.code == "ledger" && refusal.reason.contains(kind), "\(refusal.reason)")
    // The path holds the fingerprint of the data; with it records can be tried out.
    #expect(!refusal.reason.contains("0123456789abcdef") && !refusal.reason.contains(".jsonl"))
    #expect(refusal.ownerReason.contains(path), "\(refusal.ownerReason)")
  }

  @Test("declines with a ledger of other data, of other neighbours, damaged, or in use, and tells no fingerprint")
  func ledgers() async throws {
    let run = try PrivateRun()
    let records = PrivateRun.records()
    let url = ClientPrivacy(ledgerFolder: run.ledgers("c1")).ledgerURL(fingerprint: records.fingerprint)
    func check(_ kind: String) async throws {
      let before = try? Data(contentsOf: url)
      try await expectLedgerRefusal(run, kind, path: url.path) {
        try await run.trainer("c1").check(run.manifest)
      }
      try await expectLedgerRefusal(run, kind, path: url.path) {
        _ = try await run.trainer("c1").train(run.assignment("c1", round: 1))
      }
      let after = try? Data(contentsOf: url)
      #expect(after == before)
    }
    try FileManager.default.createDirectory(at: run.ledgers("c1"), withIntermediateDirectories: true)
    // Sixteen digits alike, and so the same file.
    try PrivacyLedger(at: url, dataset: "0123456789abcdef00000000", relation: .addOrRemoveOne).close()
    try await check("other data")
    try FileManager.default.removeItem(at: url)
    try PrivacyLedger(at: url, dataset: records.fingerprint, relation: .replaceOne).close()
    try await check("replace-one")
    try FileManager.default.removeItem(at: url)
    let held = try PrivacyLedger(at: url, dataset: records.fingerprint, relation: .addOrRemoveOne)
    try await check("in use")
    held.close()
    var bytes = try Data(contentsOf: url)
    bytes[20] ^= 1
    try bytes.write(to: url)
    try await check("damaged")
  }

  @Test("declines while another process holds the ledger, and goes on when that has ended")
  func otherProcess() async throws {
    let run = try PrivateRun()
    let url = ClientPrivacy(ledgerFolder: run.ledgers("c1")).ledgerURL(fingerprint: PrivateRun.records().fingerprint)
    let first = run.trainer("c1")
    try await first.check(run.manifest)
    try await end(first)
    let holder = Process()
    holder.executableURL = URL(fileURLWithPath: "/usr/bin/flock")
    holder.arguments = [url.path, "cat"]
    let (hold, held) = (Pipe(), Pipe())
    holder.standardInput = hold
    holder.standardOutput = held
    try holder.run()
    defer { holder.terminate() }
    // The echo of the first byte says that the lock is taken.
    try hold.fileHandleForWriting.write(contentsOf: Data("x\n".utf8))
    _ = try held.fileHandleForReading.read(upToCount: 1)
    try await expectLedgerRefusal(run, "in use", path: url.path) { try await run.trainer("c1").check(run.manifest) }
    try hold.fileHandleForWriting.close()
    holder.waitUntilExit()
    let second = run.trainer("c1")
    try await second.check(run.manifest)
    _ = try await second.train(run.assignment("c1", round: 1))
    #expect(try run.ledger("c1").charges.count == 1)
  }

  @Test("declines a round whose charge cannot be made durable, and all that follow")
  func changedUnderWay() async throws {
    let run = try PrivateRun(localSteps: 1_000_000, rate: 1e-9, noise: 50)
    let records = PrivateRun.records(4)
    let url = ClientPrivacy(ledgerFolder: run.ledgers("c1")).ledgerURL(fingerprint: records.fingerprint)
    let trainer = run.trainer("c1", records: records)
    try await trainer.check(run.manifest)
    let copy = try Data(contentsOf: url)
    try FileManager.default.removeItem(at: url)
    try copy.write(to: url)
    // Were a step taken first, this would take minutes.
    for kind in ["changed", "could not be written before"] {
      try await withDeadline(.seconds(20)) {
        try await expectLedgerRefusal(run, kind, path: url.path) {
          _ = try await trainer.train(run.assignment("c1", round: 1))
        }
      }
    }
    #expect(try Data(contentsOf: url) == copy)
  }

  // MARK: Through a coordinator

  private func outcome(_ client: FederatedClient) async throws -> ClientOutcome.Ending {
    try await withDeadline { try await client.run().ending }
  }

  @Test("a client that declines leaves the run to the others: by policy, by its ledger, and when its rounds are spent")
  func declining() async throws {
    let project = try Project()
    let run = try PrivateRun(rounds: 2, participations: 2).changed {
      $0.cohort.minClients = 3
      $0.cohort.clientsPerRound = 3
    }
    let coordinator = try await project.serve(run.manifest, run.initialState)
    func client(_ name: String, _ trainer: EngineTrainer) throws -> FederatedClient {
      try project.client(name, port: coordinator.port, trainer: trainer)
    }
    var strict = ClientPolicy.tests
    strict.maxEpsilon = 0.1
    let byPolicy = try await outcome(try client("strict", run.trainer("strict", policy: strict)))
    guard case .declined("policy", let reason) = byPolicy else {
      Issue.record("\(byPolicy)")
      return
    }
    #expect(reason.contains("max_epsilon") && !FileManager.default.fileExists(atPath: run.ledgers("strict").path))
    // Another trainer of the same owner holds the ledger.
    let busy = run.trainer("busy")
    try await busy.check(run.manifest)
    let byLedger = try await outcome(try client("busy", run.trainer("busy")))
    guard case .declined("ledger", let ownReason) = byLedger else {
      Issue.record("\(byLedger)")
      return
    }
    #expect(ownReason.contains(run.ledgers("busy").path))
    // The coordinator was told no more than what kind of fault it is.
    let told = try await coordinator.log.first {
      if case .declined(0, "busy", _, _) = $0 { true } else { false }
    }
    #expect("\(told)".contains("in use") && !"\(told)".contains("ledger-"))
    // This one has trained both rounds in an earlier life, whose state is lost.
    let tired = run.trainer("tired")
    for round in 1...2 { _ = try await tired.train(run.assignment("tired", round: round)) }
    try await end(tired)
    let clients = [
      try client("tired", run.trainer("tired")), try client("fresh", run.trainer("fresh")),
      try client("other", run.trainer("other")),
    ]
    let endings = try await withThrowingTaskGroup(of: ClientOutcome.Ending.self) { group in
      for client in clients { group.addTask { try await withDeadline { try await client.run().ending } } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    let result = try await coordinator.result()
    #expect(result.outcome == .completed && result.roundsCommitted == 2)
    #expect(endings.count { $0 == .completed } >= 2)
    #expect(
      coordinator.log.events.contains {
        if case .declined(1, "tired", "participations-spent", _) = $0 { true } else { false }
      }
    )
    #expect(try run.ledger("tired").charges.count == 2)
    #expect(try run.ledger("fresh").charges.count == 2)
  }

  @Test("refuses other terms under the name of a run that it has begun, cheaper ones too")
  func changedTerms() async throws {
    let project = try Project()
    let run = try PrivateRun(rounds: 3).changed {
      $0.cohort.minClients = 1
      $0.cohort.clientsPerRound = 1
    }
    let first = try await project.serve(run.manifest, run.initialState)
    let trainer = run.trainer("c1")
    let client = try project.client("c1", port: first.port, trainer: trainer)
    let running = Task { try await client.run() }
    try await first.log.first { if case .updateAccepted(1, "c1", _) = $0 { true } else { false } }
    await first.server.stop(reason: "its operator has another idea")
    _ = try await first.result()
    running.cancel()
    _ = try? await running.value
    try await end(trainer)
    let charged = try run.ledger("c1").charges.count
    #expect(charged >= 1)
    let others = [
      run.changed { $0.privacy.noiseMultiplier = 1.4 }, run.changed { $0.privacy.clippingNorm = 5 },
      run.changed { $0.privacy.divisor = 1 }, run.changed { $0.privacy.noiseMultiplier = 3 },
    ]
    for (index, second) in others.enumerated() {
      let coordinator = try await project.serve(second.manifest, second.initialState, directory: "second-\(index)")
      let trainer = run.trainer("c1")
      let ending = try await outcome(try project.client("c1", port: coordinator.port, trainer: trainer))
      guard case .declined("terms-changed", _) = ending else {
        Issue.record("\(ending)")
        return
      }
      try await end(trainer)
      await coordinator.server.stop(reason: "the test is over")
      _ = try await coordinator.result()
    }
    #expect(try run.ledger("c1").charges.count == charged)
  }
}
