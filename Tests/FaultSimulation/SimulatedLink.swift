import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAProtocol

/// One connection between a client and a coordinator: what is sent arrives in order, late, perhaps twice, or, once the
/// connection is cut, not at all; and each side learns of a cut in its own time.
final class SimulatedLink: ClientWire {
  let name: String
  let number: Int
  /// Which start of the coordinator it leads to.
  let coordinator: Int
  private unowned let world: FaultWorld
  private unowned let client: SimulatedClient
  /// Whether nothing arrives any more.
  private var isCut = false
  private var clientKnows = false
  private var coordinatorKnows = false
  private(set) var isFinished = false
  private var lastToClient = Duration.zero
  private var lastToCoordinator = Duration.zero

  init(_ world: FaultWorld, client: SimulatedClient, coordinator: Int, number: Int) {
    self.world = world
    self.client = client
    self.coordinator = coordinator
    self.number = number
    name = client.name
  }

  var traffic: Traffic { Traffic() }
  var isUploading: Bool { false }

  // MARK: From the coordinator

  func send(_ message: OutgoingMessage) {
    // A machine that is down sends nothing, whatever its program would have done next.
    guard !isFinished, world.isUp(coordinator: coordinator) else { return }
    switch message {
    case .message(let envelope): toClient(envelope, nil)
    case .stream(let envelope, let payload): toClient(envelope, payload.tensors)
    case .end: finish()
    }
  }

  func finish() {
    guard !isFinished else { return }
    isFinished = true
    world.plan(at: lastToClient) { [self] in
      loseClient("closed by the coordinator")
      loseCoordinator("closed")
    }
  }

  private func toClient(_ envelope: WireEnvelope, _ tensors: TensorSet?) {
    world.note("\(name) <- \(envelope.messageName)", number)
    world.promises.shows(envelope, to: name)
    switch envelope.message {
    case .ack(let ack):
      let isAccepted = ack.status == .accepted || ack.status == .duplicate
      world.promises.acknowledges(name, round: Int(ack.round), isAccepted: isAccepted)
      if ack.status == .refused {
        world.promises.owed.isRefused(name, round: Int(ack.round), reason: ack.reason)
      }
    case .commit(let commit): world.promises.learns(name, committedRound: Int(commit.round))
    case .round(let round):
      world.promises.receives(name, round: Int(round.round), state: tensors ?? TensorSet())
    default: break
    }
    let deliver = { [self] in
      if !isCut, !clientKnows { client.heard(envelope, tensors, on: self) }
    }
    lastToClient = max(lastToClient, world.now + world.delay())
    world.plan(at: lastToClient, deliver)
    if SimulatedLink.isSafeToRepeat(envelope), world.repeats() { world.plan(at: lastToClient + world.delay(), deliver) }
  }

  // MARK: From the client

  func toCoordinator(_ word: ClientWord) {
    guard !clientKnows else { return }
    let envelope = word.envelope
    world.note("\(name) -> \(word.name)", number)
    let deliver = { [self] in
      if !isCut, !coordinatorKnows { world.coordinatorHears(word, on: self) }
    }
    lastToCoordinator = max(lastToCoordinator, world.now + world.delay())
    world.plan(at: lastToCoordinator, deliver)
    if SimulatedLink.isSafeToRepeat(envelope), world.repeats() {
      world.plan(at: lastToCoordinator + world.delay(), deliver)
    }
  }

  /// The client closes after what it has sent.
  func leave() {
    clientKnows = true
    world.plan(at: lastToCoordinator) { [self] in loseCoordinator("closed by the client") }
  }

  private static func isSafeToRepeat(_ envelope: WireEnvelope) -> Bool {
    switch envelope.message {
    case .round, .ack, .commit, .wait, .update, .decline: true
    default: false
    }
  }

  // MARK: The end

  /// Nothing arrives any more; each side learns of it after a time.
  func cut(clientLearnsAfter first: Duration, coordinatorLearnsAfter second: Duration) {
    isCut = true
    world.plan(after: first) { [self] in loseClient("cut") }
    world.plan(after: second) { [self] in loseCoordinator("cut") }
  }

  private func loseClient(_ reason: String) {
    guard !clientKnows else { return }
    clientKnows = true
    client.lost(self, reason: reason)
  }

  private func loseCoordinator(_ reason: String) {
    guard !coordinatorKnows else { return }
    coordinatorKnows = true
    world.coordinatorLoses(self, reason: reason)
  }
}

/// What a client puts on the wire.
enum ClientWord {
  case message(WireEnvelope, TensorSet?)
  case spoiled(SpoiledUpdate)

  var envelope: WireEnvelope {
    switch self {
    case .message(let envelope, _): envelope
    case .spoiled(let update): update.envelope
    }
  }

  var name: String {
    switch self {
    case .message(let envelope, _): envelope.messageName
    case .spoiled(let update): "Update (\(update.flaw.code))"
    }
  }
}
