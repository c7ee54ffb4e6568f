import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAProtocol
import Foundation

/// A coordinator's process: the real state machine, conductor, switchboard and store, on a simulated disk and network.
final class SimulatedCoordinator {
  let process: Int
  let conductor: RunConductor
  private let switchboard: RunSwitchboard
  private let store: RunStore
  private let planted: PlantedFault?
  private let promises: Promises
  private var sessions: [Int: ParticipantSession] = [:]
  private(set) var links: [Int: SimulatedLink] = [:]
  private var waiting: [() -> Void] = []
  /// Whether the machine is up and has room.
  private let isWell: () -> Bool

  /// Opens the run, or goes on with it.
  init(_ world: FaultWorld, process: Int, mount: MountedDisk) throws {
    self.process = process
    planted = world.planted
    promises = world.promises
    isWell = { [unowned world] in world.coordinatorIsWell }
    let start = world.now
    let run = world.run(ofProcess: process)
    store = try RunStore.open(
      run,
      initialState: world.initialState,
      at: mount.root.appendingPathComponent("run"),
      on: mount,
      clock: { Date(timeIntervalSince1970: 0) }
    )
    let switchboard = RunSwitchboard(
      clock: { [unowned world] in RunInstant(sinceOrigin: world.now - start) },
      sleeper: { [unowned world] timer in
        world.plan(after: timer.delay) { [unowned world] in
          world.enter(process) { $0.conductor.fire(round: timer.round, attempt: timer.attempt) }
        }
      },
      report: { [unowned world] event in world.note(SimulatedCoordinator.text(event), process) }
    )
    self.switchboard = switchboard
    conductor = try RunConductor(
      run: run,
      records: CheckedRecords(store, world),
      outlet: world.planted.flatMap { LooseTongue($0, switchboard) } ?? switchboard,
      logger: world.logger
    )
  }

  /// An event in words that are the same in every process: the order of a dictionary is not, nor are paths in errors and times.
  private static func text(_ event: CoordinatorEvent) -> String {
    switch event {
    case .roundCommitted(let round, let updates, let counts, _, _, _):
      let counts = counts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
      return "round \(round) committed with \(updates) updates (\(counts))"
    case .updateAccepted(let round, let name, _): return "update of \(name) in round \(round) accepted"
    case .aggregated(let round, let rule, let updates, _, _, _):
      return "round \(round) aggregated by \(rule) from \(updates) updates"
    case .finished(.stopped), .finished(.failed): return "the run ends"
    default: return "\(event)"
    }
  }

  /// Keeps a message for when the coordinator takes up the next thing.
  /// - Returns: whether it is the first that waits.
  func happened(_ word: ClientWord, on link: SimulatedLink) -> Bool {
    waiting.append { [unowned self] in heard(word, on: link) }
    return waiting.count == 1
  }

  /// Takes up what waits, and then this, together.
  func takeUp(_ body: () -> Void) {
    let before = waiting
    waiting = []
    let isDurable = conductor.together {
      for one in before { one() }
      body()
    }
    if case .stopped? = conductor.outcome { return promises.owed.forget() }
    guard isDurable, isWell() else { return promises.owed.forget() }
    for wrong in promises.owed.settle(stands: { links[$0]?.isFinished == false }) { promises.violated(wrong) }
  }

  func begin() { if planted != .forgetsTimers { conductor.begin() } }

  func began(_ link: SimulatedLink) {
    sessions[link.number] = ParticipantSession(run: conductor.run, name: link.name)
    links[link.number] = link
    switchboard.began(link)
  }

  func heard(_ word: ClientWord, on link: SimulatedLink) {
    guard let step = step(word, on: link) else { return }
    notice(step, word, on: link)
    switch step {
    case .answer(let answer): link.send(.message(answer))
    case .pass(.invalidUpdate) where planted == .refusesSilently: break
    case .pass(.update(let update, _)) where planted == .refusesForGood && wasRefused(link.name, Int(update.round)):
      conductor.refused(link.name, round: Int(update.round), code: "conflict", reason: "one was refused before")
    case .pass(.update(var update, let tensors)) where planted == .forgetsRoundCheck:
      update.round = UInt64(conductor.state.current.round)
      conductor.heard(.update(update, tensors), from: link, on: switchboard)
    case .pass(.update(let update, let tensors)) where planted == .takesAnotherName:
      let other = conductor.state.current.members.keys.sorted().last ?? link.name
      conductor.received(update, tensors: tensors, from: other)
    case .pass(let word): conductor.heard(word, from: link, on: switchboard)
    case .leave, .refuse: link.finish()
    }
  }

  /// What the connection's session makes of it, after the reader of streams.
  private func step(_ word: ClientWord, on link: SimulatedLink) -> ParticipantSession.Step? {
    switch word {
    case .message(let envelope, let tensors):
      return sessions[link.number]?.heard(envelope, tensors: tensors, violation: nil)
    case .spoiled(let update):
      guard planted != .countsRefused else {
        return sessions[link.number]?.heard(update.envelope, tensors: update.tensors, violation: nil)
      }
      guard let inbound = try? update.arrive(expecting: conductor.run.updateLayout) else { return nil }
      return sessions[link.number]?.heard(inbound.envelope, tensors: inbound.tensors, violation: inbound.violation)
    }
  }

  /// Remembers which answers are owed.
  private func notice(_ step: ParticipantSession.Step, _ word: ClientWord, on link: SimulatedLink) {
    guard case .pass = step, case .update(let update)? = word.envelope.message else { return }
    let round = Int(update.round)
    if case .spoiled(let spoiled) = word {
      promises.owed.isOwedRefusal(link.name, round: round, code: spoiled.flaw.code, link: link.number)
    } else if wasRefused(link.name, round) {
      promises.owed.isOwedAcceptance(link.name, round: round, link: link.number)
    }
  }

  /// Whether an update of the open round was refused, and another is waited for.
  private func wasRefused(_ name: String, _ round: Int) -> Bool {
    let state = conductor.state
    guard state.phase == .open || state.phase == .waiting, conductor.run.policy.buffer == nil else { return false }
    return round == state.current.round && state.current.members[name] == .refused && state.dismissed[name] == nil
  }

  func ended(_ link: SimulatedLink, reason: String) {
    sessions[link.number] = nil
    links[link.number] = nil
    if switchboard.ended(link) { conductor.lost(link.name, reason: reason) }
  }

  func close() { store.close() }
}
