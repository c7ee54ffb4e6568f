import CoreMetrics
import FedLoRACheckpoint
import FedLoRAProtocol
import Logging

/// Makes a conductor and its connections safe to use from every task of the server.
///
/// Its jobs run one at a time on a queue of their own (`DriverExecutor`), because a conductor writes to the disk. What happens
/// while it waits for the disk is taken up together afterwards (`RunConductor.together`): the more clients send at the same
/// time, the fewer waits for each.
actor RunDriver {
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  nonisolated let run: ServedRun
  /// Timers to sleep for; ends with the run.
  nonisolated let timers: AsyncStream<RunTimer>
  nonisolated let metrics: CoordinatorMetrics

  private nonisolated let executor = DriverExecutor()
  private let switchboard: RunSwitchboard
  private let observer: Observer
  private let conductor: RunConductor
  /// What has happened and was not taken up yet, in order, with who waits for that.
  private var happened: [(what: () -> Void, waiter: CheckedContinuation<Void, Never>?)] = []
  /// More at a time would make the first wait for long, and hold much memory.
  private static let mostTogether = 128

  init(
    run: ServedRun,
    store: RunStore,
    logger: Logger,
    metrics factory: any MetricsFactory
  ) throws {
    self.run = run
    let (timers, continuation) = AsyncStream<RunTimer>.makeStream()
    self.timers = timers
    let origin = ContinuousClock.now
    let observer = Observer()
    self.observer = observer
    switchboard = RunSwitchboard(
      clock: { RunInstant(sinceOrigin: ContinuousClock.now - origin) },
      sleeper: { continuation.yield($0) },
      report: { observer.report($0) },
      onEnd: { continuation.finish() }
    )
    conductor = try RunConductor(run: run, records: store, outlet: switchboard, logger: logger)
    metrics = CoordinatorMetrics(
      factory,
      run: run,
      start: conductor.state,
      spent: try conductor.privacySpent()?.epsilon,
      clock: { ContinuousClock.now - origin }
    )
  }

  // MARK: What happens

  /// Reports go there from now on; nothing is reported before `begin`.
  func tell(_ report: @escaping @Sendable (CoordinatorEvent) -> Void) { observer.report = report }

  /// Arms what a restart left open.
  func begin() { atOnce { conductor.begin() } }

  /// A timer has run out.
  func fire(_ timer: RunTimer) { soon { [conductor] in conductor.fire(round: timer.round, attempt: timer.attempt) } }

  /// The operator stops the coordinator at once.
  func stop(reason: String) { atOnce { conductor.stop(reason: reason) } }

  /// The operator asks for something.
  func answer(_ request: OperatorRequest) -> OperatorReply {
    var reply: OperatorReply?
    let isDurable = atOnce { reply = conductor.answer(request) }
    if isDurable, let reply { return reply }
    return OperatorReply(message: "the run's folder cannot be written", isAccepted: false, status: conductor.liveStatus)
  }

  /// A connection was made.
  func began(_ link: ClientLink) { switchboard.began(link) }

  /// What a client says on a connection. Returns once it was taken up, what follows is durable, and its tensors are no longer
  /// held here: until then the connection reads nothing more, and they count against the bound on what all connections hold.
  func heard(_ word: ParticipantWord, from link: ClientLink) async {
    await withCheckedContinuation { waiter in
      soon(waiter) { [conductor, switchboard] in conductor.heard(word, from: link, on: switchboard) }
    }
  }

  /// What waits to be taken up.
  nonisolated var backlog: Int { executor.backlog.count }

  /// A connection ended, for whatever reason.
  func ended(_ link: ClientLink, reason: String) {
    soon { [conductor, switchboard] in
      if switchboard.ended(link) { conductor.lost(link.name, reason: reason) }
    }
  }

  /// Takes something up together with what happens until this actor's jobs that wait already are done.
  private func soon(_ waiter: CheckedContinuation<Void, Never>? = nil, _ what: @escaping () -> Void) {
    happened.append((what, waiter))
    executor.backlog.add(1)
    // The queue is first in, first out: this job comes after those.
    if happened.count == 1 { Task { catchUp() } }
  }

  /// Takes up what has happened, in order.
  private func catchUp() {
    while !happened.isEmpty {
      var now = Array(happened.prefix(RunDriver.mostTogether))
      happened.removeFirst(now.count)
      executor.backlog.add(-now.count)
      let waiters = now.compactMap(\.waiter)
      metrics.takesUpdates(true)
      conductor.together { for one in now { one.what() } }
      metrics.takesUpdates(false)
      now = []
      for waiter in waiters { waiter.resume() }
    }
  }

  /// Takes something up after all that has happened before it.
  /// - Returns: whether what it changed is durable.
  @discardableResult
  private func atOnce(_ what: () -> Void) -> Bool {
    catchUp()
    return conductor.together(what)
  }

  // MARK: The end

  /// Waits until the run is over.
  func waitForOutcome() async -> RunOutcome { await withCheckedContinuation { switchboard.wait($0) } }

  /// Waits until every client that took part has been told the end; the caller bounds the time.
  func waitForFarewells() async {
    if conductor.unaware.isEmpty { return }
    await withCheckedContinuation { switchboard.waitForFarewells($0) }
  }

  /// Stops waiting for clients that were not told.
  func giveUpFarewells() { switchboard.giveUpFarewells() }

  /// Ends every connection after what is queued for it.
  func closeAll() { switchboard.closeAll() }

  /// What there is when the run is over. The folder is free for another coordinator afterwards.
  func result() throws -> CoordinatorResult { try conductor.result() }
}

/// Where a driver's reports go; belongs to the driver's queue.
private final class Observer {
  var report: (CoordinatorEvent) -> Void = { _ in }
}
