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
