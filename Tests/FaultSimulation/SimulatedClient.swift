import FedLoRACheckpoint
import FedLoRAClient
import FedLoRACoordinator
import FedLoRAProtocol
import Foundation
import Logging

/// A client's process: the real state machine and the real state folder, on a simulated disk and network.
final class SimulatedClient {
  let name: String
  let disk: SimulatedDisk
  /// How the run ended here; nil while it goes on.
  private(set) var ending: ClientOutcome.Ending?
  /// The last shared tensors that it was sent.
  private(set) var finalState: TensorSet?
  /// Until then it reaches nobody.
  var isolatedUntil = Duration.zero
  private unowned let world: FaultWorld
  private var process = 0
  private var isRunning = false
  private var mount: MountedDisk?
  private var machine: ClientSessionMachine?
  private(set) var link: SimulatedLink?
  private var failures = 0
  private var madeProgress = false
  private let backoff = Backoff()
  /// What its own tensors may be after its last trained round: more than one only where it went down in between.
  private var ownTensors: [TensorSet?] = [nil]
  /// Updates as they should be, of which this process has sent spoiled ones.
  private var spoiled: [Int: SealedMessage] = [:]

  init(_ world: FaultWorld, name: String, disk: SimulatedDisk) {
    self.world = world
    self.name = name
    self.disk = disk
  }

  // MARK: The process

  func start() {
    guard !isRunning, ending == nil else { return }
    process += 1
    isRunning = true
    let mount = disk.mount()
    self.mount = mount
    if world.planted == .forgetsSealed { forgetSealed(mount) }
    failures = 0
    spoiled = [:]
    connect()
  }

  private var stateDirectory: URL? {
    mount.map { $0.root.appendingPathComponent("client-\(name)") }
  }

  private func forgetSealed(_ mount: MountedDisk) {
    guard let runs = stateDirectory, let names = try? mount.names(in: runs) else { return }
    for run in names {
      let folder = runs.appendingPathComponent(run)
      for name in (try? mount.names(in: folder)) ?? [] where name.hasPrefix("round-") {
        try? mount.remove(folder.appendingPathComponent(name).appendingPathComponent("update.sealed"))
        try? mount.remove(folder.appendingPathComponent(name))
      }
    }
  }

  /// The process ends here and now, and comes back later.
  func goDown(powerFails: Bool) {
    guard isRunning else { return }
    isRunning = false
    process += 1
    world.note("\(name) goes down\(powerFails ? ", its power fails" : "")", process)
    if powerFails { world.powerFailure(disk) } else { disk.kill() }
    link?.cut(
      clientLearnsAfter: .seconds(3600),
      coordinatorLearnsAfter: powerFails ? world.span(1000...60_000) : world.delay()
    )
    link = nil
    machine = nil
    world.plan(after: world.span(100...30_000)) { [self] in start() }
  }

  /// A later event of this process; one of an earlier process is nobody's any more.
  private func plan(after delay: Duration, _ body: @escaping () -> Void) {
    let process = process
    world.plan(after: delay) { [self] in if process == self.process, isRunning { body() } }
  }

  private func connect() {
    guard world.now >= isolatedUntil, let link = world.dial(self) else { return retry() }
    guard let mount, let folder = stateDirectory else { return }
    self.link = link
    machine = ClientSessionMachine(name: name, stateDirectory: folder, on: mount, logger: world.logger)
    madeProgress = false
    handle(.connected)
  }

  private func retry() {
    failures += 1
    plan(after: backoff.delay(afterFailure: failures, jitter: world.fraction())) { [self] in connect() }
  }

  // MARK: What happens

  func heard(_ envelope: WireEnvelope, _ tensors: TensorSet?, on link: SimulatedLink) {
    guard link === self.link, isRunning else { return }
    if case .ack(let ack)? = envelope.message, ack.status == .refused,
      let good = spoiled.removeValue(forKey: Int(ack.round)), world.chance(world.settings.corrections)
    {
      return send(good.envelope, good.tensors)
    }
    handle(.heard(envelope, tensors: tensors))
  }

  func lost(_ link: SimulatedLink, reason: String) {
    if link === self.link, isRunning { handle(.connectionLost(reason: reason)) }
  }

  private func handle(_ input: ClientSessionMachine.Input) {
    let steps: [ClientSessionMachine.Step]
    do {
      guard let handled = try machine?.handle(input) else { return }
      steps = handled
    } catch {
      // A process that cannot write ends with an error; its owner starts it again.
      if disk.isDown { return goDown(powerFails: world.chance(0.5)) }
      if !disk.isFull { world.promises.violated("\(name) ended with \(error)") }
      return goDown(powerFails: false)
    }
    for step in steps where isRunning { perform(step) }
    if isRunning, disk.isDown { goDown(powerFails: world.chance(0.5)) }
  }

