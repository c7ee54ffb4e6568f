import Crypto
import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation
import Logging
import SwiftProtobuf

/// One connection of a client, from Hello to Goodbye or to its loss.
struct ClientSession: Sendable {
  /// How a connection ended.
  enum Result: Sendable {
    /// The run is over.
    case over(End)
    /// The connection is gone; whether anything was achieved on it.
    case lost(reason: String, madeProgress: Bool)
  }

  /// What is left when the run is over.
  struct End: Sendable {
    let ending: ClientOutcome.Ending
    let manifest: WireRunManifest?
    let finalState: TensorSet?
    let personal: TensorSet
    let roundsTrained: Int
  }

  let name: String
  let stateDirectory: URL
  let trainer: any LocalTrainer
  let logger: Logger
  let onEvent: @Sendable (ClientEvent) -> Void

  func run(_ connection: PeerConnection) async throws -> Result {
    var madeProgress = false
    do {
      try await sendHello(connection)
      guard let first = try await connection.receive() else {
        return .lost(reason: "the coordinator closed before its Welcome", madeProgress: false)
      }
      guard case .welcome(let welcome)? = first.envelope.message else {
        throw ClientError.unexpectedMessage(found: first.envelope.messageName, expected: "Welcome")
      }
      guard Data(SHA256.hash(data: welcome.manifest)) == welcome.manifestSha256 else {
        throw ClientError.corruptManifest
      }
      let manifest = try WireRunManifest(serializedBytes: welcome.manifest)
      let state = try ClientStateFolder(
        parent: stateDirectory.appendingPathComponent("client-\(name)"),
        runID: manifest.runID
      )
      if let refusal = try await refusal(manifest, hash: welcome.manifestSha256, state) {
        return .over(try await decline(refusal, manifest, connection))
      }
      onEvent(.accepted(runID: manifest.runID))
      madeProgress = true
      try await announceReadiness(manifest, hash: welcome.manifestSha256, state, connection)
      return try await serve(manifest, state, connection)
    } catch let error as TransportError {
      switch error {
      case .untrustedPeer, .refusedByPeer, .misuse, .peerReported: throw error
      default: return .lost(reason: error.description, madeProgress: madeProgress)
      }
    }
  }

  private func sendHello(_ connection: PeerConnection) async throws {
    var hello = WireHello()
    hello.protocolVersion = protocolVersion
    hello.clientName = name
    hello.software = "fedlora"
    try await connection.send(WireEnvelope(.hello(hello)))
  }

  private func refusal(
    _ manifest: WireRunManifest,
    hash: Data,
    _ state: ClientStateFolder
  ) async throws -> ManifestRefusal? {
    do { try await trainer.check(manifest) } catch let refusal as ManifestRefusal { return refusal }
    guard try state.pin(runID: manifest.runID, manifestHash: hash) else {
      return ManifestRefusal(
        code: "terms-changed",
        reason:
          "run '\(manifest.runID)' was accepted under other terms; a run's terms never change. If this is a new run, "
          + "give it a new name, or use another state folder than \(state.folder.path)"
      )
    }
    return nil
  }

  private func decline(
    _ refusal: ManifestRefusal,
    _ manifest: WireRunManifest,
    _ connection: PeerConnection
  ) async throws -> End {
    var decline = WireDecline()
    decline.runID = manifest.runID
    decline.round = 0
    decline.code = refusal.code
    decline.reason = refusal.reason
    try await connection.send(WireEnvelope(.decline(decline)))
    return End(
      ending: .declined(code: refusal.code, reason: refusal.ownerReason),
      manifest: manifest,
      finalState: nil,
      personal: TensorSet(),
      roundsTrained: 0
    )
  }

  private func announceReadiness(
    _ manifest: WireRunManifest,
    hash: Data,
    _ state: ClientStateFolder,
    _ connection: PeerConnection
  ) async throws {
    let latest = try state.latest()
    let pending = latest.flatMap { $0.isAcknowledged ? nil : $0.round }
    var ready = WireReady()
    ready.runID = manifest.runID
    ready.manifestSha256 = hash
    ready.examples = try await statedExamples(manifest)
    ready.pendingRound = UInt64(pending ?? 0)
    try await connection.send(WireEnvelope(.ready(ready)))
    if let pending { try await connection.send(try state.sealedUpdate(of: pending)) }
  }

