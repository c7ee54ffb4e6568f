import FedLoRACheckpoint
import FedLoRAProtocol

/// What a client reports while it takes part.
public enum ClientEvent: Sendable {
  /// A connection stands and is authenticated on both sides.
  case connected(address: String)
  /// The connection could not be made or broke.
  case disconnected(reason: String, retryIn: Duration)
  /// The manifest was checked and accepted.
  case accepted(runID: String)
  /// A round was received.
  case roundStarted(Int)
  /// The round's local steps are done and sealed on disk.
  case trained(round: Int, metrics: [String: Double])
  /// The coordinator said what became of an update: `accepted`, `duplicate`, `late` or `refused`.
  case acknowledged(round: Int, status: String, reason: String)
  /// There is nothing to do for now.
  case waiting(reason: String)
  /// The run is over for this client.
  case finished(ClientOutcome.Ending)
}

/// How a run ended for this client.
public struct ClientOutcome: Sendable {
  /// The way it ended.
  public enum Ending: Sendable, Equatable {
    /// All rounds were committed.
    case completed
    /// The coordinator gave the run up.
    case failed(String)
    /// The run was stopped by its operator.
    case stopped(String)
    /// This client does not take part.
    case declined(code: String, reason: String)
  }

  /// The way it ended.
  public let ending: Ending
  /// The run's terms, where they were received.
  public let manifest: WireRunManifest?
  /// The last shared tensors, where the run completed.
  public let finalState: TensorSet?
  /// This client's own tensors.
  public let personal: TensorSet
  /// Rounds that this client has trained, over all restarts.
  public let roundsTrained: Int
  /// Bytes of frames over all connections of this call.
  public let traffic: Traffic
}

/// A client cannot go on.
public enum ClientError: Error, Equatable, CustomStringConvertible {
  /// The coordinator answered with something else than the protocol asks for.
  case unexpectedMessage(found: String, expected: String)
  /// The manifest's bytes do not have the hash that came with them.
  case corruptManifest
  /// The coordinator was not reached.
  case unreachable(attempts: Int, last: String)
  /// Another process connected with this client's certificate.
  case replaced(name: String)
  /// Another process uses the state folder.
  case stateInUse(path: String)
  /// The state folder holds something that this client did not write.
  case corruptState(path: String, reason: String)

  /// What was wrong and what to do.
  public var description: String {
    switch self {
    case .unexpectedMessage(let found, let expected): "the coordinator sent \(found) where \(expected) was due"
    case .corruptManifest: "the run's manifest does not have the hash that the coordinator sent with it"
    case .unreachable(let attempts, let last): "gave up after \(attempts) attempts to reach the coordinator: \(last)"
    case .replaced(let name):
      "another client connected as '\(name)' and took this one's place; run one client for each certificate"
    case .stateInUse(let path):
      "\(path) is used by another client that runs now; stop that one, or give this one a state folder of its own"
    case .corruptState(let path, let reason):
      "\(path): \(reason); the folder was written by something else, or is damaged: move it away to start afresh"
    }
  }
}
