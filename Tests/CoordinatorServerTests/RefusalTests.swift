import FedLoRACheckpoint
import FedLoRAClient
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

@Suite("The coordinator refuses", .timeLimit(.minutes(1)))
struct RefusalTests {
  private let project: Project

  init() throws { project = try Project() }

  private func end(_ coordinator: RunningCoordinator) async throws {
    await coordinator.server.stop(reason: "the test is over")
    _ = try await coordinator.result()
  }

  @Test("a Hello with the name of another participant")
  func anotherName() async throws {
    let coordinator = try await project.serve(try ToyRun())
    let identity = try project.identity("mallory")
    do {
      _ = try await RawParticipant.greet(identity, port: coordinator.port, name: "alice")
      Issue.record("mallory was welcomed as alice")
    } catch TransportError.peerReported(let code, let text) {
      #expect(code.rawValue == "name-mismatch")
      #expect(text.contains("mallory") && text.contains("alice"))
    }
    try await coordinator.log.first {
      if case .refused(_, "name-mismatch", _) = $0 { true } else { false }
    }
    #expect(!coordinator.log.events.contains { if case .clientReady = $0 { true } else { false } })
    try await end(coordinator)
  }

  @Test("certificates of another authority and certificates that have ended")
  func certificates() async throws {
    let coordinator = try await project.serve(try ToyRun())
    let stranger = try Project()
    let past = try CertificateValidity(
      notBefore: Date(timeIntervalSinceNow: -7200),
      notAfter: Date(timeIntervalSinceNow: -3600)
    )
    // The stranger trusts our coordinator, so that only the coordinator's judgement counts.
    let folder = project.folder.appending("stranger")
    try stranger.identity("c1").save(to: folder)
    try Data(project.authority.issueCoordinator().authorityPEM.utf8).write(to: folder.appendingPathComponent("ca.pem"))
    for (identity, wanted) in [
      (try TLSIdentity.load(from: folder), "unknown-authority"),
      (try project.identity("late", validity: past), "expired"),
    ] {
      do {
        _ = try await RawParticipant.greet(identity, port: coordinator.port)
        Issue.record("\(wanted) was let in")
      } catch TransportError.refusedByPeer {}
      let event = try await coordinator.log.first { if case .refused(_, wanted, _) = $0 { true } else { false } }
      guard case .refused(let address, _, let reason) = event else { continue }
      #expect(address.hasPrefix("127.0.0.1:"))
      #expect(!reason.isEmpty)
    }
    try await end(coordinator)
  }

