import FedLoRACheckpoint
import FedLoRAClient
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Logging

/// One run of a coordinator and its clients on simulated machines and a virtual clock, with everything that goes wrong
/// drawn from one seed.
package final class FaultWorld {
  let settings: FaultSettings
  let planted: PlantedFault?
  let run: ServedRun
  let initialState: TensorSet
  let promises: Promises
  let logger = Logger(label: "simulation") { _ in SwiftLogNoOpLogHandler() }
  /// What happened, a line an event, where it was asked for.
  package private(set) var trace: [String] = []
  /// A number that two simulations of the same seed share, whatever the process.
  package private(set) var fingerprint: UInt64 = 0xCBF2_9CE4_8422_2325
  private let seed: UInt64
  private let traces: Bool
  private var random: SplitMixGenerator
  private var timeline = Timeline()
  private let disk = SimulatedDisk()
  private(set) var clients: [SimulatedClient] = []
  private(set) var coordinator: SimulatedCoordinator?
  private var processes = 0
  private var links = 0
  /// With `sharesPersonal`: what all clients of a process take for their own.
  var lastPersonal: TensorSet?
  private var isStarting = false
  private var sentAway: Set<String> = []

  /// A world in which nothing has happened yet.
  /// - Parameter traces: keeps `trace`.
  package init(
    seed: UInt64,
    scope: FaultSettings.Scope = .everything,
    planting planted: PlantedFault? = nil,
    traces: Bool = false
  ) throws {
    random = SplitMixGenerator(seed: seed)
    settings = FaultSettings(&random, scope: scope, onlyKind: planted?.kind)
    self.seed = seed
    self.planted = planted
    self.traces = traces
    (run, initialState) = try settings.makeRun(seed: seed)
    promises = Promises(run, initialState: initialState)
    plantInDisks()
    clients = (1...settings.clients).map { number in
      let disk = SimulatedDisk()
      if planted == .clientSkipsSyncs {
        disk.neglect(.fileSyncs)
        disk.neglect(.directorySyncs)
      }
      return SimulatedClient(self, name: "c\(number)", disk: disk)
    }
  }

  private func plantInDisks() {
    switch planted {
    case .coordinatorSkipsFileSyncs: disk.neglect(.fileSyncs)
    case .coordinatorSkipsFolderSyncs: disk.neglect(.directorySyncs)
    case .coordinatorSkipsDatabaseSyncs: disk.neglect(.databaseSyncs)
    default: break
    }
  }

  /// How a simulated run ended.
  package struct Result: Sendable {
    /// Broken promises; none where all is well.
    package let violations: [String]
    /// Whether every round was committed.
    package let isCompleted: Bool
    package let events: Int
    package let virtualTime: Duration
    package let fingerprint: UInt64
    /// How often the coordinator was started.
    package let starts: Int
    /// The shared tensors after the last committed round.
    package let finalState: TensorSet?
  }

  /// Lets the run take its course.
  package func play() -> Result {
    startCoordinator()
    for client in clients { plan(after: span(0...3000)) { client.start() } }
    planFault()
    // Every attempt may take its deadline, and every client a few waits to come back.
    let end = settings.faultsUntil + .seconds(200 * (settings.rounds + 2) * 3)
    var events = 0
    while promises.violations.isEmpty, !isOver, now < end, let event = timeline.advance() {
      events += 1
      event()
    }
    if promises.violations.isEmpty { checkEnd() }
    coordinator?.close()
    return Result(
      violations: promises.violations,
      isCompleted: coordinator?.conductor.outcome == .completed,
      events: events,
      virtualTime: now,
      fingerprint: fingerprint,
      starts: processes,
      finalState: promises.states.last
    )
  }

  private var isOver: Bool {
    switch coordinator?.conductor.outcome {
    case nil, .stopped?: false
    case .completed?, .failed?, .budgetSpent?: clients.allSatisfy { $0.ending != nil }
    }
  }

  /// The run as this process of the coordinator serves it.
  func run(ofProcess process: Int) -> ServedRun {
    // What it draws is nobody else's, and the same when the simulation is played again.
    settings.kind.secret?.drawsAfresh == true ? run.drawing(from: seed &* 1_000_003 &+ UInt64(process)) : run
  }

  /// The run's folder as it would be if the coordinator's power failed now.
  func storeAfterTheWorst() throws -> RunStore {
    let mount = disk.afterTheWorst().mount()
    return try RunStore.open(at: mount.root.appendingPathComponent("run"), on: mount)
  }

  /// Whether the coordinator's machine is up and its disk has room.
  var coordinatorIsWell: Bool { !disk.isDown && !disk.isFull }

  /// What is wrong with the next update when it arrives; mostly nothing.
  func flaw() -> UpdateFlaw? {
    guard settings.flaws > 0, now < settings.faultsUntil + .seconds(60), random.chance(settings.flaws) else {
      return nil
    }
    let flaw = UpdateFlaw.allCases.randomElement(using: &random)
    // What is clipped cannot be too large.
    return flaw == .tooLarge && run.clientPrivacy != nil ? nil : flaw
  }

  // MARK: Time and chance

  package var now: Duration { timeline.now }

  func plan(after delay: Duration, _ body: @escaping () -> Void) { timeline.plan(after: delay, body) }
  func plan(at time: Duration, _ body: @escaping () -> Void) { timeline.plan(at: time, body) }
  func span(_ range: ClosedRange<Int>) -> Duration { random.span(range) }
  func chance(_ probability: Double) -> Bool { random.chance(probability) }
  func fraction() -> Double { Double.random(in: 0..<1, using: &random) }
  func delay() -> Duration { random.span(1...settings.longestDelay) }
  func repeats() -> Bool { settings.duplicates > 0 && now < settings.faultsUntil && random.chance(settings.duplicates) }
  func powerFailure(_ disk: SimulatedDisk) { disk.powerFailure(&random) }

  func note(_ text: @autoclosure () -> String, _ number: Int) {
    let text = text()
    for byte in text.utf8 { fingerprint = (fingerprint ^ UInt64(byte)) &* 0x100_0000_01B3 }
    fingerprint = (fingerprint ^ UInt64(truncatingIfNeeded: number)) &* 0x100_0000_01B3
    if traces { trace.append("\(now) \(text) [\(number)]") }
  }

  // MARK: The coordinator's process

  func isUp(coordinator process: Int) -> Bool { coordinator?.process == process && !disk.isDown }

  private func startCoordinator() {
    guard coordinator == nil, !isStarting else { return }
    isStarting = true
    defer { isStarting = false }
    processes += 1
    note("the coordinator starts", processes)
    let mount = disk.mount()
    armIfPlanned()
    do {
      coordinator = try SimulatedCoordinator(self, process: processes, mount: mount)
      enter(processes) { $0.begin() }
    } catch {
      note("the coordinator did not start", processes)
      if traces { trace.append("\(error)") }
      if disk.isDown { return coordinatorIsDown() }
      if !disk.isFull { promises.violated("the run cannot be opened: \(error)") }
      plan(after: span(1000...10_000)) { [self] in startCoordinator() }
    }
  }

  /// Lets the coordinator do something, and looks what became of its machine and of its run.
  func enter(_ process: Int, _ body: (SimulatedCoordinator) -> Void) {
    guard let coordinator, coordinator.process == process else { return }
    coordinator.takeUp { body(coordinator) }
    if disk.isDown { return coordinatorIsDown() }
    if case .stopped(let reason)? = coordinator.conductor.outcome {
      if reason.contains("folder"), !disk.isFull { promises.violated("stopped although the disk is well: \(reason)") }
      leave(coordinator)
    }
  }

  /// The run was stopped: the process ends by itself.
  private func leave(_ coordinator: SimulatedCoordinator) {
    note("the coordinator ends", coordinator.process)
    for link in coordinator.links.values.sorted(by: { $0.number < $1.number }) { link.finish() }
    coordinator.close()
    disk.kill()
    self.coordinator = nil
    plan(after: span(100...20_000)) { [self] in startCoordinator() }
  }

  private func coordinatorIsDown() {
    let powerFails = chance(0.6)
    note("the coordinator goes down\(powerFails ? ", its power fails" : "")", processes)
    if powerFails { powerFailure(disk) } else { disk.kill() }
    let links = coordinator?.links.values.sorted { $0.number < $1.number } ?? []
    coordinator = nil
    for link in links {
      link.cut(
        clientLearnsAfter: powerFails ? span(1000...60_000) : delay(),
        coordinatorLearnsAfter: .seconds(7200)
      )
    }
    plan(after: span(100...20_000)) { [self] in startCoordinator() }
  }

  // MARK: The network

  /// A connection to the coordinator, where there is one to be had.
  func dial(_ client: SimulatedClient) -> SimulatedLink? {
    guard let coordinator, !disk.isDown else { return nil }
    links += 1
    let link = SimulatedLink(self, client: client, coordinator: coordinator.process, number: links)
    coordinator.began(link)
    return link
  }

  func coordinatorHears(_ word: ClientWord, on link: SimulatedLink) {
    let process = link.coordinator
    guard settings.groupDelay > 0 else { return enter(process) { $0.heard(word, on: link) } }
    guard let coordinator, coordinator.process == process else { return }
    // Others may come before it is taken up.
    if coordinator.happened(word, on: link) {
      plan(after: span(0...settings.groupDelay)) { [self] in enter(process) { _ in } }
    }
  }

  func coordinatorLoses(_ link: SimulatedLink, reason: String) {
    enter(link.coordinator) { $0.ended(link, reason: reason) }
  }

  // MARK: What goes wrong

  private var changeToGoDownAt: Int?

  private func armIfPlanned() {
    if let count = changeToGoDownAt { disk.goDown(atChange: count) }
    changeToGoDownAt = nil
  }

  private var changeOfCommitToGoDownAt: Int?

  /// The coordinator makes the next state of the updates.
  func commitBegins() {
    if let count = changeOfCommitToGoDownAt { disk.goDown(atChange: count) }
    changeOfCommitToGoDownAt = nil
  }

  private func planFault() {
    guard !settings.kinds.isEmpty, settings.faultsUntil > .zero else { return }
    let mean = Int(settings.calm.components.seconds * 1000)
    plan(after: span(0...max(1, 2 * mean))) { [self] in
      guard now < settings.faultsUntil else {
        disk.isFull = false
        for client in clients { client.disk.isFull = false }
        return
      }
      if let kind = settings.kinds.randomElement(using: &random) { happen(kind) }
      planFault()
    }
  }

  private func happen(_ kind: FaultSettings.FaultKind) {
    let client = clients[Int.random(in: 0..<clients.count, using: &random)]
    note("fault: \(kind) \(client.name)", 0)
    switch kind {
    case .cutConnection: client.link?.cut(clientLearnsAfter: span(0...60_000), coordinatorLearnsAfter: span(0...60_000))
    case .partition:
      client.isolatedUntil = now + span(1000...90_000)
      client.link?.cut(clientLearnsAfter: span(0...40_000), coordinatorLearnsAfter: span(0...40_000))
    case .killClient: client.goDown(powerFails: false)
    case .clientPowerFailure: client.goDown(powerFails: true)
    case .clientDownWhileWriting: client.disk.goDown(atChange: Int.random(in: 1...25, using: &random))
    case .clientDiskFull: fill(client.disk)
    case .killCoordinator, .coordinatorPowerFailure:
      guard coordinator != nil else { break }
      coordinatorIsDown()
    case .coordinatorDownWhileWriting:
      let count = Int.random(in: 1...80, using: &random)
      if coordinator == nil { changeToGoDownAt = count } else { disk.goDown(atChange: count) }
    case .coordinatorDownInCommit: changeOfCommitToGoDownAt = Int.random(in: 1...12, using: &random)
    case .coordinatorDiskFull: fill(disk)
    case .stop: if let process = coordinator?.process { enter(process) { $0.conductor.stop(reason: "asked") } }
    case .drain, .remove:
      // Whoever sends so many away that no round can begin has to find others first.
      guard let coordinator, clients.count - sentAway.count > max(settings.minClients, settings.quorum),
        random.chance(0.3), settings.kind.secret == nil || coordinator.conductor.state.known.contains(client.name)
      else { break }
      sentAway.insert(client.name)
      let discards = kind == .remove
      enter(coordinator.process) {
        $0.conductor.apply(.dismissed(name: client.name, reason: "asked", discards: discards))
      }
    case .stopAfterRound:
      if let process = coordinator?.process { enter(process) { $0.conductor.apply(.stopAfterRound(reason: "asked")) } }
    }
  }

  private func fill(_ disk: SimulatedDisk) {
    disk.isFull = true
    plan(after: span(500...20_000)) { disk.isFull = false }
  }
}
