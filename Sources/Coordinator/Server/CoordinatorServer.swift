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

  /// How the coordinator's own certificate stands.
  public var identityStatus: IdentityStatus { watch.status }
  /// How many connections were refused so far, by reason; more than were reported one by one.
  public var refusals: [FedLoRAProtocol.ReasonCode: Int] { server.refusals }

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
    onEvent: @escaping @Sendable (CoordinatorEvent) -> Void
  ) async throws -> CoordinatorServer {
    let run = try ServedRun(manifest)
    let (driver, log, report) = try await onThreadOfItsOwn {
      let store = try openStore(run, initialState: initialState, directory: directory)
      let log = try RunLog(folder: directory, run: run.manifest.runID, logger: logger)
      let report: @Sendable (CoordinatorEvent) -> Void = { event in
        log.append(event)
        onEvent(event)
      }
      return (try RunDriver(run: run, store: store, logger: logger, report: report), log, report)
    }
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

  private static func openStore(_ run: ServedRun, initialState: TensorSet, directory: URL) throws -> RunStore {
    do {
      let store = try RunStore.open(at: directory)
      guard store.run.manifest == run.bytes else { throw CoordinatorError.otherRun(directory: directory.path) }
      return store
    } catch RunStoreError.noRun {
      let description = RunStore.Description(
        runID: run.manifest.runID,
        seed: run.manifest.seed,
        manifest: run.bytes
      )
      return try RunStore.create(at: directory, run: description, initialState: initialState)
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
    let link = ClientLink(name: name.rawValue, connection: connection)
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
    do {
      let run = driver.run
      let expectation: ExpectStream = { envelope in
        guard link.isReady else { throw TransportError.violation(code: "not-ready", text: "an Update before Ready") }
        guard case .update(let update)? = envelope.message, update.runID == run.manifest.runID else {
          throw StreamViolation(
            code: "wrong-run",
            text: "an update of run '\(run.manifest.runID)' was expected, not a \(envelope.messageName)"
          )
        }
        return .update(run.updateLayout)
      }
      guard let hello = try await link.connection.receive() else { return "closed before Hello" }
      guard try await greet(hello, link) else { return "refused" }
      while let inbound = try await link.connection.receive(expecting: expectation) {
        switch inbound.envelope.message {
        case .ready(let ready):
          guard ready.runID == run.manifest.runID, ready.manifestSha256 == run.hash else {
            await refuse(link.connection, code: "wrong-run", text: "Ready is for other terms than those of this run")
            return "ready for another run"
          }
          link.isReady = true
          await driver.ready(
            link,
            examples: Int(clamping: ready.examples),
            pendingRound: ready.pendingRound == 0 ? nil : Int(clamping: ready.pendingRound)
          )
        case .update(let update):
          if let tensors = inbound.tensors, link.isReady {
            await driver.received(update, tensors: tensors, from: link.name)
          } else if let violation = inbound.violation, link.isReady {
            await driver.refused(
              link.name,
              round: Int(clamping: update.round),
              code: violation.code.rawValue,
              reason: violation.text
            )
          } else {
            await refuse(link.connection, code: "not-ready", text: "an Update before Ready, or without tensors")
            return "broke the protocol"
          }
        case .decline(let decline) where decline.runID == run.manifest.runID:
          await driver.declined(
            link,
            round: Int(clamping: decline.round),
            code: String(decline.code.prefix(64)),
            reason: String(decline.reason.prefix(512))
          )
        case .goodbye: return "said goodbye"
        default:
          await refuse(
            link.connection,
            code: "unexpected-message",
            text: "a \(inbound.envelope.messageName) is not expected here"
          )
          return "broke the protocol"
        }
      }
      return "closed by the client"
    } catch TransportError.violation(let code, let text) where !link.isReady {
      // What ends a session later is told where it ends; a certificate that ends was told already.
      if ![.revoked, .expired].contains(code) { server.noteRefusal(of: link.connection, code: code, text: text) }
      return text
    } catch {
      return "\(error)"
    }
  }

  /// Checks Hello against the certificate and answers with the manifest.
  private func greet(_ inbound: Inbound, _ link: ClientLink) async throws -> Bool {
    guard case .hello(let hello)? = inbound.envelope.message else {
      await refuse(link.connection, code: "unexpected-message", text: "the first message must be Hello")
      return false
    }
    guard hello.protocolVersion == protocolVersion else {
      await refuse(
        link.connection,
        code: "wrong-version",
        text: "protocol version \(hello.protocolVersion) is not served; this coordinator speaks \(protocolVersion)"
      )
      return false
    }
    guard hello.clientName == link.name else {
      await refuse(
        link.connection,
        code: "name-mismatch",
        text: "the certificate is '\(link.name)'s, but Hello says '\(String(hello.clientName.prefix(64)))'"
      )
      return false
    }
    link.connection.admit()
    var welcome = WireWelcome()
    welcome.manifest = driver.run.bytes
    welcome.manifestSha256 = driver.run.hash
    link.send(.message(WireEnvelope(.welcome(welcome))))
    return true
  }

  private func refuse(_ connection: PeerConnection, code: String, text: String) async {
    let reason = FedLoRAProtocol.ReasonCode(rawValue: code)
    server.noteRefusal(of: connection, code: reason, text: text)
    await connection.close(code: reason, text: text)
  }
}
