import FedLoRAFederation

/// How many clients a run waits for, asks and needs, and how long a round may take.
public struct RoundPolicy: Sendable, Equatable {
  /// Rounds of the whole run.
  public let rounds: Int
  /// Clients that must be ready before round 1 starts.
  public let minClients: Int
  /// Clients that are asked in each round, or all that are ready where there are fewer. In an asynchronous run: clients that are
  /// at work at the same time.
  public let clientsPerRound: Int
  /// Updates without which a round is not committed.
  public let quorum: Int
  /// How long one attempt at a round stays open.
  public let deadline: Duration
  /// Attempts at one round before the run fails.
  public let maxAttempts: Int
  /// Clients that are asked in each round beyond `clientsPerRound`. The round is then closed as soon as it has
  /// `clientsPerRound` updates, without those who are slowest.
  public let overSelected: Int
  /// How much later than its deadline a round may close while updates are still arriving: a client that is sending is no
  /// straggler.
  public let uploadGrace: Duration
  /// Idle clients beyond so many are asked to come back later; 0 lets all stay connected.
  public let mostConnected: Int
  /// How the cohort of a round comes about.
  public let draw: CohortDraw
  /// Nil where rounds are synchronous; else how updates of any age fill the rounds.
  public let buffer: BufferTerms?

  /// - Throws: `RoundPolicyError` or `BufferTermError` naming the first setting that makes no sense.
  public init(
    rounds: Int,
    minClients: Int,
    clientsPerRound: Int,
    quorum: Int,
    deadline: Duration,
    maxAttempts: Int = 3,
    overSelected: Int = 0,
    uploadGrace: Duration = .zero,
    mostConnected: Int = 0,
    draw: CohortDraw = .seeded(.random),
    buffer: BufferTerms? = nil
  ) throws {
    for (name, value) in [
      ("rounds", rounds), ("min_clients", minClients), ("clients_per_round", clientsPerRound), ("quorum", quorum),
      ("max_attempts", maxAttempts),
    ] where value < 1 {
      throw RoundPolicyError.tooSmall(setting: name, value: value)
    }
    if let buffer {
      try buffer.check(quorum: quorum, overSelected: overSelected)
      guard !draw.isSecret else { throw BufferTermError.privateRelease }
    }
    guard buffer != nil || quorum <= clientsPerRound else {
      throw RoundPolicyError.quorumUnreachable(quorum: quorum, setting: "clients_per_round", value: clientsPerRound)
    }
    guard quorum <= minClients else {
      throw RoundPolicyError.quorumUnreachable(quorum: quorum, setting: "min_clients", value: minClients)
    }
    guard deadline > .zero else { throw RoundPolicyError.deadlineNotPositive }
    guard overSelected >= 0 else { throw RoundPolicyError.negative(setting: "over_selected") }
    guard uploadGrace >= .zero else { throw RoundPolicyError.negative(setting: "upload_grace_seconds") }
    guard mostConnected >= 0 else { throw RoundPolicyError.negative(setting: "most_connected") }
    let needed = max(minClients, clientsPerRound + overSelected)
    guard mostConnected == 0 || mostConnected >= needed else {
      throw RoundPolicyError.tooFewConnected(value: mostConnected, needed: needed)
    }
    // Which of those who are asked are fast enough would then decide about who is in the release.
    guard overSelected == 0 || !draw.isSecret else { throw RoundPolicyError.overSelectedSecretly }
    self.rounds = rounds
    self.minClients = minClients
    self.clientsPerRound = clientsPerRound
    self.quorum = quorum
    self.deadline = deadline
    self.maxAttempts = maxAttempts
    self.overSelected = overSelected
    self.uploadGrace = uploadGrace
    self.mostConnected = mostConnected
    self.draw = draw
    self.buffer = buffer
  }
}

/// How the cohort of a round comes about.
public enum CohortDraw: Sendable, Equatable {
  /// Among the clients that are ready, by `CohortSelection` with the run's seed.
  case seeded(SelectionRule)
  /// Among the first `population` clients that were ever ready, present or not, from randomness that only the driver
  /// has. With `needsAll` no cohort is drawn before there are that many.
  case secret(population: Int, needsAll: Bool)

  /// Whether the driver draws.
  public var isSecret: Bool { if case .secret = self { true } else { false } }
}

/// Why a round policy was refused.
public enum RoundPolicyError: Error, Equatable, CustomStringConvertible {
  /// A count is below 1.
  case tooSmall(setting: String, value: Int)
  /// The quorum is more than the clients that there may be.
  case quorumUnreachable(quorum: Int, setting: String, value: Int)
  /// The deadline is zero or negative.
  case deadlineNotPositive
  /// Fewer clients may be connected than a round needs.
  case tooFewConnected(value: Int, needed: Int)
  /// A count or a time is below zero.
  case negative(setting: String)
  /// More clients are asked than are needed, in a run whose cohorts are secret.
  case overSelectedSecretly

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .tooSmall(let setting, let value): "cohort: \(setting) is \(value), expected at least 1"
    case .quorumUnreachable(let quorum, let setting, let value):
      "cohort: quorum \(quorum) is above \(setting) \(value); lower the quorum or raise \(setting)"
    case .deadlineNotPositive: "cohort: the deadline must be longer than zero"
    case .tooFewConnected(let value, let needed):
      "cohort: most_connected is \(value), but min_clients and the clients that a round asks need \(needed); raise it, or "
        + "set 0 for no bound"
    case .negative(let setting): "cohort: \(setting) is below 0; leave it out, or give 0 or more"
    case .overSelectedSecretly:
      "cohort: over_selected is for runs whose cohorts are public; where clients are the unit of privacy everybody who is "
        + "drawn counts, or the stated sampling would not be true"
    }
  }
}
