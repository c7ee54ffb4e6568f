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
  private var sessions: [Int: ParticipantSession] = [:]
  private(set) var links: [Int: SimulatedLink] = [:]
  private var waiting: [() -> Void] = []

  /// Opens the run, or goes on with it.
  init(_ world: FaultWorld, process: Int, mount: MountedDisk) throws {
    self.process = process
    planted = world.planted
    let start = world.now
    store = try RunStore.open(
      world.run,
      initialState: world.initialState,
      at: mount.root.appendingPathComponent("run"),
      on: mount,
      clock: { Date(timeIntervalSince1970: 0) }
    )
    switchboard = RunSwitchboard(
      clock: { [unowned world] in RunInstant(sinceOrigin: world.now - start) },
      sleeper: { [unowned world] timer in
        world.plan(after: timer.delay) { [unowned world] in
          world.enter(process) { $0.conductor.fire(round: timer.round, attempt: timer.attempt) }
        }
      },
      report: { [unowned world] event in world.note(SimulatedCoordinator.text(event), process) }
    )
    conductor = try RunConductor(
      run: world.run,
      records: CheckedRecords(store, world.promises, world.planted),
      outlet: switchboard,
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
  func happened(_ envelope: WireEnvelope, _ tensors: TensorSet?, on link: SimulatedLink) -> Bool {
    waiting.append { [unowned self] in heard(envelope, tensors, on: link) }
    return waiting.count == 1
  }

  /// Takes up what waits, and then this, together.
  func takeUp(_ body: () -> Void) {
    let before = waiting
    waiting = []
    conductor.together {
      for one in before { one() }
      body()
    }
  }

  func begin() { if planted != .forgetsTimers { conductor.begin() } }

  func began(_ link: SimulatedLink) {
    sessions[link.number] = ParticipantSession(run: conductor.run, name: link.name)
    links[link.number] = link
    switchboard.began(link)
  }

  func heard(_ envelope: WireEnvelope, _ tensors: TensorSet?, on link: SimulatedLink) {
    guard let step = sessions[link.number]?.heard(envelope, tensors: tensors, violation: nil) else { return }
    switch step {
    case .answer(let answer): link.send(.message(answer))
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

  func ended(_ link: SimulatedLink, reason: String) {
    sessions[link.number] = nil
    links[link.number] = nil
    if switchboard.ended(link) { conductor.lost(link.name, reason: reason) }
  }

  func close() { store.close() }
}
