import CoreMetrics
import FedLoRAProtocol
import Foundation
import Synchronization

/// Foundation has a timer too.
private typealias MetricTimer = CoreMetrics.Timer

/// Turns what a coordinator reports into metrics: the one place where they are recorded.
///
/// Where clients are the unit of privacy, who was drawn is secret and so is how many. What would tell it is then not
/// recorded: updates, absences, declines of rounds, clients at work, their times, what waits for them, and traffic.
final class CoordinatorMetrics: Sendable {
  /// What is read from elsewhere when somebody looks.
  struct Readings: Sendable {
    let traffic: ServerTraffic
    let open: Int
    let pending: Int
    let refusals: [FedLoRAProtocol.ReasonCode: Int]
    let outgoing: Int
    let jobs: Int
    let identity: IdentityStatus
  }

  private struct State: Sendable {
    var times: RoundTimes
    var attendance: Attendance
    var storingSince: Duration?
    var isOver = false
    /// What counters that follow a total were set to.
    var counted: [String: Int] = [:]
  }

  private let factory: any MetricsFactory
  private let clock: @Sendable () -> Duration
  private let hidesCohorts: Bool
  private let state: Mutex<State>

  private let round, attempt, committed, committedAt, isOver, ready, jobs, certificateRemaining, certificateEnds: Meter
  private let atWork, outgoing, epsilonSpent: Meter?
  private let attempts: Counter
  private let roundTime: MetricTimer
  private let phaseTimes: [RoundTimes.Phase: MetricTimer]
  private let sending, working, uploading, answering, storing, acknowledging: MetricTimer?

  /// - Parameters:
  ///   - start: where the run stands when it is taken up.
  ///   - spent: what the run has spent of its own budget until then.
  ///   - clock: time since any origin.
  init(
    _ factory: any MetricsFactory,
    run: ServedRun,
    start: RunState,
    spent: Double?,
    clock: @escaping @Sendable () -> Duration
  ) {
    self.factory = factory
    self.clock = clock
    let hidesCohorts = run.clientPrivacy != nil
    self.hidesCohorts = hidesCohorts
    let isOpen = start.current.attempt > 0
    let atWorkNow = Set(start.current.members.filter { $0.value == .training }.keys)
    state = Mutex(
      State(
        times: RoundTimes(openRound: isOpen ? start.current.round : nil, at: clock()),
        attendance: Attendance(
          round: start.current.round,
          atWork: atWorkNow,
          isAsynchronous: run.policy.buffer != nil
        )
      )
    )
    func meter(_ name: String) -> Meter { Meter(label: name, factory: factory) }
    func timer(_ name: String, _ phase: String? = nil) -> MetricTimer {
      MetricTimer(label: name, dimensions: phase.map { [("phase", $0)] } ?? [], factory: factory)
    }
    round = meter(CoordinatorMetric.round)
    attempt = meter(CoordinatorMetric.attempt)
    committed = meter(CoordinatorMetric.committed)
    committedAt = meter(CoordinatorMetric.committedAt)
    isOver = meter(CoordinatorMetric.isOver)
    ready = meter(CoordinatorMetric.ready)
    jobs = meter(CoordinatorMetric.jobs)
    certificateRemaining = meter(CoordinatorMetric.certificateRemaining)
    certificateEnds = meter(CoordinatorMetric.certificateEnds)
    atWork = hidesCohorts ? nil : meter(CoordinatorMetric.atWork)
    outgoing = hidesCohorts ? nil : meter(CoordinatorMetric.outgoing)
    epsilonSpent = hidesCohorts ? meter(CoordinatorMetric.epsilonSpent) : nil
    attempts = Counter(label: CoordinatorMetric.attempts, factory: factory)
    roundTime = timer(CoordinatorMetric.roundTime)
    let phases: [RoundTimes.Phase] = hidesCohorts ? [.waiting] : RoundTimes.Phase.allCases
    phaseTimes = Dictionary(
      uniqueKeysWithValues: phases.map { ($0, timer(CoordinatorMetric.phaseTime, $0.rawValue)) }
    )
    sending = hidesCohorts ? nil : timer(CoordinatorMetric.clientTime, "sending")
    working = hidesCohorts ? nil : timer(CoordinatorMetric.clientTime, "working")
    uploading = hidesCohorts ? nil : timer(CoordinatorMetric.clientTime, "uploading")
    answering = hidesCohorts ? nil : timer(CoordinatorMetric.answerTime)
    storing = hidesCohorts ? nil : timer(CoordinatorMetric.storeTime)
    acknowledging = hidesCohorts ? nil : timer(CoordinatorMetric.acknowledgeTime)

    meter(CoordinatorMetric.planned).set(run.policy.rounds)
    if let terms = run.clientPrivacy { meter(CoordinatorMetric.epsilonBudget).set(terms.epsilon) }
    epsilonSpent?.set(spent ?? 0)
    round.set(isOpen ? start.current.round : start.committedRounds)
    attempt.set(start.current.attempt)
    committed.set(start.committedRounds)
    committedAt.set(Date().timeIntervalSince1970)
    atWork?.set(atWorkNow.count)
    if !hidesCohorts {
      counter(CoordinatorMetric.updates, [("outcome", "accepted"), ("reason", "accepted")]).increment(by: 0)
    }
  }

  // MARK: What is told