  /// The example count leaves the client only where the weights of the run need it.
  private func statedExamples(_ manifest: WireRunManifest) async throws -> UInt64 {
    switch manifest.strategy.weighting {
    case "uniform": 0
    case "capped": min(UInt64(try await trainer.statedExamples(manifest)), manifest.strategy.weightCap)
    default: UInt64(try await trainer.statedExamples(manifest))
    }
  }

  /// What can happen while a run is served.
  private enum Happening: Sendable {
    /// A message, or the end of the connection and why.
    case received(Inbound)
    case lost(reason: String)
    /// The round's local steps are done, or failed.
    case trained(WireRound, Swift.Result<LocalUpdate, any Error>)
  }

  /// Reads and trains at the same time, so that the end of the run, or of this session, does not wait for a round.
  private func serve(
    _ manifest: WireRunManifest,
    _ state: ClientStateFolder,
    _ connection: PeerConnection
  ) async throws -> Result {
    let layout = try TensorLayout(manifest.state)
    return try await withThrowingTaskGroup(of: Happening.self) { group in
      var training: UInt64?
      // A later round that came while one is trained; the newest counts.
      var next: (round: WireRound, tensors: TensorSet)?
      var lost: String?
      group.addTask { try await receive(connection, layout) }
      while let happening = try await group.next() {
        switch happening {
        case .lost(let reason): lost = reason
        case .received(let inbound):
          switch inbound.envelope.message {
          case .round(let round):
            guard let tensors = inbound.tensors else {
              throw ClientError.unexpectedMessage(found: "a Round without tensors", expected: "the round's state")
            }
            if let training, round.round <= training { break }
            next = (round, tensors)
          case .ack(let ack): try note(ack, state)
          case .wait(let wait): onEvent(.waiting(reason: wait.reason))
          case .goodbye(let goodbye):
            group.cancelAll()
            return .over(try await end(goodbye, tensors: inbound.tensors, manifest, state))
          case .commit, nil: break
          default:
            throw ClientError.unexpectedMessage(found: inbound.envelope.messageName, expected: "a round or its end")
          }
          group.addTask { try await receive(connection, layout) }
        case .trained(let round, let result):
          training = nil
          try await seal(round, result, manifest, state, connection)
        }
        if training == nil, lost == nil, let (round, tensors) = next {
          next = nil
          if let assignment = try await assignment(round, tensors, manifest, state, connection) {
            training = round.round
            group.addTask { .trained(round, await Swift.Result { try await trainer.train(assignment) }) }
          }
        }
        if let lost, training == nil { return .lost(reason: lost, madeProgress: true) }
      }
      return .lost(reason: "the connection ended", madeProgress: true)
    }
  }

  private func receive(_ connection: PeerConnection, _ layout: TensorLayout) async throws -> Happening {
    do {
      guard let inbound = try await connection.receive(expecting: { _ in .state(layout) }) else {
        return .lost(reason: "the coordinator closed the connection")
      }
      return .received(inbound)
    } catch let error as TransportError {
      switch error {
      case .untrustedPeer, .refusedByPeer, .misuse, .peerReported: throw error
      default: return .lost(reason: error.description)
      }
    }
  }

  /// Sends; where the connection is gone, the reader will say so after what still lies in its queue, Goodbye perhaps.
  private func offer(_ send: () async throws -> Void) async throws {
    do { try await send() } catch let error as TransportError {
      if case .misuse = error { throw error }
      logger.debug("not sent", metadata: ["reason": .string(error.description)])
    }
  }

  /// What to train for a round, or nil where it was answered already.
  private func assignment(
    _ wire: WireRound,
    _ tensors: TensorSet,
    _ manifest: WireRunManifest,
    _ state: ClientStateFolder,
    _ connection: PeerConnection
  ) async throws -> RoundAssignment? {
    guard wire.round >= 1, wire.round <= UInt64(manifest.rounds) else {
      try await decline(
        round: wire.round,
        code: "no-such-round",
        reason: "the run has rounds 1 to \(manifest.rounds)",
        manifest,
        connection
      )
      return nil
    }
    let round = Int(clamping: wire.round)
    let latest = try state.latest()
    if let latest, latest.round > round {
      try await decline(
        round: wire.round,
        code: "stale-round",
        reason: "this client has trained round \(latest.round); round \(round) lies before it",
        manifest,
        connection
      )
      return nil
    }
    if let latest, latest.round == round {
      let sealed = try state.sealedUpdate(of: round)
      try await offer { try await connection.send(sealed) }
      return nil
    }
    onEvent(.roundStarted(round))
    let personal: TensorSet
    if let latest { personal = latest.personal } else { personal = try await trainer.initialPersonal(manifest) }
    return RoundAssignment(manifest: manifest, round: round, clientName: name, state: tensors, personal: personal)
  }

