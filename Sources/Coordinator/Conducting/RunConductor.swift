import FedLoRACheckpoint
import FedLoRAFederation
import FedLoRAProtocol
import Foundation
import Logging

/// Conducts a run: feeds the pure `RunState` with what happens and does what it asks for, in order.
///
/// It is the only place where state machine and store meet. Everything here happens at once, in the order of the calls;
/// what waits (sockets, timers) is behind the `RunOutlet`. Its calls write to the disk, so they must not be made on a
/// thread that others wait for.
package final class RunConductor {
  package let run: ServedRun
  /// What the private releases cost; nil where clients are not the unit of privacy.
  let account: ReleaseAccount?
  let records: any RunRecords
  let outlet: HeldOutlet
  let logger: Logger
  /// Where the run stands.
  package private(set) var state: RunState
  /// How the run ended, or was stopped.
  package private(set) var outcome: RunOutcome?
  /// Events that wait for the one that is being played.
  private var inbox: [RunEvent] = []
  private var isPlaying = false
  /// Clients that are connected and accepted the manifest.
  private(set) var connected: Set<String> = []
  /// How many clients were told to come back later and have not been made room for.
  var turnedAway = 0
  /// Clients that were ready at some time, also before a restart, and have not been told the end yet.
  var unaware: Set<String> = []
  /// How far the updates that were arriving at the last deadline had come.
  private var uploads: [String: Int] = [:]
  /// The tensors of the round that is open, made ready for sending.
  var payload: (round: Int, payload: TensorPayload)?

  /// Takes up a run where its records left it.
  /// - Throws: what the records throw.
  package init(
    run: ServedRun,
    records: any RunRecords,
    outlet: any RunOutlet,
    logger: Logger
  ) throws {
    self.run = run
    account = run.account
    self.records = records
    self.outlet = HeldOutlet(outlet)
    self.logger = logger
    let recovered = try records.recover(isBuffered: run.policy.buffer != nil)
    state = RunState(policy: run.policy, seed: run.manifest.seed, recovered: recovered)
    // Who was there when the coordinator was killed has not been told an end either.
    unaware = Set(recovered.roster)
  }

  // MARK: What happens

  /// Lets several things happen, and waits for the disk once: nothing that follows from any of them is sent before all that
  /// they change is durable. Where that fails nothing of it has happened, and the run stops.
  ///
  /// A private release is charged before its noise is drawn, whatever becomes of the rest: where clients are the unit of
  /// privacy each change is durable by itself.
  /// - Returns: whether all of it is durable.
  @discardableResult
  package func together(_ body: () -> Void) -> Bool {
    guard account == nil else {
      body()
      return true
    }
    let outcomeBefore = outcome
    outlet.hold()
    do {
      try records.together(body)
      outlet.letGo()
      return true
    } catch {
      logger.error("changes were not made durable", metadata: ["reason": .string("\(error)")])
      // After the end nothing that is said promises anything, and the end itself is durable.
      if outcomeBefore != nil {
        outlet.letGo()
        return false
      }
      outlet.drop()
      inbox = []
      outcome = nil
      guard case .storeFailed(let reason) = RunConductor.failure(error) else { return false }
      // Where the end was among what is lost, the state has ended already; whoever resumes the run finds it again.
      _ = state.apply(.storeFailed(reason: reason), now: outlet.now)
      finish(.stopped(reason: reason))
      return false
    }
  }

  /// Arms what a restart left open.
  package func begin() { play { state.resume(now: outlet.now) } }

  /// A timer has run out.
  package func fire(round: Int, attempt: Int) {
    let arriving = outlet.uploads
    let moving = arriving.filter { $0.value > uploads[$0.key] ?? -1 }
    uploads = arriving
    if !moving.isEmpty { apply(.uploading(round: state.current.round, names: Set(moving.keys))) }
    apply(.deadlinePassed(round: round, attempt: attempt))
  }

  /// The operator stops the coordinator at once.
  package func stop(reason: String) { apply(.stop(reason: reason)) }

  /// What a client says on a connection of a switchboard that is this conductor's outlet.
  package func heard(_ word: ParticipantWord, from wire: any ClientWire, on switchboard: RunSwitchboard) {
    switch word {
    case .ready(let examples, let pendingRound):
      switchboard.connect(wire)
      ready(wire.name, examples: examples, pendingRound: pendingRound)
    case .update(let update, let tensors): received(update, tensors: tensors, from: wire.name)
    case .invalidUpdate(let round, let code, let reason): refused(wire.name, round: round, code: code, reason: reason)
    case .decline(let round, let code, let reason):
      // A second process with the same certificate speaks for itself only, not for the one that takes part.
      if switchboard.speaks(wire) { declined(wire.name, round: round, code: code, reason: reason) }
    }
  }

  /// A client accepted the manifest on a new connection, to which the outlet leads from now on.
  package func ready(_ name: String, examples: Int, pendingRound: Int?) {
    connected.insert(name)
    if let outcome { return sendGoodbye(outcome, to: name) }
    if isToComeLater(name, pendingRound: pendingRound) {
      // It may complete the population, and even be drawn at once.
      apply(.clientTurnedAway(name: name))
      if outcome != nil || state.dismissed[name] != nil { return }
      if isToComeLater(name, pendingRound: pendingRound) { return sendAwayForNow(name) }
    }
    unaware.insert(name)
    outlet.report(.clientReady(name: name, ready: connected.count))
    apply(.clientReady(name: name, examples: examples, pendingRound: pendingRound))
    if state.current.members[name] != .training {
      var wait = WireWait()
      wait.runID = run.manifest.runID
      wait.reason = state.phase == .waiting ? "waiting for \(run.policy.minClients) clients" : "another cohort trains"
      outlet.send(.message(WireEnvelope(.wait(wait))), to: name)
    }
  }

  /// A client's newest connection ended.
  package func lost(_ name: String, reason: String) {
    connected.remove(name)
    guard outcome == nil else { return }
    outlet.report(.clientLost(name: name, reason: reason))
    apply(.clientLost(name: name))
  }

  /// A client does not take part in a round, or with round 0 in the run.
  package func declined(_ name: String, round: Int, code: String, reason: String) {
    outlet.report(.declined(round: round, name: name, code: code, reason: reason))
    if round == 0 { unaware.remove(name) }
    apply(.declined(name: name, round: round, code: code, reason: reason))
  }

  /// An update arrived whole; it is made durable before the state hears of it.
  package func received(_ update: WireUpdate, tensors: TensorSet, from name: String) {
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
      // In an asynchronous run the update counts in the open round, whichever it started from.
      let isBuffered = run.policy.buffer != nil
      do {
        let stored = try records.storeUpdate(
          round: isBuffered ? state.current.round : round,
          name: name,
          examples: examples,
          metrics: metrics,
          digest: digest,
          tensors: tensors,
          start: isBuffered ? round : nil
        )
        if stored == .conflict {
          // Its record tells it.
          let reason = "another update of this round is durable"
          return apply(.updateRefused(name: name, round: round, code: ReasonCode.conflict, reason: reason))
        }
      } catch {
        logger.error("update not stored", metadata: fields(round, name, error))
        return apply(RunConductor.failure(error))
      }
      outlet.report(.updateAccepted(round: round, name: name, metrics: metrics))
    }
    apply(.updateReceived(name: name, round: round, examples: examples, digest: digest))
  }

  /// An update was found invalid on its way in.
  package func refused(_ name: String, round: Int, code: String, reason: String) {
    outlet.report(.updateRefused(round: round, name: name, code: code, reason: reason))
    apply(.updateRefused(name: name, round: round, code: code, reason: reason))
  }

  // MARK: What is to be done

  /// Plays an event, and whatever comes of it.
  package func apply(_ event: RunEvent) {
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
      perform(state.apply(event, now: outlet.now))
    }
  }

  private func perform(_ effects: [RunEffect]) {
    for effect in effects {
      do { try perform(effect) } catch {
        logger.error("an effect failed", metadata: fields(state.current.round, nil, error))
        // Effects that follow may promise what is not durable: they are dropped with the run, and so is what was to come.
        inbox = []
        let failure = RunConductor.failure(error)
        if case .finished = state.phase {
          // The end itself may be among what was dropped. It is not durable, so it is found again by whoever resumes the run.
          if case .storeFailed(let reason) = failure { finish(.stopped(reason: reason)) }
        } else {
          inbox = [failure]
        }
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
      try records.openAttempt(round: round, attempt: attempt, cohort: cohort)
      outlet.report(.roundOpened(round: round, attempt: attempt, cohort: cohort))
    case .extendCohort(let round, let attempt, let names):
      try records.openAttempt(round: round, attempt: attempt, cohort: names)
      outlet.report(.cohortExtended(round: round, names: names))
    case .sendRound(let names, let round, _, let deadline):
      try sendRound(to: names, round: round, deadline: deadline)
    case .armTimer(let round, let attempt, let at):
      let delay = at.sinceOrigin - outlet.now.sinceOrigin
      outlet.arm(round: round, attempt: attempt, after: max(.zero, delay))
    case .ack(let name, let round, let status, let reason): acknowledge(name, round: round, status, reason)
    case .drawCohort(let round, let names): apply(try drawCohort(round: round, from: names))
    case .retire(let name, let code): try records.retire(name: name, code: code)
    case .sendAway(let name, let round, let code, let reason, let discards):
      try records.sendAway(name: name, round: round, code: code, reason: reason, discards: discards)
      outlet.report(.clientOutcome(round: round, name: name, code: code, reason: reason))
    case .dismiss(let name, let reason): dismiss(name, reason)
    case .roster(let name, let isReady): try records.setRoster(name: name, isReady: isReady)
    case .record(let name, let round, let code, let reason):
      try records.record(name: name, round: round, code: code, reason: reason)
      if let event = CoordinatorEvent(recorded: code, round: round, name: name, reason: reason) { outlet.report(event) }
    case .commit(let round, let contributions, let counts):
      try commit(round: round, contributions: contributions, counts: counts)
    case .announceCommit(let round, let names, let updates):
      announceCommit(round: round, to: names, updates: updates)
      makeRoom(names)
    case .finish(let outcome): finish(outcome)
    }
  }

  private func commit(round: Int, contributions: [Contribution], counts: [String: Int]) throws {
    guard let next = try nextState(round: round, contributions: contributions) else {
      return apply(.budgetSpent(reason: try account?.refusal(after: records.chargedReleases()) ?? ""))
    }
    let losses = try records.metrics(round: round).filter { entry in contributions.contains { $0.name == entry.key } }
      .sorted { $0.key < $1.key }.compactMap { $0.value["loss"] }
    try records.commit(
      round: round,
      contributions: contributions,
      counts: counts,
      state: next.state,
      nextClippingNorm: next.clippingNorm
    )
    outlet.report(
      .roundCommitted(
        round: round,
        updates: contributions.count,
        counts: counts,
        meanLoss: losses.isEmpty ? nil : losses.reduce(0, +) / Double(losses.count),
        traffic: outlet.traffic,
        epsilon: try privacySpent()?.epsilon
      )
    )
    apply(.roundCommitted(round: round))
  }

  private func fields(_ round: Int, _ name: String?, _ error: any Error) -> Logger.Metadata {
    var fields: Logger.Metadata = ["round": .stringConvertible(round), "reason": .string("\(error)")]
    if let name { fields["client"] = .string(name) }
    return fields
  }

  // MARK: The end

  private func finish(_ outcome: RunOutcome) {
    guard self.outcome == nil else { return }
    self.outcome = outcome
    do { try records.finish(outcome) } catch {
      logger.error("the end was not recorded", metadata: fields(state.current.round, nil, error))
    }
    outlet.report(.finished(outcome))
    for name in connected.sorted() { sendGoodbye(outcome, to: name) }
    outlet.ended(outcome)
  }

  /// What there is when the run is over. The folder is free for another coordinator afterwards.
  package func result() throws -> CoordinatorResult {
    defer { records.close() }
    let last = try records.lastCommittedRound()
    return CoordinatorResult(
      outcome: outcome ?? .stopped(reason: "the coordinator ended"),
      finalState: try records.state(afterRound: last),
      roundsCommitted: last,
      traffic: outlet.traffic,
      privacy: try privacySpent()
    )
  }
}

extension Duration {
  /// This span in seconds.
  var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