  private func perform(_ step: ClientSessionMachine.Step) {
    switch step {
    case .check: handle(.checked(.success(0)))
    case .send(let envelope): if !disk.isDown { link?.toCoordinator(.message(envelope, nil)) }
    case .sendSealed(let sealed): if !sendSpoiled(sealed) { send(sealed.envelope, sealed.tensors) }
    case .train(_, let round, let state, let personal): train(round: Int(round), state: state, personal: personal)
    case .report(let event):
      if case .accepted = event { failures = 0 }
    case .over(let end):
      ending = end.ending
      finalState = end.finalState
      isRunning = false
      world.note("\(name) ends", 0)
      if case .completed = end.ending { check(end.personal, "at the end") }
      link?.leave()
      link = nil
    case .leave(_, _, let comeBackAfter):
      link?.leave()
      link = nil
      machine = nil
      if let comeBackAfter { plan(after: comeBackAfter) { [self] in connect() } } else { retry() }
    case .fail(let error): world.promises.violated("\(name) failed with \(error)")
    }
  }

  private func send(_ envelope: WireEnvelope, _ tensors: TensorSet) {
    guard case .update(let update)? = envelope.message, !disk.isDown else { return }
    let round = Int(update.round)
    let digest = update.tensors.sha256.map { String(format: "%02x", $0) }.joined()
    world.promises.sends(name, round: round, digest: digest, tensors: tensors)
    let charge = SimulatedTraining.charge(of: tensors)
    if !disk.isDurable(["ledger", SimulatedTraining.file(charge)]) {
      world.promises.violated("\(name) sent round \(round) before it was charged durably")
    }
    link?.toCoordinator(.message(envelope, tensors))
    if world.planted == .chargesLate { try? SimulatedTraining.charge(charge, mount) }
  }

  /// Sends an update with something wrong in its place, perhaps.
  private func sendSpoiled(_ sealed: SealedMessage) -> Bool {
    guard let flaw = world.flaw(), !disk.isDown, let update = SpoiledUpdate(sealed, flaw) else { return false }
    if case .update(let good)? = sealed.envelope.message { spoiled[Int(good.round)] = sealed }
    link?.toCoordinator(.spoiled(update))
    return true
  }

  // MARK: Training

  private func check(_ personal: TensorSet?, _ when: String) {
    if !ownTensors.contains(personal) {
      world.promises.violated(
        "\(name) has not its own tensors \(when): \(String(describing: personal)), expected \(ownTensors)"
      )
    }
    ownTensors = [personal]
  }

  private func train(round: Int, state: TensorSet, personal stored: TensorSet?) {
    let personal = world.planted == .sharesPersonal ? world.lastPersonal ?? stored : stored
    check(personal, "for round \(round)")
    let charge: Int
    do {
      charge = try SimulatedTraining.charges(mount) + 1
      if world.planted != .chargesLate { try SimulatedTraining.charge(charge, mount) }
    } catch { return goDown(powerFails: disk.isDown && world.chance(0.5)) }
    let update = SimulatedTraining.update(
      client: name,
      round: round,
      noise: world.settings.isNoised ? charge : 0,
      charge: charge,
      personal: personal
    )
    let isStraggler = world.chance(world.settings.stragglers)
    let budgetIsSpent = world.chance(world.settings.spentBudgets)
    plan(after: world.span(isStraggler ? 60_000...150_000 : 100...20_000)) { [self] in
      if budgetIsSpent {
        let refusal = ManifestRefusal(code: "budget-spent", reason: "the budget is spent")
        return handle(.trained(round: UInt64(round), .failure(refusal)))
      }
      world.lastPersonal = update.personal
      ownTensors.append(update.personal)
      if world.planted == .sendsUnsealed { sendUnsealed(update, round: round) }
      handle(.trained(round: UInt64(round), .success(update)))
      if isRunning { ownTensors = [update.personal] }
    }
  }

  private func sendUnsealed(_ update: LocalUpdate, round: Int) {
    var message = WireUpdate()
    message.runID = world.run.manifest.runID
    message.round = UInt64(round)
    if let sealed = try? SealedMessage(WireEnvelope(.update(message)), payload: TensorPayload(update.upload)) {
      send(sealed.envelope, sealed.tensors)
    }
  }
}
