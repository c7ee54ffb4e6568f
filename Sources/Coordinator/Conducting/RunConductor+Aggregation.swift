import FedLoRACheckpoint
import FedLoRAFederation

/// How the updates of a round become the next state where clients are not the unit of privacy.
extension RunConductor {
  /// Combines the stored updates by the run's rule, and reports what it did and how long it took.
  func aggregated(round: Int, contributions: [Contribution]) throws -> TensorSet {
    let start = outlet.now
    let state: TensorSet
    var (leftOut, scaledDown): ([String], [String]) = ([], [])
    switch (run.aggregation, run.policy.buffer) {
    case (.mean, let terms?):
      state = try records.aggregateBuffered(
        round: round,
        contributions: contributions,
        strategy: run.strategy,
        weighting: run.weighting,
        terms: terms
      )
    case (.mean, nil):
      state = try records.aggregate(
        round: round,
        contributions: contributions,
        strategy: run.strategy,
        weighting: run.weighting
      )
    case (.robust(let rule), _):
      let outcome = try records.aggregateRobustly(
        round: round,
        contributions: contributions,
        strategy: run.strategy,
        rule: rule
      )
      (state, leftOut, scaledDown) = (outcome.state, outcome.leftOut, outcome.scaledDown)
    }
    outlet.report(
      .aggregated(
        round: round,
        rule: run.aggregation.name,
        updates: contributions.count,
        leftOut: leftOut,
        scaledDown: scaledDown,
        seconds: (outlet.now.sinceOrigin - start.sinceOrigin).inSeconds
      )
    )
    return state
  }
}
