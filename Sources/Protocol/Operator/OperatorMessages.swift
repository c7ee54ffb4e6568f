import Foundation

/// What an operator asks a coordinator on its local socket: one JSON object on one line.
public struct OperatorRequest: Codable, Sendable, Equatable {
  /// What is asked.
  public enum Verb: String, Codable, Sendable, CaseIterable {
    /// How the run stands.
    case status
    /// Finish the open round, then stop; the run can be resumed.
    case stop
    /// End the run for good.
    case abort
    /// Ask `client` for no further round.
    case drain
    /// Take `client`, and its update of the open round, out of the run.
    case remove
    /// Read the coordinator's identity folder now: certificate, key and revocation list.
    case reload
  }

  /// What is asked.
  public let verb: Verb
  /// Why; kept in the run's log.
  public let reason: String

  /// Whom it is about, with `drain` and `remove`.
  public let client: String?

  /// Asks.
  public init(_ verb: Verb, reason: String = "", client: String? = nil) {
    self.verb = verb
    self.reason = reason
    self.client = client
  }
}

/// How a run stands inside the coordinator that serves it.
public struct LiveStatus: Codable, Sendable, Equatable {
  /// `waiting`, `drawing`, `open`, `committing` or `finished`.
  public var phase: String
  /// The round that is waited for, open or being committed.
  public var round: Int
  /// The attempt at it, from 1; 0 before the first.
  public var attempt: Int
  /// Connected clients that accepted the terms, in ascending order.
  public var ready: [String]
  /// What became of each client of the round: `training`, `lost`, `declined`, `refused` or `accepted`.
  public var members: [String: String]
  /// Seconds until the attempt's deadline; nil where none is armed.
  public var deadlineSeconds: Double?
  /// Whether the run stops after this round.
  public var isStopping: Bool
  /// Bytes of frames sent in this process.
  public var bytesSent: Int
  /// Bytes of frames received in this process.
  public var bytesReceived: Int
  /// Days until the coordinator's certificate ends; nil where the answer does not say.
  public var certificateDaysLeft: Double?

  enum CodingKeys: String, CodingKey {
    case phase, round, attempt, ready, members
    case deadlineSeconds = "deadline_seconds"
    case isStopping = "stopping"
    case bytesSent = "bytes_sent"
    case bytesReceived = "bytes_received"
    case certificateDaysLeft = "certificate_days_left"
  }

  /// Takes all parts.
  public init(
    phase: String,
    round: Int,
    attempt: Int,
    ready: [String],
    members: [String: String],
    deadlineSeconds: Double?,
    isStopping: Bool,
    bytesSent: Int,
    bytesReceived: Int
  ) {
    self.phase = phase
    self.round = round
    self.attempt = attempt
    self.ready = ready
    self.members = members
    self.deadlineSeconds = deadlineSeconds
    self.isStopping = isStopping
    self.bytesSent = bytesSent
    self.bytesReceived = bytesReceived
  }
}

/// A coordinator's answer, one JSON object on one line.
public struct OperatorReply: Codable, Sendable, Equatable {
  /// What will happen, or what was wrong with the request.
  public var message: String
  /// Whether the request was understood and will be done.
  public var isAccepted: Bool
  /// How the run stood when the request was heard.
  public var status: LiveStatus?

  enum CodingKeys: String, CodingKey {
    case message, status
    case isAccepted = "accepted"
  }

  /// Answers.
  public init(message: String, isAccepted: Bool = true, status: LiveStatus?) {
    self.message = message
    self.isAccepted = isAccepted
    self.status = status
  }
}