  /// Makes a trained round durable and sends it.
  private func seal(
    _ wire: WireRound,
    _ result: Swift.Result<LocalUpdate, any Error>,
    _ manifest: WireRunManifest,
    _ state: ClientStateFolder,
    _ connection: PeerConnection
  ) async throws {
    let trained: LocalUpdate
    do { trained = try result.get() } catch let refusal as ManifestRefusal {
      return try await decline(
        round: wire.round,
        code: refusal.code,
        reason: refusal.reason,
        ownerReason: refusal.ownerReason,
        manifest,
        connection
      )
    } catch  where !(error is CancellationError) {
      try await decline(
        round: wire.round,
        code: "training-failed",
        reason: "local training failed",
        manifest,
        connection
      )
      throw error
    }
    var update = WireUpdate()
    update.runID = manifest.runID
    update.round = wire.round
    update.examples = try await statedExamples(manifest)
    update.metrics = trained.metrics
    let sealed = try SealedMessage(WireEnvelope(.update(update)), payload: TensorPayload(trained.upload))
    let round = Int(clamping: wire.round)
    try state.commit(round: round, personal: trained.personal, update: sealed)
    try state.setTrained(try state.countTrained() + 1)
    onEvent(.trained(round: round, metrics: trained.metrics))
    try await offer { try await connection.send(sealed) }
  }

  private func decline(
    round: UInt64,
    code: String,
    reason: String,
    ownerReason: String? = nil,
    _ manifest: WireRunManifest,
    _ connection: PeerConnection
  ) async throws {
    logger.warning(
      "round declined",
      metadata: ["round": "\(round)", "code": .string(code), "reason": .string(ownerReason ?? reason)]
    )
    var decline = WireDecline()
    decline.runID = manifest.runID
    decline.round = round
    decline.code = code
    decline.reason = reason
    let message = WireEnvelope(.decline(decline))
    try await offer { try await connection.send(message) }
  }

  private func note(_ ack: WireAck, _ state: ClientStateFolder) throws {
    let status =
      switch ack.status {
      case .accepted: "accepted"
      case .duplicate: "duplicate"
      case .late: "late"
      case .refused: "refused"
      case .unspecified, .UNRECOGNIZED: "unknown"
      }
    if status != "unknown" { try state.acknowledge(round: Int(clamping: ack.round), status: status) }
    onEvent(.acknowledged(round: Int(clamping: ack.round), status: status, reason: ack.reason))
  }

  private func end(
    _ goodbye: WireGoodbye,
    tensors: TensorSet?,
    _ manifest: WireRunManifest,
    _ state: ClientStateFolder
  ) async throws -> End {
    let ending: ClientOutcome.Ending =
      switch goodbye.outcome {
      case .completed: .completed
      case .stopped: .stopped(goodbye.reason)
      case .failed, .unspecified, .UNRECOGNIZED: .failed(goodbye.reason)
      }
    let personal: TensorSet
    if let latest = try state.latest() {
      personal = latest.personal
    } else {
      personal = try await trainer.initialPersonal(manifest)
    }
    var finished = personal
    if case .completed = ending, let tensors {
      finished = try await trainer.finish(
        RoundAssignment(
          manifest: manifest,
          round: Int(manifest.rounds),
          clientName: name,
          state: tensors,
          personal: personal
        )
      )
    }
    return End(
      ending: ending,
      manifest: manifest,
      finalState: tensors,
      personal: finished,
      roundsTrained: try state.countTrained()
    )
  }
}

extension Result where Failure == any Error {
  /// The outcome of asynchronous work.
  fileprivate init(_ body: () async throws -> Success) async {
    do { self = .success(try await body()) } catch { self = .failure(error) }
  }
}