  /// Takes what happened.
  func observe(_ event: CoordinatorEvent) {
    let now = clock()
    let (spans, numberReady, numberAtWork, stored) = state.withLock { state in
      let spans = state.times.observe(event, at: now, since: state.storingSince)
      state.attendance.observe(event)
      if case .finished = event { state.isOver = true }
      var stored: Duration?
      if case .updateAccepted = event, let since = state.storingSince { stored = now - since }
      return (spans, state.attendance.ready.count, state.attendance.atWork.count, stored)
    }
    ready.set(numberReady)
    atWork?.set(numberAtWork)
    if let stored { storing?.record(stored) }
    for span in spans {
      switch span {
      case .phase(let phase, let time): phaseTimes[phase]?.record(time)
      case .round(let time): roundTime.record(time)
      }
    }
    count(event)
  }

  private func count(_ event: CoordinatorEvent) {
    switch event {
    case .roundOpened(let number, let newest, _):
      round.set(number)
      attempt.set(newest)
      attempts.increment()
    case .roundCommitted(let number, _, _, _, _, let epsilon):
      committed.set(number)
      committedAt.set(Date().timeIntervalSince1970)
      if let epsilon { epsilonSpent?.set(epsilon) }
    case .finished: isOver.set(1)
    case .notice(let code, _): counter(CoordinatorMetric.notices, [("code", CoordinatorMetric.label(code))]).increment()
    case .updateAccepted: countUpdate("accepted", ReasonCode.accepted)
    case .updateRefused(_, _, let code, _): countUpdate("refused", code)
    case .declined(let round, _, let code, _):
      // Who declines a round was drawn.
      if hidesCohorts, round != 0 { break }
      let code = CoordinatorMetric.declineCodes.contains(code) ? code : "other"
      counter(CoordinatorMetric.declines, [("code", code)]).increment()
    case .clientOutcome(_, _, let code, _):
      switch code {
      case ReasonCode.duplicate, ReasonCode.late, ReasonCode.notAssigned: countUpdate("unused", code)
      case ReasonCode.returned, ReasonCode.populationFull: break
      default:
        if !hidesCohorts {
          counter(CoordinatorMetric.absences, [("reason", CoordinatorMetric.label(code))]).increment()
        }
      }
    case .clientReady, .clientLost, .refused, .aggregated, .cohortExtended: break
    }
  }

  private func countUpdate(_ outcome: String, _ reason: String) {
    guard !hidesCohorts else { return }
    counter(CoordinatorMetric.updates, [("outcome", outcome), ("reason", CoordinatorMetric.label(reason))]).increment()
  }

  /// Takes what a connection tells about its times.
  func observe(_ moment: LinkMoment) {
    switch moment {
    case .roundSent(let time): sending?.record(time)
    case .updateBegun(let time): working?.record(time)
    case .updateArrived(let time, let sinceRound):
      uploading?.record(time)
      if let sinceRound { answering?.record(sinceRound) }
    case .acknowledged(let time): acknowledging?.record(time)
    }
  }

  /// The run takes up what has arrived, or (`false`) is done with it: each update among it took as long as all together.
  func takesUpdates(_ isTaken: Bool) {
    let now = clock()
    state.withLock { $0.storingSince = isTaken ? now : nil }
  }

  /// Time since the clock's origin.
  var now: Duration { clock() }

  /// Whether the run has ended or was stopped.
  var isRunOver: Bool { state.withLock { $0.isOver } }

  // MARK: What is read

  /// Brings up to date what nobody reports.
  func sample(_ readings: Readings) {
    let expiry = readings.identity.expiry
    certificateRemaining.set(expiry.daysLeft() * 86_400)
    certificateEnds.set(expiry.isNear() ? 1 : 0)
    jobs.set(readings.jobs)
    meter(CoordinatorMetric.connections, [("state", "open")]).set(readings.open)
    meter(CoordinatorMetric.connections, [("state", "handshake")]).set(readings.pending)
    for (code, total) in readings.refusals {
      follow(CoordinatorMetric.refusals, [("reason", CoordinatorMetric.label(code.rawValue))], total, of: code.rawValue)
    }
    guard !hidesCohorts else { return }
    outgoing?.set(readings.outgoing)
    let traffic = readings.traffic
    for (name, total) in [
      (CoordinatorMetric.wireBytes, traffic.wire), (CoordinatorMetric.frameBytes, traffic.frames),
      (CoordinatorMetric.payloadBytes, traffic.payload), (CoordinatorMetric.frames, traffic.frameCount),
    ] {
      follow(name, [("direction", "sent")], total.sent, of: "sent")
      follow(name, [("direction", "received")], total.received, of: "received")
    }
  }

  /// Counts what a total has grown by since the last time.
  private func follow(_ name: String, _ dimensions: [(String, String)], _ total: Int, of key: String) {
    let more = state.withLock { state in
      let before = state.counted["\(name) \(key)", default: 0]
      state.counted["\(name) \(key)"] = max(before, total)
      return max(0, total - before)
    }
    counter(name, dimensions).increment(by: more)
  }

  private func counter(_ name: String, _ dimensions: [(String, String)]) -> Counter {
    Counter(label: name, dimensions: dimensions, factory: factory)
  }

  private func meter(_ name: String, _ dimensions: [(String, String)]) -> Meter {
    Meter(label: name, dimensions: dimensions, factory: factory)
  }
}

extension CoreMetrics.Timer {
  fileprivate func record(_ time: Duration) { recordNanoseconds(Int64(max(0, time.inSeconds) * 1e9)) }
}
