import FedLoRACheckpoint
import FedLoRAEngine
import FedLoRAProtocol
import Foundation
import Logging
import Synchronization

/// A participant of one run: it dials the coordinator, trains the rounds that it is given, and comes back by itself
/// after a lost connection or a restart.
///
/// A round that was trained is never trained again: its sealed update is sent, byte for byte, until the coordinator
/// has answered for it.
public struct FederatedClient: Sendable {
  /// Who this client is.
  public let identity: TLSIdentity
  /// The coordinator's address.
  public let host: String
  /// The coordinator's port.
  public let port: Int
  /// Folder below which the state of each run lies.
  public let stateDirectory: URL
  /// What trains.
  public let trainer: any LocalTrainer
  /// How it waits between attempts.
  public let backoff: Backoff
  private let configuration: TransportConfiguration
  private let reload: (@Sendable () async throws -> TLSIdentity)?
  private let logger: Logger
  private let onEvent: @Sendable (ClientEvent) -> Void

  /// Takes everything that a client is made of; nothing happens before `run`.
  /// - Parameters:
  ///   - reload: reads the identity again before each dial, so that a renewed one is used without a restart.
  ///   - onEvent: called from the client's task.
  public init(
    identity: TLSIdentity,
    host: String,
    port: Int,
    stateDirectory: URL,
    trainer: any LocalTrainer,
    backoff: Backoff = Backoff(),
    configuration: TransportConfiguration = TransportConfiguration(),
    reload: (@Sendable () async throws -> TLSIdentity)? = nil,
    logger: Logger = Logger(label: "fedlora.client"),
    onEvent: @escaping @Sendable (ClientEvent) -> Void = { _ in }
  ) {
    self.identity = identity
    self.host = host
    self.port = port
    self.stateDirectory = stateDirectory
    self.trainer = trainer
    self.backoff = backoff
    self.configuration = configuration
    self.reload = reload
    self.logger = logger
    self.onEvent = onEvent
  }

  /// Takes part until the run is over. Cancelling the task ends it cleanly; a later `run` goes on where it stopped.
  /// - Throws: `TransportError` where a certificate is refused on either side, `ClientError`, and what the trainer throws.
  public func run() async throws -> ClientOutcome {
    var identity = identity
    var dialer = try PeerClient(identity: identity, configuration: configuration)
    let name = identity.participant?.rawValue ?? ""
    let log = ClientLog(logger, client: name)
    let onEvent: @Sendable (ClientEvent) -> Void = { [onEvent] event in
      log.report(event)
      onEvent(event)
    }
    let folder = stateDirectory.appendingPathComponent("client-\(name)")
    let lock = try await ClientDesk.crew.perform { try ClientStateFolder.lock(folder) }
    defer { lock.release() }
    var failures = 0
    var traffic = Traffic()
    while true {
      let reason: String
      if let newer = await renewed(identity) {
        identity = newer
        dialer = try PeerClient(identity: identity, configuration: configuration)
      }
      do {
        let session = ClientSession(
          name: identity.participant?.rawValue ?? "",
          stateDirectory: folder,
          trainer: trainer,
          log: log,
          onEvent: onEvent
        )
        let connection = try await dialer.connect(host: host, port: port)
        onEvent(.connected(address: connection.remoteAddress))
        let result = await FederatedClient.use(connection) { try await session.run($0) }
        traffic = Traffic(
          sent: traffic.sent + connection.traffic.sent,
          received: traffic.received + connection.traffic.received
        )
        switch try result.get() {
        case .over(let end):
          onEvent(.finished(end.ending))
          return ClientOutcome(
            ending: end.ending,
            manifest: end.manifest,
            finalState: end.finalState,
            personal: end.personal,
            roundsTrained: end.roundsTrained,
            traffic: traffic
          )
        case .lost(let why, let madeProgress, let comeBackAfter):
          if madeProgress { failures = 0 }
          if let comeBackAfter {
            onEvent(.disconnected(reason: why, retryIn: comeBackAfter))
            try await Task.sleep(for: comeBackAfter)
            continue
          }
          reason = why
        }
      } catch let error as TransportError {
        if case .peerReported("replaced", _) = error {
          // Two processes with one certificate would take the run from each other for ever.
          throw ClientError.replaced(name: identity.participant?.rawValue ?? "")
        }
        if !FederatedClient.isWorthAnotherTry(error), await renewed(identity) == nil { throw error }
        reason = error.description
      }
      try Task.checkCancellation()
      failures += 1
      if let limit = backoff.attempts, failures >= limit {
        throw ClientError.unreachable(attempts: failures, last: reason)
      }
      let delay = backoff.delay(afterFailure: failures, jitter: Double.random(in: 0..<1))
      onEvent(.disconnected(reason: reason, retryIn: delay))
      try await Task.sleep(for: delay)
    }
  }

  /// The identity that lies there now, where it is another than `present`. One that cannot be read is no reason to stop.
  private func renewed(_ present: TLSIdentity) async -> TLSIdentity? {
    guard let reload, let identity = try? await reload(), identity.participant == present.participant else {
      return nil
    }
    return identity.serial == present.serial ? nil : identity
  }

  /// Runs `body` and closes the connection whatever happens.
  private static func use<T: Sendable>(
    _ connection: PeerConnection,
    _ body: @Sendable (PeerConnection) async throws -> T
  ) async -> Result<T, any Error> {
    let result: Result<T, any Error>
    do { result = .success(try await body(connection)) } catch { result = .failure(error) }
    await connection.close()
    return result
  }

  /// A refused certificate stays refused; everything else may pass.
  private static func isWorthAnotherTry(_ error: TransportError) -> Bool {
    switch error {
    // Who was killed, or is overloaded, in the middle of a handshake has not shown anything wrong.
    case .untrustedPeer(_, let code, _): [.handshakeCut, .handshakeTimeout].contains(code)
    case .refusedByPeer, .misuse: false
    case .peerReported(let code, _):
      !["name-mismatch", "wrong-version", "wrong-role", .revoked, .expired].contains(code)
    case .cannotConnect, .cannotBind, .violation, .unresponsive, .connectionLost, .closed: true
    }
  }
}
