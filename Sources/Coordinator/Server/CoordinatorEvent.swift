import FedLoRACheckpoint
import FedLoRAFederation
import FedLoRAProtocol

/// What a coordinator reports while it serves.
public enum CoordinatorEvent: Sendable {
  /// A client accepted the manifest; `ready` clients are connected now.
  case clientReady(name: String, ready: Int)
  /// A client's session ended.
  case clientLost(name: String, reason: String)
  /// A connection or a Hello was refused. Where many are refused for one reason, some are counted only; the next reason
  /// says how many.
  case refused(address: String, code: String, reason: String)
  /// Something about the coordinator itself: `identity-reloaded`, `identity-refused`, `certificate-ends` or
  /// `certificate-revoked`.
  case notice(code: String, text: String)
  /// A round was given to these clients.
  case roundOpened(round: Int, attempt: Int, cohort: [String])
  /// In an asynchronous run: the open round was given to these clients too.
  case cohortExtended(round: Int, names: [String])
  /// An update is durable and counts. In an asynchronous run `round` is the one that the client started from.
  case updateAccepted(round: Int, name: String, metrics: [String: Double])
  /// An update was found invalid.
  case updateRefused(round: Int, name: String, code: String, reason: String)
  /// A client does not take part in a round or, with round 0, in the run; the code is the client's.
  case declined(round: Int, name: String, code: String, reason: String)
  /// What became of a client or of its update, where no other event tells it: `lost`, `returned`, `deadline`, `surplus`,
  /// `late`, `duplicate`, `not-assigned`, `drained`, `removed` or `population-full`.
  case clientOutcome(round: Int, name: String, code: String, reason: String)
  /// A round's updates became one; the round is committed next. A robust rule says whose update had no part in it and whose was
  /// scaled down. Not reported where clients are the unit of privacy.
  case aggregated(
    round: Int,
    rule: AggregationName,
    updates: Int,
    leftOut: [String],
    scaledDown: [String],
    seconds: Double
  )
  /// A round is committed. `counts` says how often each reason code was met, `meanLoss` is over the clients that share it.
  /// `epsilon` is what the run has spent so far, where it protects whole clients; who took part, and how many, is then
  /// for the operator alone.
  case roundCommitted(
    round: Int,
    updates: Int,
    counts: [String: Int],
    meanLoss: Double?,
    traffic: Traffic,
    epsilon: Double?
  )
  /// The run is over.
  case finished(RunOutcome)
}

extension CoordinatorEvent {
  /// What is told by the record of what became of a client; nil where another event has told it.
  init?(recorded code: String, round: Int, name: String, reason: String) {
    switch code {
    case ReasonCode.futureRound, ReasonCode.conflict, ReasonCode.removed:
      self = .updateRefused(round: round, name: name, code: code, reason: reason)
    case ReasonCode.lost, ReasonCode.returned, ReasonCode.deadline, ReasonCode.surplus, ReasonCode.late,
      ReasonCode.duplicate, ReasonCode.notAssigned, ReasonCode.populationFull:
      self = .clientOutcome(round: round, name: name, code: code, reason: reason)
    default: return nil
    }
  }
}

/// What a coordinator has when the run is over.
public struct CoordinatorResult: Sendable {
  /// How it ended.
  public let outcome: RunOutcome
  /// The tensors after the last committed round.
  public let finalState: TensorSet
  /// Number of committed rounds, over all restarts.
  public let roundsCommitted: Int
  /// Bytes of frames over all connections of this process.
  public let traffic: Traffic
  /// What the run has spent of its own budget, where it protects whole clients.
  public let privacy: PrivacySpent?
}

/// A coordinator cannot serve a run.
public enum CoordinatorError: Error, Equatable, CustomStringConvertible {
  /// The folder holds a run with other terms.
  case otherRun(directory: String)
  /// The manifest holds a value that this version does not understand.
  case badManifest(String)

  /// What was wrong and what to do.
  public var description: String {
    switch self {
    case .otherRun(let directory):
      "\(directory) holds a run with other terms; a run's terms never change once it has begun. Restore the run file, or "
        + "choose another directory and name for a new run"
    case .badManifest(let reason): "the run cannot be served: \(reason)"
    }
  }
}
