import FedLoRACheckpoint
import FedLoRAFederation

extension RunStore {
  /// What a robust rule made of a round.
  public struct RobustRound: Sendable {
    /// The state of the next round.
    public let state: TensorSet
    /// Clients whose update had no part in it.
    public let leftOut: [String]
    /// Clients whose update was scaled down.
    public let scaledDown: [String]
  }

  /// The state of the next round from the stored updates of this one by a robust rule.
  ///
  /// The updates' files are mapped and walked block by block: memory does not grow with their number but for one block of
  /// each. The result does not depend on the order of `contributions`.
  /// - Throws: `RobustAggregationError`, `LayoutError`, `RefactorisationError`, or an error of a file.
  public func aggregateRobustly(
    round: Int,
    contributions: [Contribution],
    strategy: Strategy,
    rule: RobustRule
  ) throws -> RobustRound {
    let previous = try state(afterRound: round - 1)
    let sent = previous.filter(strategy.isUploaded)
    let rows = try contributions.map { contribution in
      let floats = try MappedFloats(opening: files.update(round: round, name: contribution.name), like: sent, on: disk)
      return UpdateRow(name: contribution.name, count: floats.count) { floats.copy($0, to: $1) }
    }
    let outcome = try rule.combine(rows, start: sent)
    return RobustRound(
      state: try strategy.nextState(round: round, previous: previous, mean: outcome.tensors),
      leftOut: outcome.leftOut,
      scaledDown: outcome.scaledDown
    )
  }
}
