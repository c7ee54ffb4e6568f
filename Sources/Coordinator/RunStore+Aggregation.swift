import FedLoRACheckpoint
import FedLoRAFederation

extension RunStore {
  /// The state of the next round from the stored updates of this one.
  ///
  /// One update is in memory at a time, beside the sum and the state. The result does not depend on the order of
  /// `contributions`.
  /// - Throws: `LayoutError`, `SumError`, `RefactorisationError`, or an error of a file.
  public func aggregate(
    round: Int,
    contributions: [Contribution],
    strategy: Strategy,
    weighting: Weighting
  ) throws -> TensorSet {
    let previous = try state(afterRound: round - 1)
    var sum = ExactSum(layout: strategy.uploadLayout(state: previous))
    for contribution in contributions {
      try sum.fold(
        update(round: round, name: contribution.name),
        weight: weighting.weight(examples: contribution.examples)
      )
    }
    return try strategy.nextState(round: round, previous: previous, mean: sum.mean())
  }
}

extension RunStore {
  /// What a private release of a round comes to.
  public struct PrivateOutcome: Sendable {
    /// The state of the next round.
    public let state: TensorSet
    /// The clipping norm of the next round.
    public let clippingNorm: Double
    /// How many stored updates could not be used and counted as zero.
    public let discarded: Int
  }

  /// The state of the next round from a private release of the stored updates of this one; also of none.
  ///
  /// Every call draws fresh noise (but for seeded terms), so what an earlier call returned must never have been sent, and
  /// each is to be charged before (`chargeRelease`). One update is in memory at a time.
  /// - Throws: `LayoutError`, `PrivateSumError`, `RefactorisationError`, `PrivacyParameterError`, or an error of a file.
  public func releasePrivately(
    round: Int,
    contributions: [Contribution],
    strategy: Strategy,
    terms: ClientLevelPrivacy
  ) throws -> PrivateOutcome {
    let previous = try state(afterRound: round - 1)
    let sent = previous.filter(strategy.isUploaded)
    var release = try PrivateRelease(
      terms: terms,
      layout: strategy.uploadLayout(state: previous),
      clippingNorm: try clippingNorm(round: round) ?? terms.clippingNorm
    )
    for contribution in contributions {
      try release.fold(
        update(round: round, name: contribution.name),
        sent: sent,
        examples: contribution.examples
      )
    }
    let discarded = release.discardedCount
    let outcome = release.release(round: round)
    // From here on everything is post-processing.
    let mean = try PrivateSum.moved(sent, by: outcome.differences)
    return PrivateOutcome(
      state: try strategy.nextState(round: round, previous: previous, mean: mean),
      clippingNorm: outcome.nextClippingNorm,
      discarded: discarded
    )
  }
}
