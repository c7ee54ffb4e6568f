import FedLoRACheckpoint
import FedLoRAFederation
import FedLoRAProtocol
import Foundation
import Logging

/// Plays a run: feeds the pure `RunState` with what happens and does what it asks for, in order.
///
/// It is the only place where state machine, store and connections meet. Its jobs run one at a time on a queue of their
/// own (`DriverExecutor`), so writes to the store may block.
actor RunDriver {
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  /// A timer that the server's task group sleeps for.
  struct Timer: Sendable {
    let round: Int
    let attempt: Int
    let delay: Duration
  }

  nonisolated let run: ServedRun
  /// What the private releases cost; nil where clients are not the unit of privacy.
  let account: ReleaseAccount?
  /// Timers to sleep for; ends with the run.
  nonisolated let timers: AsyncStream<Timer>

  private nonisolated let executor = DriverExecutor()
  private let timerContinuation: AsyncStream<Timer>.Continuation
  let store: RunStore
  let logger: Logger
  let report: @Sendable (CoordinatorEvent) -> Void
  private let origin = ContinuousClock.now
  private(set) var state: RunState
  /// Events that wait for the one that is being played.
  private var inbox: [RunEvent] = []
  private var isPlaying = false
  private var links: [String: ClientLink] = [:]
  /// Connections whose client has not accepted the manifest, so that they do not outlive the run.
  private var strangers: [ObjectIdentifier: ClientLink] = [:]
  /// Clients that were ready at some time, also before a restart, and have not been told the end yet.
  private var unaware: Set<String> = []
  private var closedTraffic = Traffic()
  /// The tensors of the round that is open, made ready for sending.
  private var payload: (round: Int, payload: TensorPayload)?
  private(set) var outcome: RunOutcome?
  private var waiters: [CheckedContinuation<RunOutcome, Never>] = []
  private var awareness: [CheckedContinuation<Void, Never>] = []

  init(
    run: ServedRun,
    store: RunStore,
    logger: Logger,
    report: @escaping @Sendable (CoordinatorEvent) -> Void
  ) throws {
    self.run = run
    account = run.account
    self.store = store
    self.logger = logger
    self.report = report
    let recovered = try store.recover()
    state = RunState(policy: run.policy, seed: run.manifest.seed, recovered: recovered)
    // Who was there when the coordinator was killed has not been told an end either.
    unaware = Set(recovered.roster)
    (timers, timerContinuation) = AsyncStream.makeStream()
  }

  // MARK: What happens

  /// Arms what a restart left open.
  func begin() { play { state.resume(now: now) } }

  /// A timer has run out.
  func fire(_ timer: Timer) { apply(.deadlinePassed(round: timer.round, attempt: timer.attempt)) }

  /// The operator stops the coordinator at once.
  func stop(reason: String) { apply(.stop(reason: reason)) }

  /// A client accepted the manifest on this connection; an older connection of the same client is closed.
  func ready(_ link: ClientLink, examples: Int, pendingRound: Int?) {
    if let older = links[link.name], older !== link {
      older.send(.message(RunDriver.error(code: "replaced", text: "the same client connected again")))
      older.finish()
      drop(older)
    }
    links[link.name] = link
    strangers[ObjectIdentifier(link)] = nil
    if let outcome {
      sendGoodbye(outcome, to: link)
      return
    }
    unaware.insert(link.name)
    report(.clientReady(name: link.name, ready: links.count))
    apply(.clientReady(name: link.name, examples: examples, pendingRound: pendingRound))
    if state.current.members[link.name] != .training {
      var wait = WireWait()
      wait.runID = run.manifest.runID
      wait.reason = state.phase == .waiting ? "waiting for \(run.policy.minClients) clients" : "another cohort trains"
      link.send(.message(WireEnvelope(.wait(wait))))
    }
  }

  /// A connection ended, for whatever reason.
  func ended(_ link: ClientLink, reason: String) {
    closedTraffic = closedTraffic + link.connection.traffic
    strangers[ObjectIdentifier(link)] = nil
    guard links[link.name] === link else { return }
    links[link.name] = nil
    guard outcome == nil else { return }
    report(.clientLost(name: link.name, reason: reason))
    apply(.clientLost(name: link.name))
  }

  /// A connection was made; its client may become ready.
  func began(_ link: ClientLink) {
    strangers[ObjectIdentifier(link)] = link
    if isClosing { link.send(.end) }
  }

  /// A client does not take part in a round, or with round 0 in the run.
  func declined(_ link: ClientLink, round: Int, code: String, reason: String) {
    let name = link.name
    // A second process with the same certificate speaks for itself only, not for the one that takes part.
    guard links[name] == nil || links[name] === link else { return }
    report(.updateRefused(round: round, name: name, code: code, reason: reason))
    if round == 0 { unaware.remove(name) }
    apply(.declined(name: name, round: round, code: code, reason: reason))
  }

  /// An update arrived whole; it is made durable before the state hears of it.
  func received(_ update: WireUpdate, tensors: TensorSet, from name: String) {
    let round = Int(clamping: update.round)
    let digest = update.tensors.sha256.map { String(format: "%02x", $0) }.joined()
    let examples = Int(clamping: update.examples)
    guard update.metrics.count <= 32, update.metrics.allSatisfy({ $0.value.isFinite && $0.key.utf8.count <= 64 }) else {
      return refused(name, round: round, code: "bad-metrics", reason: "metrics must be at most 32 finite numbers")
    }
    // Where clients are the unit of privacy, numbers that are not noised are not kept.
    let metrics = run.clientPrivacy == nil ? update.metrics : [:]
    if let fault = run.fault(of: tensors, examples: examples) {
      return refused(name, round: round, code: "out-of-range", reason: fault)
    }
    if case .wanted = state.admission(name: name, round: round, digest: digest) {
      do {
        let stored = try store.storeUpdate(
          round: round,
          name: name,
          examples: examples,
          metrics: metrics,
          digest: digest,
          tensors: tensors
        )
        if stored == .conflict {
          return refused(name, round: round, code: "conflict", reason: "another update of this round is durable")
        }
      } catch {
        logger.error("update not stored", metadata: ["client": .string(name), "reason": .string("\(error)")])
        return apply(RunDriver.failure(error))
      }
      report(.updateAccepted(round: round, name: name, metrics: metrics))
    }
    apply(.updateReceived(name: name, round: round, examples: examples, digest: digest))
  }

  /// An update was found invalid on its way in.
  func refused(_ name: String, round: Int, code: String, reason: String) {
    report(.updateRefused(round: round, name: name, code: code, reason: reason))
    apply(.updateRefused(name: name, round: round, code: code, reason: reason))
  }

  // MARK: The end

  /// Waits until the run is over.
  func waitForOutcome() async -> RunOutcome {
    if let outcome { return outcome }
    return await withCheckedContinuation { waiters.append($0) }
  }

  /// Waits until every client that took part has been told the end; the caller bounds the time.
  func waitForFarewells() async {
    if unaware.isEmpty || awarenessIsOver { return }
    await withCheckedContinuation { awareness.append($0) }
  }

  private var awarenessIsOver = false
  private var isClosing = false

  /// Stops waiting for clients that were not told.
  func giveUpFarewells() {
    awarenessIsOver = true
    for waiter in awareness { waiter.resume() }
    awareness = []
  }

  /// Ends every connection after what is queued for it.
  func closeAll() {
    isClosing = true
    for link in links.values { link.send(.end) }
    for link in strangers.values { link.send(.end) }
  }

  /// What there is when the run is over. The folder is free for another coordinator afterwards.
  func result() throws -> CoordinatorResult {
    defer { store.close() }
    let last = try store.lastCommittedRound()
    return CoordinatorResult(
      outcome: outcome ?? .stopped(reason: "the coordinator ended"),
      finalState: try store.state(afterRound: last),
      roundsCommitted: last,
      traffic: traffic,
      privacy: try privacySpent()
    )
  }

  // MARK: What is to be done

  var now: RunInstant { RunInstant(sinceOrigin: ContinuousClock.now - origin) }

  var traffic: Traffic { links.values.reduce(closedTraffic) { $0 + $1.connection.traffic } }

  func apply(_ event: RunEvent) {
    inbox.append(event)
    if !isPlaying { play { [] } }
  }

  /// Performs these effects and then, one after the other, the events that come of them: nested, a row of rounds with
  /// empty cohorts would be as deep as it is long.
  private func play(_ first: () -> [RunEffect]) {
    isPlaying = true
    defer { isPlaying = false }
    perform(first())
    while !inbox.isEmpty {
      let event = inbox.removeFirst()
      perform(state.apply(event, now: now))
    }
  }

  private func perform(_ effects: [RunEffect]) {
    for effect in effects {
      do { try perform(effect) } catch {
        logger.error("an effect failed", metadata: ["reason": .string("\(error)")])
        // Effects that follow may promise what is not durable: they are dropped with the run, and so is what was to come.
        inbox = [RunDriver.failure(error)]
        return
      }
    }
  }

  /// Arithmetic that fails once fails again; everything else is the machine's, and may be mended.
  private static func failure(_ error: any Error) -> RunEvent {
    switch error {
    case is RefactorisationError, is SumError, is PrivateSumError, is RobustAggregationError, is LayoutError:
      .commitFailed(reason: "the round's updates cannot be aggregated: \(error)")
    default:
      .storeFailed(
        reason: "the run's folder could not be read or written: \(error); mend that, then resume: nothing that was "
          + "acknowledged is lost"
      )
    }
  }

  private func perform(_ effect: RunEffect) throws {
    switch effect {
    case .openAttempt(let round, let attempt, let cohort):
      try store.openAttempt(round: round, attempt: attempt, cohort: cohort)
      report(.roundOpened(round: round, attempt: attempt, cohort: cohort))
    case .sendRound(let names, let round, _, let deadline):
      try sendRound(to: names, round: round, deadline: deadline)
    case .armTimer(let round, let attempt, let at):
      let delay = at.sinceOrigin - now.sinceOrigin
      timerContinuation.yield(Timer(round: round, attempt: attempt, delay: max(.zero, delay)))
    case .ack(let name, let round, let status, let reason): acknowledge(name, round: round, status, reason)
    case .drawCohort(let round, let names): apply(try drawCohort(round: round, from: names))
    case .retire(let name, let code): try store.retire(name: name, code: code)
    case .roster(let name, let isReady): try store.setRoster(name: name, isReady: isReady)
    case .record(let name, let round, let code, let reason):
      try store.record(name: name, round: round, code: code, reason: reason)
    case .commit(let round, let contributions, let counts):
      try commit(round: round, contributions: contributions, counts: counts)
    case .announceCommit(let round, let names, let updates):
      var commit = WireCommit()
      commit.runID = run.manifest.runID
      commit.round = UInt64(round)
      // How many were drawn is as secret as who.
      commit.updates = run.clientPrivacy == nil ? UInt32(clamping: updates) : 0
      for name in names { links[name]?.send(.message(WireEnvelope(.commit(commit)))) }
    case .finish(let outcome): finish(outcome)
    }
  }

  private func sendRound(to names: [String], round: Int, deadline: RunInstant) throws {
    var message = WireRound()
    message.runID = run.manifest.runID
    message.round = UInt64(round)
    message.deadlineSeconds = max(0, (deadline.sinceOrigin - now.sinceOrigin).inSeconds)
    let payload = try payload(of: round)
    for name in names { links[name]?.send(.stream(WireEnvelope(.round(message)), payload)) }
  }

  /// The state that a round starts from, read and hashed once for all its clients.
  private func payload(of round: Int) throws -> TensorPayload {
    if let payload, payload.round == round { return payload.payload }
    let made = TensorPayload(try store.state(afterRound: round - 1))
    payload = (round, made)
    return made
  }

  private func acknowledge(_ name: String, round: Int, _ status: AckOutcome, _ reason: String) {
    var ack = WireAck()
    ack.runID = run.manifest.runID
    ack.round = UInt64(clamping: round)
    ack.reason = reason
    ack.status =
      switch status {
      case .accepted: .accepted
      case .duplicate: .duplicate
      case .late: .late
      case .refused: .refused
      }
    links[name]?.send(.message(WireEnvelope(.ack(ack))))
  }

  private func commit(round: Int, contributions: [Contribution], counts: [String: Int]) throws {
    guard let next = try nextState(round: round, contributions: contributions) else {
      return apply(.budgetSpent(reason: try account?.refusal(after: store.chargedReleases()) ?? ""))
    }
    let losses = try store.metrics(round: round).filter { entry in contributions.contains { $0.name == entry.key } }
      .sorted { $0.key < $1.key }.compactMap { $0.value["loss"] }
    try store.commit(
      round: round,
      contributions: contributions,
      counts: counts,
      state: next.state,
      nextClippingNorm: next.clippingNorm
    )
    report(
      .roundCommitted(
        round: round,
        updates: contributions.count,
        counts: counts,
        meanLoss: losses.isEmpty ? nil : losses.reduce(0, +) / Double(losses.count),
        traffic: traffic,
        epsilon: try privacySpent()?.epsilon
      )
    )
    apply(.roundCommitted(round: round))
  }

  private func finish(_ outcome: RunOutcome) {
    guard self.outcome == nil else { return }
    self.outcome = outcome
    do { try store.finish(outcome) } catch {
      logger.error("the end was not recorded", metadata: ["reason": .string("\(error)")])
    }
    report(.finished(outcome))
    for link in links.values { sendGoodbye(outcome, to: link) }
    timerContinuation.finish()
    for waiter in waiters { waiter.resume(returning: outcome) }
    waiters = []
  }

  private func sendGoodbye(_ outcome: RunOutcome, to link: ClientLink) {
    var goodbye = WireGoodbye()
    goodbye.runID = run.manifest.runID
    switch outcome {
    case .completed, .budgetSpent:
      goodbye.outcome = .completed
      if case .budgetSpent(let reason) = outcome {
        goodbye.outcome = .stopped
        goodbye.reason = reason
      }
      if let payload = try? payload(of: state.committedRounds + 1) {
        link.send(.stream(WireEnvelope(.goodbye(goodbye)), payload))
      }
    case .failed(let reason):
      goodbye.outcome = .failed
      goodbye.reason = reason
      link.send(.message(WireEnvelope(.goodbye(goodbye))))
    case .stopped:
      // A stopped run can be resumed: its clients are let go, and come back.
      break
    }
    link.send(.end)
    if case .stopped = outcome {
    } else {
      // Nothing is owed to it any more, also after a restart.
      try? store.setRoster(name: link.name, isReady: false)
    }
    unaware.remove(link.name)
    if unaware.isEmpty { giveUpFarewells() }
  }

  private func drop(_ link: ClientLink) {
    if links[link.name] === link { links[link.name] = nil }
  }

  static func error(code: String, text: String) -> WireEnvelope {
    var error = WireError()
    error.code = code
    error.text = text
    return WireEnvelope(.error(error))
  }
}

extension Duration {
  /// This span in seconds.
  var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
