import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAFederation

/// A run's records with the promises watching, and with planted faults where there are some.
final class CheckedRecords: RunRecords {
  private let store: RunStore
  private let promises: Promises
  private let planted: PlantedFault?
  private unowned let world: FaultWorld
  /// With `chargesRoundOnce`: whether the open round was charged before the last crash.
  private var wasCharged = false
  private var comesBack = false
  private var lateCharge: Int?
  /// A write that was put off.
  private var later: (() throws -> Void)?
  private var uncommitted: (round: Int, state: TensorSet)?
  /// Commits of the open group; nil where none is open.
  private var group: [Promises.Commit]?

  init(_ store: RunStore, _ world: FaultWorld) {
    self.store = store
    self.world = world
    promises = world.promises
    planted = world.planted
  }

  func together(_ body: () -> Void) throws {
    group = []
    let result = Result { try store.together(body) }
    let commits = group ?? []
    group = nil
    switch result {
    case .success: for commit in commits { promises.committed(commit) }
    case .failure(let error):
      // They may be durable all the same: the machine went down before it could say so.
      promises.mayHaveCommitted(commits)
      throw error
    }
  }

  private func catchUp() throws {
    let work = later
    later = nil
    uncommitted = nil
    try work?()
  }

  func recover(isBuffered: Bool) throws -> RecoveredRun {
    var recovered = try store.recover(isBuffered: isBuffered)
    if planted == .forgetsCommit, recovered.lastCommittedRound > 0 {
      recovered = RecoveredRun(
        lastCommittedRound: recovered.lastCommittedRound - 1,
        lastContributions: [],
        attempt: 0,
        members: [:],
        outcome: nil,
        roster: recovered.roster,
        known: recovered.known
      )
    }
    comesBack = recovered.attempt > 0 || recovered.lastCommittedRound > 0
    if promises.secrets != nil {
      let charges = try store.chargedReleases()
      promises.recovered(charges: charges)
      wasCharged = charges > recovered.lastCommittedRound
    }
    try promises.recovered(recovered) { try store.state(afterRound: recovered.lastCommittedRound) }
    // What is found here is right; what is made of it is not.
    if planted == .redrawsCohort {
      recovered = RecoveredRun(
        lastCommittedRound: recovered.lastCommittedRound,
        lastContributions: recovered.lastContributions,
        attempt: 0,
        members: [:],
        outcome: recovered.outcome,
        roster: recovered.roster,
        known: recovered.known
      )
    }
    return recovered
  }

  func openAttempt(round: Int, attempt: Int, cohort: [String]) throws {
    try catchUp()
    try store.openAttempt(round: round, attempt: attempt, cohort: cohort)
    promises.draws(cohort, round: round)
  }

  func setRoster(name: String, isReady: Bool) throws { try store.setRoster(name: name, isReady: isReady) }

  func retire(name: String, code: String) throws { try store.retire(name: name, code: code) }

  func sendAway(name: String, round: Int, code: String, reason: String, discards: Bool) throws {
    // Before, since it may be durable although the machine goes down in between.
    if discards { promises.removed(name, round: round) }
    try store.sendAway(name: name, round: round, code: code, reason: reason, discards: discards)
  }

  func record(name: String, round: Int, code: String, reason: String) throws {
    try store.record(name: name, round: round, code: code, reason: reason)
  }

  func storeUpdate(
    round: Int,
    name: String,
    examples: Int,
    metrics: [String: Double],
    digest: String,
    tensors: TensorSet,
    start: Int?
  ) throws -> StoredUpdate {
    try catchUp()
    let write = { [store] in
      try store.storeUpdate(
        round: round,
        name: name,
        examples: examples,
        metrics: metrics,
        digest: digest,
        tensors: tensors,
        start: start
      )
    }
    guard planted == .acknowledgesEarly else { return try write() }
    later = { _ = try write() }
    return .stored
  }

  func metrics(round: Int) throws -> [String: [String: Double]] { try store.metrics(round: round) }

  func aggregate(
    round: Int,
    contributions: [Contribution],
    strategy: Strategy,
    weighting: Weighting
  ) throws -> TensorSet {
    try catchUp()
    world.commitBegins()
    var counted = faulty(contributions)
    if planted == .countsTwice, let first = counted.first, counted.count > 1 { counted.append(first) }
    return try store.aggregate(round: round, contributions: counted, strategy: strategy, weighting: weighting)
  }

