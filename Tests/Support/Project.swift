import CoreMetrics
import FedLoRACheckpoint
import FedLoRAClient
import FedLoRACoordinator
import FedLoRAProtocol
import Foundation
import Logging

/// A throw-away project: one authority, a scratch folder, coordinators and clients on loopback.
package struct Project: Sendable {
  package let authority: CertificateAuthority
  package let folder: ScratchFolder
  package static let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  package init() throws {
    authority = try CertificateAuthority()
    folder = try ScratchFolder()
  }

  package func identity(_ name: String, validity: CertificateValidity = .days(1)) throws -> TLSIdentity {
    try authority.issueParticipant(try ParticipantName(name), validity: validity)
  }

  /// Opens `run` in the project's folder and serves it.
  /// - Parameter identityFolder: of another authority's coordinator, on disk; without it one of the project's in memory.
  package func serve(
    _ run: ToyRun,
    directory: String = "coordinator",
    port: Int = 0,
    configuration: TransportConfiguration = TransportConfiguration(),
    identityFolder: URL? = nil,
    logger: Logger = Project.silent,
    metrics: any MetricsFactory = NOOPMetricsHandler.instance
  ) async throws -> RunningCoordinator {
    try await serve(
      run.manifest,
      run.initialState,
      directory: directory,
      port: port,
      configuration: configuration,
      identityFolder: identityFolder,
      logger: logger,
      metrics: metrics
    )
  }

  /// Opens a run of any manifest in the project's folder and serves it.
  package func serve(
    _ manifest: WireRunManifest,
    _ initialState: TensorSet,
    directory: String = "coordinator",
    port: Int = 0,
    configuration: TransportConfiguration = TransportConfiguration(),
    identityFolder: URL? = nil,
    logger: Logger = Project.silent,
    metrics: any MetricsFactory = NOOPMetricsHandler.instance,
    onEvent: @escaping @Sendable (CoordinatorEvent) -> Void = { _ in }
  ) async throws -> RunningCoordinator {
    let log = EventLog<CoordinatorEvent>()
    let server = try await CoordinatorServer.start(
      manifest: manifest,
      initialState: initialState,
      directory: folder.appending(directory),
      identity: try identityFolder.map { try TLSIdentity.load(from: $0) } ?? authority.issueCoordinator(),
      identityFolder: identityFolder,
      host: "127.0.0.1",
      port: port,
      configuration: configuration,
      logger: logger,
      metrics: metrics
    ) { event in
      log.record(event)
      onEvent(event)
    }
    return RunningCoordinator(server: server, log: log)
  }

  /// A client that was not started yet, with its state in the project's folder.
  package func client(
    _ name: String,
    port: Int,
    trainer: any LocalTrainer = ToyTrainer(),
    state: String? = nil,
    backoff: Backoff = Backoff(initial: .milliseconds(10), longest: .milliseconds(200)),
    log: EventLog<ClientEvent> = EventLog(),
    onEvent: @escaping @Sendable (ClientEvent) -> Void = { _ in }
  ) throws -> FederatedClient {
    FederatedClient(
      identity: try identity(name),
      host: "127.0.0.1",
      port: port,
      stateDirectory: folder.appending(state ?? "clients/\(name)"),
      trainer: trainer,
      backoff: backoff,
      logger: Project.silent
    ) { event in
      onEvent(event)
      log.record(event)
    }
  }

  /// The client's state folder in `run`.
  package func stateFolder(_ name: String, run: ToyRun) -> URL {
    folder.appending("clients/\(name)/client-\(name)/run-\(run.manifest.runID)")
  }
}

/// A coordinator that serves in a task of its own.
package struct RunningCoordinator: Sendable {
  package let server: CoordinatorServer
  package let log: EventLog<CoordinatorEvent>
  package let task: Task<CoordinatorResult, any Error>

  init(server: CoordinatorServer, log: EventLog<CoordinatorEvent>) {
    self.server = server
    self.log = log
    task = Task { try await server.run() }
  }

  package var port: Int { server.port }

  /// The result, within a deadline.
  package func result(within deadline: Duration = .seconds(40)) async throws -> CoordinatorResult {
    try await withDeadline(deadline) { try await task.value }
  }

  /// How often each code was met in the committed round.
  package func counts(ofRound round: Int) async throws -> [String: Int] {
    let event = try await log.first { if case .roundCommitted(round, _, _, _, _, _) = $0 { true } else { false } }
    guard case .roundCommitted(_, _, let counts, _, _, _) = event else { return [:] }
    return counts
  }
}

/// Runs `body`, and throws where it takes longer; `body` must obey cancellation or be abandoned.
package func withDeadline<T: Sendable>(
  _ deadline: Duration = .seconds(40),
  _ body: @escaping @Sendable () async throws -> T
) async throws -> T {
  let log = EventLog<Result<T, any Error>>()
  let task = Task {
    do { log.record(.success(try await body())) } catch { log.record(.failure(error)) }
  }
  do {
    return try await log.first(within: deadline) { _ in true }.get()
  } catch let error as DeadlineExceeded {
    task.cancel()
    throw error
  }
}
