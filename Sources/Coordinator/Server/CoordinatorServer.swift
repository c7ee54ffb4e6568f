import CoreMetrics
import Dispatch
import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation
import Logging

/// Serves one run over mutual TLS until it is over.
public final class CoordinatorServer: Sendable {
  /// The port that is served, also where 0 was asked for.
  public var port: Int { server.port }

  private let server: PeerServer
  private let log: RunLog
  /// Nil where the folder's file system has no sockets; the run is served all the same.
  private let operatorServer: OperatorServer?
  private let driver: RunDriver
  private let watch: IdentityWatch
  private let backlog = Backlog()
  private let turns = SendingTurns()

  /// How the coordinator's own certificate stands.
  public var identityStatus: IdentityStatus { watch.status }
  /// How many connections were refused so far, by reason; more than were reported one by one.
  public var refusals: [FedLoRAProtocol.ReasonCode: Int] { server.refusals }
  /// Whether the run has ended or was stopped; connections may still be open.
  public var isRunOver: Bool { driver.metrics.isRunOver }

  /// Brings metrics up to date that follow nothing that happens: traffic, connections, queues, the certificate. To be
  /// called before metrics are exported; waits for nothing that the run does.
  public func sampleMetrics() {
    driver.metrics.sample(
      CoordinatorMetrics.Readings(
        traffic: server.traffic,
        open: server.connectionCount,
        pending: server.pendingCount,
        refusals: server.refusals,
        outgoing: backlog.count,
        jobs: driver.backlog,
        identity: watch.status
      )
    )
  }

  /// How many connections have shown no certificate yet.
  public var pendingConnections: Int { server.pendingCount }

  /// How long the end of a run waits for clients that are away, so that they learn of it.
  static let farewell = Duration.seconds(10)
  /// How long connections may take to end once everything was said.
  static let grace = Duration.seconds(30)

  private init(
    server: PeerServer,
    log: RunLog,
    operatorServer: OperatorServer?,
    driver: RunDriver,
    watch: IdentityWatch
  ) {
    self.server = server
    self.log = log
    self.operatorServer = operatorServer
    self.driver = driver
    self.watch = watch
  }

  /// Opens the run in `directory`, or goes on with it where it was begun, and listens.
  /// - Parameters:
  ///   - manifest: the run's terms; must be the same after a restart.
  ///   - initialState: the tensors that round 1 starts from.
  ///   - directory: the run's durable state; made where it is not there.
  ///   - identityFolder: where `identity` was read; new files there are taken into use while the run is served.
  ///   - port: 0 takes a free one.
  ///   - logger: its lines get the run as a field.
  ///   - metrics: where metrics are recorded, by names and labels of `CoordinatorMetric`.
  ///   - onEvent: called in order, from the run's own queue and from event loops; must not block.
  /// - Throws: `CoordinatorError`, `RunStoreError`, `RoundPolicyError`, `TransportError`, `IdentityError`.
  public static func start(
    manifest: WireRunManifest,
    initialState: TensorSet,
    directory: URL,
    identity: TLSIdentity,
    identityFolder: URL? = nil,
    host: String,
    port: Int,
    configuration: TransportConfiguration = TransportConfiguration(),
    logger: Logger,
    metrics factory: any MetricsFactory = MetricsSystem.factory,
    onEvent: @escaping @Sendable (CoordinatorEvent) -> Void
  ) async throws -> CoordinatorServer {
    let run = try ServedRun(manifest)
    var bound = logger
    bound[metadataKey: "run"] = .string(run.manifest.runID)
    let logger = bound
    let (driver, log) = try await onThreadOfItsOwn {
      let store = try RunStore.open(run, initialState: initialState, at: directory)
      let log = try RunLog(folder: directory, run: run.manifest.runID, logger: logger)
      return (try RunDriver(run: run, store: store, logger: logger, metrics: factory), log)
    }
    // The driver keeps what it reports to, which must not keep the driver.
    let (metrics, hidesCohorts) = (driver.metrics, run.clientPrivacy != nil)
    let report: @Sendable (CoordinatorEvent) -> Void = { event in
      log.append(event)
      logger.log(event, hidesCohorts: hidesCohorts)
      metrics.observe(event)
      onEvent(event)
    }
    await driver.tell(report)
    let server = try await PeerServer.bind(
      host: host,
      port: port,
      identity: identity,
      configuration: configuration,
      logger: logger
    ) { report(.refused(address: $0.address, code: $0.code.rawValue, reason: $0.text)) }
    log.appendStart(port: server.port)
    var operatorServer: OperatorServer?
    do { operatorServer = try await OperatorServer.bind(in: directory, logger: logger) } catch {
      logger.warning("no operator socket", metadata: ["reason": .string("\(error)")])
    }
    return CoordinatorServer(
      server: server,
      log: log,
      operatorServer: operatorServer,
      driver: driver,
      watch: IdentityWatch(server: server, folder: identityFolder, logger: logger, report: report)
    )
  }

