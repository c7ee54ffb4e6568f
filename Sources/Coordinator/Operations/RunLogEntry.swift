import FedLoRAFederation
import FedLoRAProtocol
import Foundation

/// One line of a run's event log.
public struct RunLogEntry: Codable, Sendable, Equatable {
  /// When, in ISO 8601 with milliseconds, UTC.
  public var at: String
  /// The run.
  public var run: String
  /// What happened: `coordinator-started`, `client-ready`, `client-lost`, `refused`, `notice`, `round-opened`,
  /// `update-accepted`, `update-refused`, `declined`, `client-outcome`, `aggregated`, `round-committed` or `finished`.
  public var event: String
  /// The round it concerns.
  public var round: Int?
  /// The attempt at the round.
  public var attempt: Int?
  /// The client it concerns; for connections that were refused before their name was known, the address.
  public var client: String?
  /// Who was asked.
  public var cohort: [String]?
  /// A reason code, or how the run ended.
  public var code: String?
  /// The reason for people.
  public var reason: String?
  /// Clients connected, or updates that count.
  public var count: Int?
  /// How often each reason code was met in the round.
  public var counts: [String: Int]?
  /// What a client measured.
  public var metrics: [String: Double]?
  /// Mean training loss over the clients that share it.
  public var loss: Double?
  /// What the run has spent of its own budget.
  public var epsilon: Double?
  /// How updates become one.
  public var rule: String?
  /// Whose updates had no part in it.
  public var leftOut: [String]?
  /// Whose updates were scaled down.
  public var scaledDown: [String]?
  /// How long it took.
  public var seconds: Double?
  /// Bytes of frames sent by this process.
  public var bytesSent: Int?
  /// Bytes of frames received by this process.
  public var bytesReceived: Int?

  enum CodingKeys: String, CodingKey {
    case at, run, event, round, attempt, client, cohort, code, reason, count, counts, metrics, loss, epsilon
    case rule
    case leftOut = "left_out"
    case scaledDown = "scaled_down"
    case seconds
    case bytesSent = "bytes_sent"
    case bytesReceived = "bytes_received"
  }

  init(at: String, run: String, event: String) {
    self.at = at
    self.run = run
    self.event = event
  }

  /// What a coordinator reported.
  init(_ reported: CoordinatorEvent, at: String, run: String) {
    self.init(at: at, run: run, event: "")
    switch reported {
    case .clientReady(let name, let ready):
      event = "client-ready"
      client = name
      count = ready
    case .clientLost(let name, let reason):
      event = "client-lost"
      client = name
      self.reason = reason
    case .refused(let address, let code, let reason):
      event = "refused"
      client = address
      self.code = code
      self.reason = reason
    case .notice(let code, let text):
      event = "notice"
      self.code = code
      reason = text
    case .roundOpened(let round, let attempt, let cohort):
      event = "round-opened"
      self.round = round
      self.attempt = attempt
      self.cohort = cohort
    case .cohortExtended(let round, let names):
      event = "cohort-extended"
      self.round = round
      cohort = names
    case .updateAccepted(let round, let name, let metrics):
      event = "update-accepted"
      self.round = round
      client = name
      self.metrics = metrics.isEmpty ? nil : metrics
    case .updateRefused(let round, let name, let code, let reason):
      event = "update-refused"
      self.round = round
      client = name
      self.code = code
      self.reason = reason
    case .declined(let round, let name, let code, let reason):
      event = "declined"
      // 0 is the whole run.
      self.round = round == 0 ? nil : round
      client = name
      self.code = code
      self.reason = reason
    case .clientOutcome(let round, let name, let code, let reason):
      event = "client-outcome"
      self.round = round
      client = name
      self.code = code
      self.reason = reason
    case .aggregated(let round, let rule, let updates, let leftOut, let scaledDown, let seconds):
      event = "aggregated"
      self.round = round
      self.rule = rule.rawValue
      count = updates
      self.leftOut = leftOut.isEmpty ? nil : leftOut
      self.scaledDown = scaledDown.isEmpty ? nil : scaledDown
      self.seconds = seconds
    case .roundCommitted(let round, let updates, let counts, let meanLoss, let traffic, let epsilon):
      event = "round-committed"
      self.round = round
      count = updates
      self.counts = counts
      loss = meanLoss
      self.epsilon = epsilon
      bytesSent = traffic.sent
      bytesReceived = traffic.received
    case .finished(let outcome):
      event = "finished"
      (code, reason) = outcome.words
    }
  }

  /// The entry in one line for people.
  public var text: String {
    var parts = [at]
    if let round { parts.append("round \(round)") }
    if let attempt, attempt > 1 { parts.append("attempt \(attempt)") }
    parts.append(event)
    if let client { parts.append(client) }
    if let cohort { parts.append(cohort.isEmpty ? "nobody" : cohort.joined(separator: " ")) }
    if let code { parts.append(code) }
    if let rule { parts.append(rule) }
    if let count { parts.append(event == "client-ready" ? "\(count) ready" : "\(count) updates") }
    if let leftOut { parts.append("without \(leftOut.joined(separator: " "))") }
    if let scaledDown { parts.append("scaled down \(scaledDown.joined(separator: " "))") }
    if let seconds { parts.append(String(format: "%.3f s", seconds)) }
    if let loss { parts.append(String(format: "loss %.4f", loss)) }
    if let epsilon { parts.append(String(format: "epsilon %.4f", epsilon)) }
    if let reason, !reason.isEmpty { parts.append("(\(reason))") }
    return parts.joined(separator: "  ")
  }
}

extension RunOutcome {
  /// The word that is kept for it, and why.
  var words: (word: String, reason: String) {
    switch self {
    case .completed: ("completed", "")
    case .failed(let reason): ("failed", reason)
    case .budgetSpent(let reason): ("budget-spent", reason)
    case .stopped(let reason): ("stopped", reason)
    }
  }
}