  @Test("another protocol version, and a first message that is not Hello")
  func firstMessage() async throws {
    let coordinator = try await project.serve(try ToyRun())
    var hello = WireHello()
    hello.protocolVersion = 99
    hello.clientName = "c1"
    for (message, code) in [
      (WireEnvelope(.hello(hello)), "wrong-version"), (WireEnvelope(.ready(WireReady())), "unexpected-message"),
    ] {
      let connection = try await PeerClient(identity: try project.identity("c1"))
        .connect(host: "127.0.0.1", port: coordinator.port)
      try await connection.send(message)
      do {
        _ = try await connection.receive()
        Issue.record("\(code) was let through")
      } catch TransportError.peerReported(let found, _) { #expect(found.rawValue == code) }
      try await coordinator.log.first { if case .refused(_, code, _) = $0 { true } else { false } }
    }
    try await end(coordinator)
  }

  @Test("Ready for other terms")
  func otherTerms() async throws {
    let coordinator = try await project.serve(try ToyRun())
    let participant = try await RawParticipant.greet(try project.identity("c1"), port: coordinator.port)
    var ready = WireReady()
    ready.runID = participant.manifest.runID
    ready.manifestSha256 = Data(repeating: 0, count: 32)
    try await participant.connection.send(WireEnvelope(.ready(ready)))
    do {
      _ = try await participant.connection.receive()
      Issue.record("other terms were accepted")
    } catch TransportError.peerReported(let code, _) { #expect(code.rawValue == "wrong-run") }
    try await end(coordinator)
  }

  @Test("more messages than a run has use for, and keeps little of what they say")
  func tooMuchTalk() async throws {
    let coordinator = try await project.serve(try ToyRun(rounds: 2))
    let participant = try await RawParticipant.join(try project.identity("c1"), port: coordinator.port)
    var decline = WireDecline()
    decline.runID = participant.manifest.runID
    decline.round = 1
    // One character of 400 KB.
    decline.code = "e" + String(repeating: "\u{301}", count: 200_000)
    decline.reason = "no\n" + decline.code
    try await participant.connection.send(WireEnvelope(.decline(decline)))
    let event = try await coordinator.log.first { if case .declined = $0 { true } else { false } }
    guard case .declined(1, "c1", let code, let reason) = event else { return }
    #expect(code.utf8.count < 100 && reason.utf8.count < 600 && !reason.contains("\n"))
    (decline.code, decline.reason) = ("again", "")
    do {
      for _ in 0..<200 { try await participant.connection.send(WireEnvelope(.decline(decline))) }
    } catch is TransportError {}
    try await coordinator.log.first { if case .refused(_, "too-many-frames", _) = $0 { true } else { false } }
    let lines = coordinator.log.events.count { if case .declined = $0 { true } else { false } }
    #expect(lines <= 64 + 2 * 3)
    try await end(coordinator)
  }

  @Test("an error of a participant that says more than people read")
  func longError() async throws {
    let coordinator = try await project.serve(try ToyRun())
    let participant = try await RawParticipant.join(try project.identity("c1"), port: coordinator.port)
    try await coordinator.log.first { if case .clientReady("c1", _) = $0 { true } else { false } }
    var error = WireError()
    error.code = String(repeating: "x", count: 900_000)
    error.text = error.code
    try await participant.connection.send(WireEnvelope(.error(error)))
    let event = try await coordinator.log.first { if case .clientLost("c1", _) = $0 { true } else { false } }
    guard case .clientLost(_, let reason) = event else { return }
    #expect(reason.utf8.count < 1000 && reason.contains("xxx"))
    try await end(coordinator)
  }

  @Test("an update before Ready, and closes the connection")
  func updateBeforeReady() async throws {
    let coordinator = try await project.serve(try ToyRun())
    let participant = try await RawParticipant.greet(try project.identity("c1"), port: coordinator.port)
    let (update, tensors) = participant.update(round: 1, client: "c1")
    // It is refused at its declaration, so the tensors themselves might not find the connection open any more.
    try await participant.send(update, declared: TensorPayload(tensors).declaration, bytes: [])
    do {
      _ = try await participant.connection.receive()
      Issue.record("the update was taken")
    } catch TransportError.peerReported(let code, _) { #expect(code.rawValue == "not-ready") }
    try await coordinator.log.first { if case .refused(_, "not-ready", _) = $0 { true } else { false } }
    #expect(!coordinator.log.events.contains { if case .updateAccepted = $0 { true } else { false } })
    try await end(coordinator)
  }

  @Test("a directory that holds a run with other terms, and one that is in use")
  func otherRun() async throws {
    let first = try await project.serve(try ToyRun())
    await #expect(throws: RunStoreError.self) { _ = try await project.serve(try ToyRun()) }
    try await end(first)
    do {
      _ = try await project.serve(try ToyRun(seed: 8))
      Issue.record("another run was served from the directory")
    } catch let error as CoordinatorError {
      #expect(error == .otherRun(directory: project.folder.appending("coordinator").path))
    }
    let again = try await project.serve(try ToyRun())
    try await end(again)
  }

  @Test("manifests that it does not understand", arguments: ["strategy", "head", "weighting", "quorum", "deadline"])
  func badManifest(field: String) async throws {
    var run = try ToyRun()
    switch field {
    case "strategy": run.manifest.strategy.name = "fedavg"
    case "head": run.manifest.strategy.head = "none"
    case "weighting": run.manifest.strategy.weighting = "exampels"
    case "quorum": run.manifest.cohort.quorum = 9
    default: run.manifest.cohort.deadlineSeconds = .infinity
    }
    await #expect(throws: (any Error).self) { _ = try await project.serve(run) }
    #expect(!FileManager.default.fileExists(atPath: project.folder.appending("coordinator").path))
  }
}

@Suite("An invalid update is counted and the round completes with the rest", .timeLimit(.minutes(1)))
struct InvalidUpdateTests {
  private let project: Project

  init() throws { project = try Project() }

  enum Fault: String, CaseIterable, Sendable {
    case wrongShape = "wrong-shape"
    case unexpectedTensor = "unexpected-tensor"
    case missingTensor = "missing-tensor"
    case wrongOrder = "wrong-order"
    case notFinite = "not-finite"
    case wrongHash = "wrong-hash"
    case tooLarge = "too-large"
    case wrongDataType = "wrong-dtype"
    case wrongRun = "wrong-run"
    case futureRound = "future-round"
    case badMetrics = "bad-metrics"
    case outOfRange = "out-of-range"
  }

  private func send(_ fault: Fault, as participant: RawParticipant, state: TensorSet) async throws {
    var (update, tensors) = participant.update(round: 1, client: "bad")
    let name = try #require(tensors.names.first)
    let last = try #require(tensors.names.last)
    switch fault {
    case .wrongShape: tensors[name] = Tensor(zeros: [7])
    case .unexpectedTensor: tensors["a.tensor.nobody.knows"] = Tensor(zeros: [1])
    case .missingTensor: tensors[last] = nil
    case .notFinite: tensors[last]?.values[1] = .nan
    case .wrongRun: update.runID = "another"
    case .futureRound: update.round = 2
    case .outOfRange: tensors[last]?.values[0] = 3e38
    case .badMetrics: update.metrics = ["loss": .nan]
    case .wrongOrder, .wrongHash, .tooLarge, .wrongDataType:
      var declared = TensorPayload(tensors).declaration
      switch fault {
      case .wrongOrder: declared.tensors.swapAt(0, 1)
      case .wrongHash: declared.sha256[0] ^= 1
      case .tooLarge: declared.length = 1 << 40
      default: declared.tensors[0].dataType = .unspecified
      }
      return try await participant.send(update, declared: declared, bytes: tensors.bytes)
    }
    try await participant.send(update, tensors)
  }

  @Test("whatever is wrong with it", arguments: Fault.allCases)
  func faults(fault: Fault) async throws {
    let run = try ToyRun(.fedit, head: .shared, rounds: 1, quorum: 2)
    let coordinator = try await project.serve(run)
    let bad = try await RawParticipant.join(try project.identity("bad"), port: coordinator.port)
    let others = Task {
      try await withThrowingTaskGroup(of: ClientOutcome.self) { group in
        for name in ["c1", "c2"] {
          let client = try project.client(name, port: coordinator.port)
          group.addTask { try await client.run() }
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
    }
    let (number, state) = try await bad.round()
    #expect(number == 1)
    try await send(fault, as: bad, state: state)
    let ack = try await bad.ack()
    #expect(ack.status == .refused)
    if fault != .futureRound { #expect(ack.reason.contains(fault.rawValue), "\(ack.reason)") }
    // The update of a round that has not begun leaves the open round's assignment as it is.
    if fault == .futureRound { await bad.connection.close() }
    let outcomes = try await withDeadline { try await others.value }
    #expect(outcomes.allSatisfy { $0.ending == .completed })
    let counts = try await coordinator.counts(ofRound: 1)
    #expect(counts[fault.rawValue] == 1, "\(counts)")
    #expect(counts["accepted"] == 2)
    if fault != .futureRound {
      #expect(
        coordinator.log.events.contains {
          if case .updateRefused(_, "bad", fault.rawValue, _) = $0 { true } else { false }
        }
      )
      // The connection lives on.
      let goodbye = try await bad.next { if case .goodbye? = $0.message { true } else { false } }
      #expect(goodbye != nil)
      await bad.connection.close()
    }
    let result = try await coordinator.result()
    #expect(result.outcome == .completed)
    #expect(result.finalState.entries.allSatisfy { $0.tensor.isFinite })
  }

  @Test("also where it claims more examples than a weight can hold", arguments: [UInt64(1) << 40, .max])
  func claims(examples: UInt64) async throws {
    let run = try ToyRun(.fedit, head: .shared, rounds: 1, clients: 2, quorum: 1, weighting: "examples")
    let coordinator = try await project.serve(run)
    let bad = try await RawParticipant.join(try project.identity("bad"), port: coordinator.port, examples: examples)
    let client = try project.client("c1", port: coordinator.port)
    let running = Task { try await client.run() }
    _ = try await bad.round()
    var (update, tensors) = bad.update(round: 1, client: "bad")
    update.examples = examples
    try await bad.send(update, tensors)
    #expect(try await bad.ack().status == .refused)
    #expect(try await withDeadline { try await running.value }.ending == .completed)
    #expect(try await coordinator.counts(ofRound: 1) == ["accepted": 1, "out-of-range": 1])
    _ = try await bad.next { if case .goodbye? = $0.message { true } else { false } }
    await bad.connection.close()
    #expect(try await coordinator.result().outcome == .completed)
  }
}