  /// Opening a store waits for the disk, which the cooperative pool must not.
  private static func onThreadOfItsOwn<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      DispatchQueue.global().async { continuation.resume(with: Result(catching: body)) }
    }
  }

  /// Serves until the run is over. Cancelling the task stops the coordinator; the run can be gone on with.
  /// - Throws: `RunStoreError` when the result cannot be read back.
  public func run() async throws -> CoordinatorResult {
    let driver = driver
    await withTaskCancellationHandler {
      await withTaskGroup(of: Void.self) { group in
        group.addTask {
          await withDiscardingTaskGroup { sleepers in
            for await timer in driver.timers {
              sleepers.addTask {
                try? await Task.sleep(for: timer.delay)
                if !Task.isCancelled { await driver.fire(timer) }
              }
            }
            sleepers.cancelAll()
          }
        }
        let operatorTask = Task { await self.operatorServer?.run { await self.answer($0) } }
        let watchTask = Task { await self.watch.run() }
        group.addTask {
          await self.serveUntilTheEnd()
          operatorTask.cancel()
          watchTask.cancel()
          _ = await (operatorTask.value, watchTask.value)
        }
        await driver.begin()
      }
    } onCancel: {
      Task { await driver.stop(reason: "the coordinator was asked to stop") }
    }
    defer { log.close() }
    return try await driver.result()
  }

  /// Serves connections until the run is over and everybody who can be told has been told. A peer that keeps its
  /// connection open all the same does not hold up the end.
  private func serveUntilTheEnd() async {
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await self.server.run { await self.serve($0) } }
      let outcome = await driver.waitForOutcome()
      if outcome.sendsState {
        await CoordinatorServer.atMost(CoordinatorServer.farewell) { await self.driver.waitForFarewells() }
        await driver.giveUpFarewells()
      }
      await driver.closeAll()
      server.shutdown()
      group.addTask { try? await Task.sleep(for: CoordinatorServer.grace) }
      // Either all connections have ended, or the grace has; cancelling closes what is still open.
      await group.next()
      group.cancelAll()
    }
  }

  /// Waits for `body`, but not longer; `body` must return soon after `giveUpFarewells`.
  private static func atMost(_ time: Duration, _ body: @escaping @Sendable () async -> Void) async {
    let (done, signal) = AsyncStream<Void>.makeStream()
    let waiting = Task {
      await body()
      signal.finish()
    }
    let clock = Task {
      try? await Task.sleep(for: time)
      signal.finish()
    }
    for await _ in done {}
    clock.cancel()
    waiting.cancel()
  }

  /// Stops the coordinator; `run` returns with the outcome `stopped`.
  public func stop(reason: String) async { await driver.stop(reason: reason) }

  private func answer(_ request: OperatorRequest) async -> OperatorReply {
    var reply = await driver.answer(request)
    if request.verb == .reload { (reply.message, reply.isAccepted) = await watch.reload() }
    reply.status?.certificateDaysLeft = watch.status.expiry.daysLeft()
    return reply
  }

  // MARK: One connection

  private func serve(_ connection: PeerConnection) async {
    guard case .participant(let name) = connection.peer else {
      return await refuse(connection, code: "wrong-role", text: "only participants join a run")
    }
    let link = ClientLink(
      name: name.rawValue,
      connection: connection,
      metrics: driver.metrics,
      backlog: backlog,
      turns: turns
    )
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await link.pump() }
      await driver.began(link)
      let reason = await read(link)
      link.finish()
      await connection.close()
      await driver.ended(link, reason: reason)
    }
  }

  /// Reads until the connection ends.
  /// - Returns: why it ended.
  private func read(_ link: ClientLink) async -> String {
    var session = ParticipantSession(run: driver.run, name: link.name)
    var isFirst = true
    do {
      // Nothing but a Hello, which declares no stream, may come first.
      let expectation = session.expectation
      let expectUpdate: ExpectStream = { envelope in
        let expected = try await expectation(envelope)
        link.updateBegins(envelope)
        return expected
      }
      let expectReady: ExpectStream = { _ in
        throw TransportError.violation(code: "not-ready", text: "an Update before Ready")
      }
      while let inbound = try await link.connection.receive(
        expecting: isFirst ? PeerConnection.expectNothing : session.isReady ? expectUpdate : expectReady
      ) {
        isFirst = false
        link.received(inbound)
        switch session.heard(inbound.envelope, tensors: inbound.tensors, violation: inbound.violation) {
        case .answer(let envelope):
          // Only a good Hello is answered here; from now on the limits are those of a connection that works.
          link.connection.admit()
          link.send(.message(envelope))
        case .pass(let word): await driver.heard(word, from: link)
        case .leave(let reason): return reason
        case .refuse(let code, let text, let reason):
          await refuse(link.connection, code: code, text: text)
          return reason
        }
      }
      return isFirst ? "closed before Hello" : "closed by the client"
    } catch TransportError.violation(let code, let text) where !session.isReady {
      // What breaks a session later is told where it ends; that a certificate ends was told already.
      if ![.revoked, .expired].contains(code) { server.noteRefusal(of: link.connection, code: code, text: text) }
      return text
    } catch {
      return "\(error)"
    }
  }

  private func refuse(_ connection: PeerConnection, code: String, text: String) async {
    let reason = FedLoRAProtocol.ReasonCode(rawValue: code)
    server.noteRefusal(of: connection, code: reason, text: text)
    await connection.close(code: reason, text: text)
  }
}
