import Crypto
import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation
import Logging
import SwiftProtobuf

/// What a client does with what it hears on one connection, from Hello to Goodbye or to the connection's loss.
///
/// Synchronous, and without socket, clock, model or data: it reads and writes the client's state folder, and says in
/// steps what else is to be done. A step is given only after everything that it relies on is durable; in particular an
/// update is sealed on the disk before it is sent.
package struct ClientSessionMachine: Sendable {
  /// What happens.
  package enum Input: Sendable {
    /// The connection stands.
    case connected
    /// The coordinator sent a message.
    case heard(WireEnvelope, tensors: TensorSet?)
    /// What `Step.check` came to: the number of examples to state, or why this client does not take part.
    case checked(Result<UInt64, ManifestRefusal>)
    /// What `Step.train` came to.
    case trained(round: UInt64, Result<LocalUpdate, any Error>)
    /// The connection is gone.
    case connectionLost(reason: String)
  }

  /// What is to be done, in the order given.
  package enum Step: Sendable {
    /// Check the manifest, then report `Input.checked`.
    case check(WireRunManifest)
    /// Send this, as far as the connection still stands.
    case send(WireEnvelope)
    /// Send this with its tensors, as far as the connection still stands.
    case sendSealed(SealedMessage)
    /// Train a round, then report `Input.trained`. Where `personal` is nil the client's own tensors have their start.
    case train(WireRunManifest, round: UInt64, state: TensorSet, personal: TensorSet?)
    /// Tell the owner.
    case report(ClientEvent)
    /// The run is over; what is being trained is not waited for.
    case over(Ending)
    /// The session is over, the run is not. With `comeBackAfter` the coordinator has said when to try again.
    case leave(reason: String, madeProgress: Bool, comeBackAfter: Duration?)
    /// Nothing can go on: training failed.
    case fail(any Error)
  }

  /// How the run ended for this client.
  package struct Ending: Sendable {
    package let ending: ClientOutcome.Ending
    package let manifest: WireRunManifest
    /// The last shared tensors, where the run completed.
    package let finalState: TensorSet?
    /// This client's own tensors after the last round that it trained; nil where it trained none.
    package let personal: TensorSet?
    package let roundsTrained: Int
  }

  /// A run whose terms were accepted.
  private struct Accepted: Sendable {
    let manifest: WireRunManifest
    let examples: UInt64
  }

  private let name: String
  private let stateDirectory: URL
  private let disk: any FileSystem
  private let logger: Logger
  private var offered: (manifest: WireRunManifest, hash: Data)?
  private var folder: ClientStateFolder?
  private var accepted: Accepted?
  private var training: UInt64?
  /// A later round that came while one is trained; the newest counts.
  private var next: (round: WireRound, tensors: TensorSet)?
  private var lost: String?
  private var comeBackAfter: Duration?
  /// A coordinator cannot send a client away for longer than this, in seconds.
  private static let longestPause = 3600.0
  /// What the coordinator may send with a Round or Goodbye; nil before the Welcome.
  package private(set) var layout: TensorLayout?

  /// A client that is about to connect.
  /// - Parameter stateDirectory: the folder of this client's runs.
  package init(name: String, stateDirectory: URL, on disk: any FileSystem = LocalFileSystem(), logger: Logger) {
    self.name = name
    self.stateDirectory = stateDirectory
    self.disk = disk
    self.logger = logger
  }

  /// What follows from what happened.
  /// - Throws: `ClientError` and what the state folder throws; the session cannot go on then.
  package mutating func handle(_ input: Input) throws -> [Step] {
    var steps: [Step] = []
    switch input {
    case .connected: steps.append(.send(hello))
    case .heard(let envelope, let tensors): try hear(envelope, tensors, &steps)
    case .checked(.success(let examples)): try accept(examples: examples, &steps)
    case .checked(.failure(let refusal)): refuse(refusal, &steps)
    case .trained(let round, let result):
      training = nil
      try seal(round, result, &steps)
    case .connectionLost(let reason): lost = reason
    }
    if training == nil, lost == nil, let (round, tensors) = next {
      next = nil
      try take(round, tensors, &steps)
    }
    if let lost, training == nil {
      steps.append(.leave(reason: lost, madeProgress: accepted != nil, comeBackAfter: comeBackAfter))
    }
    return steps
  }

  // MARK: Before the first round

  private var hello: WireEnvelope {
    var hello = WireHello()
    hello.protocolVersion = protocolVersion
    hello.clientName = name
    hello.software = "fedlora"
    return WireEnvelope(.hello(hello))
  }

  private mutating func hear(_ envelope: WireEnvelope, _ tensors: TensorSet?, _ steps: inout [Step]) throws {
    guard let accepted, let folder else {
      guard case .welcome(let welcome)? = envelope.message, offered == nil else {
        throw ClientError.unexpectedMessage(found: envelope.messageName, expected: "Welcome")
      }
      return try consider(welcome, &steps)
    }
    switch envelope.message {
    case .round(let round):
      guard let tensors else {
        throw ClientError.unexpectedMessage(found: "a Round without tensors", expected: "the round's state")
      }
      if let training, round.round <= training { return }
      next = (round, tensors)
    case .ack(let ack): try note(ack, folder, &steps)
    case .wait(let wait):
      steps.append(.report(.waiting(reason: wait.reason.oneLine(atMost: 512))))
      guard wait.retryAfterSeconds > 0, wait.retryAfterSeconds.isFinite else { break }
      comeBackAfter = .seconds(min(wait.retryAfterSeconds, ClientSessionMachine.longestPause))
      lost = "the coordinator has enough clients for now"
    case .goodbye(let goodbye): try end(goodbye, tensors, accepted, folder, &steps)
    case .commit, nil: break
    default:
      throw ClientError.unexpectedMessage(found: envelope.messageName, expected: "a round or its end")
    }
  }

  private mutating func consider(_ welcome: WireWelcome, _ steps: inout [Step]) throws {
    guard Data(SHA256.hash(data: welcome.manifest)) == welcome.manifestSha256 else {
      throw ClientError.corruptManifest
    }
    let manifest = try WireRunManifest(serializedBytes: welcome.manifest)
    layout = try TensorLayout(manifest.state)
    offered = (manifest, welcome.manifestSha256)
    folder = try ClientStateFolder(parent: stateDirectory, runID: manifest.runID, on: disk)
    steps.append(.check(manifest))
  }

  private mutating func accept(examples: UInt64, _ steps: inout [Step]) throws {
    guard let (manifest, hash) = offered, let folder else { return }
    guard try folder.pin(runID: manifest.runID, manifestHash: hash) else {
      return refuse(
        ManifestRefusal(
          code: "terms-changed",
          reason:
            "run '\(manifest.runID)' was accepted under other terms; a run's terms never change. If this is a new run, "
            + "give it a new name",
          ownerReason:
            "run '\(manifest.runID)' was accepted under other terms; a run's terms never change. If this is a new run, "
            + "it needs a new name, or this client another state folder than \(folder.folder.path)"
        ),
        &steps
      )
    }
    accepted = Accepted(manifest: manifest, examples: examples)
    steps.append(.report(.accepted(runID: manifest.runID)))
    let latest = try folder.latest()
    let pending = latest.flatMap { $0.isAcknowledged ? nil : $0.round }
    var ready = WireReady()
    ready.runID = manifest.runID
    ready.manifestSha256 = hash
    ready.examples = examples
    ready.pendingRound = UInt64(pending ?? 0)
    steps.append(.send(WireEnvelope(.ready(ready))))
    if let pending { steps.append(.sendSealed(try folder.sealedUpdate(of: pending))) }
  }

  private func refuse(_ refusal: ManifestRefusal, _ steps: inout [Step]) {
    guard let manifest = offered?.manifest else { return }
    steps.append(.send(decline(manifest, round: 0, code: refusal.code, reason: refusal.reason)))
    steps.append(
      .over(
        Ending(
          ending: .declined(code: refusal.code, reason: refusal.ownerReason),
          manifest: manifest,
          finalState: nil,
          personal: nil,
          roundsTrained: 0
        )
      )
    )
  }

  // MARK: Rounds

  /// Begins a round, unless it was answered already.
  private mutating func take(_ wire: WireRound, _ tensors: TensorSet, _ steps: inout [Step]) throws {
    guard let manifest = accepted?.manifest, let folder else { return }
    guard wire.round >= 1, wire.round <= UInt64(manifest.rounds) else {
      let reason = "the run has rounds 1 to \(manifest.rounds)"
      return steps.append(.send(decline(manifest, round: wire.round, code: "no-such-round", reason: reason)))
    }
    let round = Int(clamping: wire.round)
    let latest = try folder.latest()
    if let latest, latest.round > round {
      let reason = "this client has trained round \(latest.round); round \(round) lies before it"
      return steps.append(.send(decline(manifest, round: wire.round, code: "stale-round", reason: reason)))
    }
    if let latest, latest.round == round {
      return steps.append(.sendSealed(try folder.sealedUpdate(of: round)))
    }
    training = wire.round
    steps.append(.report(.roundStarted(round)))
    steps.append(.train(manifest, round: wire.round, state: tensors, personal: latest?.personal))
  }

  /// Makes a trained round durable, then sends it.
  private func seal(_ number: UInt64, _ result: Result<LocalUpdate, any Error>, _ steps: inout [Step]) throws {
    guard let accepted, let folder else { return }
    let trained: LocalUpdate
    switch result {
    case .success(let update): trained = update
    case .failure(let refusal as ManifestRefusal):
      return steps.append(
        .send(
          decline(
            accepted.manifest,
            round: number,
            code: refusal.code,
            reason: refusal.reason,
            ownerReason: refusal.ownerReason
          )
        )
      )
    case .failure(let error):
      if !(error is CancellationError) {
        let reason = "local training failed"
        steps.append(.send(decline(accepted.manifest, round: number, code: "training-failed", reason: reason)))
      }
      return steps.append(.fail(error))
    }
    var update = WireUpdate()
    update.runID = accepted.manifest.runID
    update.round = number
    update.examples = accepted.examples
    update.metrics = trained.metrics
    let sealed = try SealedMessage(WireEnvelope(.update(update)), payload: TensorPayload(trained.upload))
    let round = Int(clamping: number)
    try folder.commit(round: round, personal: trained.personal, update: sealed)
    steps.append(.report(.trained(round: round, metrics: trained.metrics)))
    steps.append(.sendSealed(sealed))
  }

  private func decline(
    _ manifest: WireRunManifest,
    round: UInt64,
    code: String,
    reason: String,
    ownerReason: String? = nil
  ) -> WireEnvelope {
    if round > 0 {
      logger.warning(
        "round declined",
        metadata: [
          "run": .string(manifest.runID), "round": .stringConvertible(round), "code": .string(code),
          "reason": .string(ownerReason ?? reason),
        ]
      )
    }
    var decline = WireDecline()
    decline.runID = manifest.runID
    decline.round = round
    decline.code = code
    decline.reason = reason
    return WireEnvelope(.decline(decline))
  }

  private func note(_ ack: WireAck, _ folder: ClientStateFolder, _ steps: inout [Step]) throws {
    let status =
      switch ack.status {
      case .accepted: "accepted"
      case .duplicate: "duplicate"
      case .late: "late"
      case .refused: "refused"
      case .unspecified, .UNRECOGNIZED: "unknown"
      }
    if status != "unknown" { try folder.acknowledge(round: Int(clamping: ack.round), status: status) }
    steps.append(
      .report(.acknowledged(round: Int(clamping: ack.round), status: status, reason: ack.reason.oneLine(atMost: 512)))
    )
  }

  private func end(
    _ goodbye: WireGoodbye,
    _ tensors: TensorSet?,
    _ accepted: Accepted,
    _ folder: ClientStateFolder,
    _ steps: inout [Step]
  ) throws {
    let ending: ClientOutcome.Ending =
      switch goodbye.outcome {
      case .completed: .completed
      // With its last state a run has ended for good, at its budget.
      case .stopped: tensors == nil ? .stopped(goodbye.reason.oneLine(atMost: 512)) : .completed
      case .failed, .unspecified, .UNRECOGNIZED: .failed(goodbye.reason.oneLine(atMost: 512))
      }
    if ending == .completed, !goodbye.reason.isEmpty {
      logger.notice("the run ended early", metadata: ["reason": .string(goodbye.reason.oneLine(atMost: 512))])
    }
    steps.append(
      .over(
        Ending(
          ending: ending,
          manifest: accepted.manifest,
          finalState: tensors,
          personal: try folder.latest()?.personal,
          roundsTrained: try folder.countTrained()
        )
      )
    )
  }
}
