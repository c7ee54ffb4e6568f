import Dispatch
import Foundation
import Logging

/// Serves an authority's folder to new participants with tokens and to participants that renew, on a port of its own.
///
/// It is the only place that lets somebody without a certificate speak, and it speaks of nothing but certificates. What
/// it shows is a certificate of its own that is made anew every day, never the coordinator's: who has stolen a
/// coordinator's key cannot collect tokens with it.
public final class EnrolmentServer: Sendable {
  /// The port that is served, also where 0 was asked for.
  public var port: Int { server.port }
  /// How many connections and requests were refused so far, by reason.
  public var refusals: [ReasonCode: Int] { server.refusals }

  /// How many connections are open past their handshake.
  package var connectionCount: Int { server.connectionCount }

  private let server: PeerServer
  private let folder: AuthorityFolder
  private let desk: EnrolmentDesk
  private let logger: Logger
  private let queue = DispatchQueue(label: "fedlora.enrolment")

  private static let certificateDays = 2.0

  private init(server: PeerServer, folder: AuthorityFolder, desk: EnrolmentDesk, logger: Logger) {
    self.server = server
    self.folder = folder
    self.desk = desk
    self.logger = logger
  }

  /// Listens; requests are answered once `run` is called.
  /// - Parameters:
  ///   - port: 0 takes a free one.
  ///   - onRefusal: called for what is refused, at a bounded rate.
  /// - Throws: `TransportError.cannotBind`, `IdentityError`.
  public static func bind(
    _ folder: AuthorityFolder,
    host: String,
    port: Int,
    logger: Logger = Logger(label: "fedlora.enrolment"),
    onRefusal: @escaping @Sendable (RefusedPeer) -> Void = { _ in }
  ) async throws -> EnrolmentServer {
    try await bind(folder, host: host, port: port, limiter: AttemptLimiter(), logger: logger, onRefusal: onRefusal)
  }

  /// With limits and bounds of the caller's.
  package static func bind(
    _ folder: AuthorityFolder,
    host: String,
    port: Int,
    limiter: AttemptLimiter,
    configuration: TransportConfiguration = EnrolmentServer.bounds,
    logger: Logger,
    onRefusal: @escaping @Sendable (RefusedPeer) -> Void
  ) async throws -> EnrolmentServer {
    let server = try await PeerServer.bind(
      host: host,
      port: port,
      identity: try identity(folder),
      callers: .anybody,
      configuration: configuration,
      logger: logger,
      onRefusal: onRefusal
    )
    return EnrolmentServer(
      server: server,
      folder: folder,
      desk: EnrolmentDesk(folder: folder, limiter: limiter, logger: logger),
      logger: logger
    )
  }

  /// Everything here happens before anybody is known, so little is enough: nothing is ever admitted beyond the limits
  /// that hold before Hello.
  package static var bounds: TransportConfiguration {
    var configuration = TransportConfiguration()
    configuration.maximumFrameLength = configuration.maximumFrameLengthBeforeHello
    // A request and the answer to the greeting.
    configuration.maximumFramesBeforeHello = 4
    configuration.maximumConnections = 64
    configuration.maximumConnectionsPerNetwork = 32
    configuration.maximumPendingHandshakes = 64
    configuration.maximumPendingHandshakesPerNetwork = 16
    return configuration
  }

  /// Serves until the task is cancelled.
  public func run() async {
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await self.server.run { await self.serve($0) } }
      group.addTask { await self.refresh() }
      await group.next()
      group.cancelAll()
    }
  }

  /// Stops listening; `run` returns once the requests that are being answered are.
  public func shutdown() { server.shutdown() }

  private func serve(_ connection: PeerConnection) async {
    do {
      guard let inbound = try await connection.receive() else { return }
      let caller = EnrolmentDesk.Caller(connection)
      let answer = try await onQueue { try self.desk.answer(inbound.envelope, of: caller, at: Date()) }
      try await connection.send(WireEnvelope(.enrolmentAnswer(answer)))
      // The other side closes; where it does not, the time for Hello ends the connection.
      _ = try await connection.receive()
    } catch let refusal as EnrolmentRefusal {
      server.noteRefusal(of: connection, code: refusal.code, text: refusal.text)
      await connection.close(code: refusal.code, text: refusal.text)
    } catch TransportError.violation(let code, let text) {
      server.noteRefusal(of: connection, code: code, text: text)
    } catch {
      logger.debug("enrolment connection ended", metadata: ["reason": .string("\(error)")])
    }
  }

  /// Keeps the own certificate young and the revocation list new.
  private func refresh() async {
    var told: String?
    while !Task.isCancelled {
      try? await Task.sleep(for: .seconds(2))
      do {
        try await onQueue {
          let isOld = self.server.identity.expiry.daysLeft() < Self.certificateDays / 2
          var identity = isOld ? try Self.identity(self.folder) : self.server.identity
          identity.revocations = try self.folder.revocations()
          let isNewer = (identity.revocations?.number ?? 0) > (self.server.identity.revocations?.number ?? 0)
          if isOld || isNewer { try self.server.replaceIdentity(identity) }
        }
        told = nil
      } catch {
        let reason = "\(error)"
        if reason != told {
          logger.warning("the authority's folder cannot be read", metadata: ["reason": .string(reason)])
        }
        told = reason
      }
      server.sweep()
    }
  }

  private static func identity(_ folder: AuthorityFolder) throws -> TLSIdentity {
    var identity = try folder.authority.issueEnrolmentService(validity: .days(certificateDays))
    identity.revocations = try folder.revocations()
    return identity
  }

  /// Files are read and locks are waited for on a thread of its own, one request after the other.
  private func onQueue<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      queue.async { continuation.resume(with: Result(catching: body)) }
    }
  }
}
