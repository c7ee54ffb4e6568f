import FedLoRACheckpoint
import FedLoRAProtocol
import Logging

/// Makes a conductor and its connections safe to use from every task of the server.
///
/// Its jobs run one at a time on a queue of their own (`DriverExecutor`), because a conductor writes to the disk.
actor RunDriver {
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  nonisolated let run: ServedRun
  /// Timers to sleep for; ends with the run.
  nonisolated let timers: AsyncStream<RunTimer>

  private nonisolated let executor = DriverExecutor()
  private let switchboard: RunSwitchboard
  private let conductor: RunConductor

  init(
    run: ServedRun,
    store: RunStore,
    logger: Logger,
    report: @escaping @Sendable (CoordinatorEvent) -> Void
  ) throws {
    self.run = run
    let (timers, continuation) = AsyncStream<RunTimer>.makeStream()
    self.timers = timers
    let origin = ContinuousClock.now
    switchboard = RunSwitchboard(
      clock: { RunInstant(sinceOrigin: ContinuousClock.now - origin) },
      sleeper: { continuation.yield($0) },
      report: report,
      onEnd: { continuation.finish() }
    )
    conductor = try RunConductor(run: run, records: store, outlet: switchboard, logger: logger)
  }

  // MARK: What happens

  /// Arms what a restart left open.
  func begin() { conductor.begin() }

  /// A timer has run out.
  func fire(_ timer: RunTimer) { conductor.fire(round: timer.round, attempt: timer.attempt) }

  /// The operator stops the coordinator at once.
  func stop(reason: String) { conductor.stop(reason: reason) }

  /// The operator asks for something.
  func answer(_ request: OperatorRequest) -> OperatorReply { conductor.answer(request) }

  /// A connection was made.
  func began(_ link: ClientLink) { switchboard.began(link) }

  /// What a client says on a connection.
  func heard(_ word: ParticipantWord, from link: ClientLink) {
    conductor.heard(word, from: link, on: switchboard)
  }

  /// A connection ended, for whatever reason.
  func ended(_ link: ClientLink, reason: String) {
    if switchboard.ended(link) { conductor.lost(link.name, reason: reason) }
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
