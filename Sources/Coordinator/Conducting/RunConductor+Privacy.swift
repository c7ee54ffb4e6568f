import FedLoRACheckpoint
import FedLoRADP
import Logging

/// The steps of a run in which clients are the unit of privacy: the secret draw, the budget, the noised state.
extension RunConductor {
  /// What a commit makes durable.
  struct NextState {
    let state: TensorSet
    /// The clipping norm of the next round, where it adapts.
    let clippingNorm: Double?
  }

  /// Draws a round's cohort, or says that the budget allows no further round.
  ///
  /// Each draw has a root of its own and is used once: the state machine makes it durable before anybody is asked.
  func drawCohort(round: Int, from names: [String]) throws -> RunEvent {
    guard let account else { throw CoordinatorError.badManifest("no private draw of clients is configured") }
    if let reason = try account.refusal(after: records.chargedReleases()) { return .budgetSpent(reason: reason) }
    var stream = account.terms.randomness("cohort", round: round).stream("cohort", step: 0)
    let drawn: [Int] =
      switch account.terms.sampling {
      case .poisson(let rate): try PoissonSampler(rate: rate).draw(count: names.count, from: &stream)
      case .fixedSize(let cohort, _): try FixedSizeSampler(size: cohort, count: names.count).draw(from: &stream)
      }
    return .cohortDrawn(round: round, cohort: drawn.map { names[$0] })
  }

  /// The state after a round. A private one is charged first; nil where the budget does not allow that, which happens
  /// only after a crash between a charge and its commit.
  func nextState(round: Int, contributions: [Contribution]) throws -> NextState? {
    guard let account else {
      return NextState(state: try aggregated(round: round, contributions: contributions), clippingNorm: nil)
    }
    guard try account.refusal(after: records.chargedReleases()) == nil else { return nil }
    try records.chargeRelease(round: round)
    let outcome = try records.releasePrivately(
      round: round,
      contributions: contributions,
      strategy: run.strategy,
      terms: account.terms
    )
    if outcome.discarded > 0 {
      logger.warning(
        "updates counted as zero",
        metadata: ["round": .stringConvertible(round), "updates": .stringConvertible(outcome.discarded)]
      )
    }
    return NextState(
      state: outcome.state,
      clippingNorm: account.terms.adaptiveClipping == nil ? nil : outcome.clippingNorm
    )
  }

  /// What was charged so far; nil where clients are not the unit of privacy.
  func privacySpent() throws -> PrivacySpent? { try account?.spent(releases: records.chargedReleases()) }
}
