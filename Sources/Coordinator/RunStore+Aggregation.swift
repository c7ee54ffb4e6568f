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

  /// The state of the next round of an asynchronous run from the stored updates of this one; see `BufferedSum`.
  ///
  /// One update and the state that it started from are in memory at a time, beside the sum and the current state.
  /// - Throws: `LayoutError`, `SumError`, or an error of a file.
  public func aggregateBuffered(
    round: Int,
    contributions: [Contribution],
    strategy: Strategy,
    weighting: Weighting,
    terms: BufferTerms
  ) throws -> TensorSet {
    let previous = try state(afterRound: round - 1)
    let current = previous.filter(strategy.isUploaded)
    var sum = BufferedSum(layout: TensorLayout(of: current), terms: terms)
    for (start, started) in Dictionary(grouping: contributions, by: { $0.start ?? round }).sorted(by: {
      $0.key < $1.key
    }) {
      let old = start == round ? current : try state(afterRound: start - 1).filter(strategy.isUploaded)
      for contribution in started {
        try sum.fold(
          update(round: round, name: contribution.name),
          start: old,
          weight: weighting.weight(examples: contribution.examples),
          staleness: round - start
        )
      }
    }
    return try strategy.nextState(round: round, previous: previous, mean: sum.moved(current))
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
