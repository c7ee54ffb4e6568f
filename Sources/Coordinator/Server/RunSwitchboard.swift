import FedLoRAProtocol

/// The coordinator's end of one client's connection.
package protocol ClientWire: AnyObject {
  /// The name in the client's certificate.
  var name: String { get }
  /// Bytes of frames so far.
  var traffic: Traffic { get }
  /// Whether an update is arriving.
  var isUploading: Bool { get }
  /// Puts a message behind those that wait to be sent. Must not wait.
  func send(_ message: OutgoingMessage)
  /// Takes no more messages; what waits is still sent, then the connection is closed.
  func finish()
}

/// A time after which a conductor is to be told that it has passed.
package struct RunTimer: Sendable {
  package let round: Int
  package let attempt: Int
  package let delay: Duration
}

/// Leads a conductor's messages to the connections of its clients, and its timers to whoever waits for them.
package final class RunSwitchboard: RunOutlet {
  private let clock: () -> RunInstant
  private let sleeper: (RunTimer) -> Void
  private let reporter: (CoordinatorEvent) -> Void
  private let onEnd: () -> Void
  /// The newest connection of each client that accepted the manifest.
  private var links: [String: any ClientWire] = [:]
  /// Connections whose client has not accepted the manifest, so that they do not outlive the run.
  private var strangers: [ObjectIdentifier: any ClientWire] = [:]
  private var closedTraffic = Traffic()
  private var isClosing = false
  private var outcome: RunOutcome?
  private var awarenessIsOver = false
  private var outcomeWaiters: [CheckedContinuation<RunOutcome, Never>] = []
  private var awarenessWaiters: [CheckedContinuation<Void, Never>] = []

  /// - Parameters:
  ///   - clock: what time it is.
  ///   - sleeper: takes timers; must not wait.
  ///   - report: takes what happens; must not wait.
  ///   - onEnd: called once the run is over and no timer comes any more.
  package init(
    clock: @escaping () -> RunInstant,
    sleeper: @escaping (RunTimer) -> Void,
    report: @escaping (CoordinatorEvent) -> Void,
    onEnd: @escaping () -> Void = {}
  ) {
    self.clock = clock
    self.sleeper = sleeper
    reporter = report
    self.onEnd = onEnd
  }

  // MARK: Connections

  /// A connection was made; its client may become ready.
  package func began(_ link: any ClientWire) {
    strangers[ObjectIdentifier(link)] = link
    if isClosing { link.send(.end) }
  }

  /// Messages to this client go to this connection from now on; an older one is closed.
  package func connect(_ link: any ClientWire) {
    if let older = links[link.name], older !== link {
      var error = WireError()
      error.code = "replaced"
      error.text = "the same client connected again"
      older.send(.message(WireEnvelope(.error(error))))
      older.finish()
    }
    links[link.name] = link
    strangers[ObjectIdentifier(link)] = nil
  }

  /// A connection ended, for whatever reason.
  /// - Returns: whether it was its client's newest.
  package func ended(_ link: any ClientWire) -> Bool {
    closedTraffic = closedTraffic + link.traffic
    strangers[ObjectIdentifier(link)] = nil
    guard links[link.name] === link else { return false }
    links[link.name] = nil
    return true
  }

  /// Whether this connection speaks for its client: a second process with the same certificate speaks for itself only.
  package func speaks(_ link: any ClientWire) -> Bool { links[link.name] == nil || links[link.name] === link }

  /// Ends every connection after what is queued for it.
  package func closeAll() {
    isClosing = true
    for (_, link) in links.sorted(by: { $0.key < $1.key }) { link.send(.end) }
    for link in strangers.values { link.send(.end) }
  }

  // MARK: What the conductor asks for

  package var now: RunInstant { clock() }

  package var traffic: Traffic { links.values.reduce(closedTraffic) { $0 + $1.traffic } }

  package var uploads: [String: Int] { links.filter { $0.value.isUploading }.mapValues { $0.traffic.received } }

  package func send(_ message: OutgoingMessage, to name: String) { links[name]?.send(message) }

  package func arm(round: Int, attempt: Int, after delay: Duration) {
    sleeper(RunTimer(round: round, attempt: attempt, delay: delay))
  }

  package func report(_ event: CoordinatorEvent) { reporter(event) }

  package func ended(_ outcome: RunOutcome) {
    self.outcome = outcome
    onEnd()
    for waiter in outcomeWaiters { waiter.resume(returning: outcome) }
    outcomeWaiters = []
  }

  package func everybodyKnows() { giveUpFarewells() }

  // MARK: Who waits for the end

  /// Resumes at the end of the run.
  func wait(_ waiter: CheckedContinuation<RunOutcome, Never>) {
    if let outcome { waiter.resume(returning: outcome) } else { outcomeWaiters.append(waiter) }
  }

  /// Resumes once everybody was told the end, or nobody waits for that any more.
  func waitForFarewells(_ waiter: CheckedContinuation<Void, Never>) {
    if awarenessIsOver { waiter.resume() } else { awarenessWaiters.append(waiter) }
  }

  /// Stops waiting for clients that were not told.
  func giveUpFarewells() {
    awarenessIsOver = true
    for waiter in awarenessWaiters { waiter.resume() }
    awarenessWaiters = []
  }
}