  func aggregateBuffered(
    round: Int,
    contributions: [Contribution],
    strategy: Strategy,
    weighting: Weighting,
    terms: BufferTerms
  ) throws -> TensorSet {
    try catchUp()
    world.commitBegins()
    var counted = faulty(contributions)
    if planted == .countsTwice, let first = counted.first, counted.count > 1 { counted.append(first) }
    return try store.aggregateBuffered(
      round: round,
      contributions: counted,
      strategy: strategy,
      weighting: weighting,
      terms: planted == .forgetsStaleness ? BufferTerms(size: terms.size, exponent: 0) : terms
    )
  }

  func aggregateRobustly(
    round: Int,
    contributions: [Contribution],
    strategy: Strategy,
    rule: RobustRule
  ) throws -> RunStore.RobustRound {
    try catchUp()
    world.commitBegins()
    return try store.aggregateRobustly(
      round: round,
      contributions: faulty(contributions),
      strategy: strategy,
      // So high a bound makes it the mean.
      rule: planted == .forgetsRule && comesBack ? RobustRule(.normBound(.stated(1e9)), byzantine: 1) : rule
    )
  }

  private func faulty(_ contributions: [Contribution]) -> [Contribution] {
    planted == .dropsAccepted && contributions.count > 1 ? Array(contributions.dropLast()) : contributions
  }

  func releasePrivately(
    round: Int,
    contributions: [Contribution],
    strategy: Strategy,
    terms: ClientLevelPrivacy
  ) throws -> RunStore.PrivateOutcome {
    try catchUp()
    let counted = faulty(contributions)
    let left = try world.storeAfterTheWorst()
    promises.draws(noiseOf: round, durable: try left.chargedReleases())
    left.close()
    let outcome = try store.releasePrivately(
      round: round,
      contributions: counted,
      strategy: strategy,
      terms: planted == .forgetsNoise ? try terms.withoutNoise() : terms
    )
    promises.released(
      round: round,
      contributions: contributions,
      outcome: outcome,
      strategy: strategy,
      terms: terms
    )
    return outcome
  }

  func chargeRelease(round: Int) throws {
    world.commitBegins()
    promises.charges()
    if planted == .chargesRoundOnce, wasCharged {
      wasCharged = false
      return
    }
    guard planted == .chargesReleaseLate else { return try store.chargeRelease(round: round) }
    lateCharge = round
  }

  func chargedReleases() throws -> Int { try store.chargedReleases() }

  func commit(
    round: Int,
    contributions: [Contribution],
    counts: [String: Int],
    state: TensorSet,
    nextClippingNorm: Double?
  ) throws {
    let contributions = faulty(contributions)
    let write = { [self] in
      try store.commit(
        round: round,
        contributions: contributions,
        counts: counts,
        state: state,
        nextClippingNorm: nextClippingNorm
      )
      let commit = Promises.Commit(round: round, contributions: contributions, state: state)
      if group == nil { promises.committed(commit) } else { group?.append(commit) }
      if let round = lateCharge { try store.chargeRelease(round: round) }
      lateCharge = nil
    }
    guard planted == .sendsUncommitted else { return try write() }
    later = write
    uncommitted = (round, state)
  }

  func lastCommittedRound() throws -> Int { try store.lastCommittedRound() }

  func state(afterRound round: Int) throws -> TensorSet {
    if let uncommitted, uncommitted.round == round { return uncommitted.state }
    return try store.state(afterRound: round)
  }

  func finish(_ outcome: RunOutcome) throws {
    try catchUp()
    try store.finish(outcome)
  }

  func close() { store.close() }
}

extension ClientLevelPrivacy {
  /// The same terms without what they are for.
  fileprivate func withoutNoise() throws -> ClientLevelPrivacy {
    try ClientLevelPrivacy(
      relation: relation,
      sampling: sampling,
      population: population,
      clippingNorm: clippingNorm,
      noiseMultiplier: 0,
      divisor: divisor,
      epsilon: .infinity,
      delta: delta,
      adaptiveClipping: adaptiveClipping,
      weighting: weighting,
      seed: seed
    )
  }
}
