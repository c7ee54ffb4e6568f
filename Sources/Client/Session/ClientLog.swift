import Logging
import Synchronization

/// A client's logger: every line has the client's name and, from the moment that it is known, the run.
final class ClientLog: Sendable {
  private let state: Mutex<Logger>

  init(_ logger: Logger, client name: String) {
    var logger = logger
    logger[metadataKey: "client"] = .string(name)
    state = Mutex(logger)
  }

  var logger: Logger { state.withLock { $0 } }

  /// Logs what the client reports, with the round where it is known.
  func report(_ event: ClientEvent) {
    if case .accepted(let run) = event { state.withLock { $0[metadataKey: "run"] = .string(run) } }
    let logger = logger
    func fields(_ round: Int, _ more: Logger.Metadata = [:]) -> Logger.Metadata {
      more.merging(["round": .stringConvertible(round)]) { $1 }
    }
    switch event {
    case .connected(let address): logger.info("connected", metadata: ["peer": .string(address)])
    case .disconnected(let reason, let delay):
      logger.info("connection lost", metadata: ["reason": .string(reason), "retry_in": .string("\(delay)")])
    case .accepted: logger.notice("joined the run")
    case .roundStarted(let round): logger.info("round started", metadata: fields(round))
    case .trained(let round, _): logger.info("round trained", metadata: fields(round))
    case .acknowledged(let round, let status, let reason):
      logger.info("update answered", metadata: fields(round, ["status": .string(status), "reason": .string(reason)]))
    case .waiting(let reason): logger.info("waiting", metadata: ["reason": .string(reason)])
    case .finished(let ending): logger.notice("run over", metadata: ["ending": .string("\(ending)")])
    }
  }
}
