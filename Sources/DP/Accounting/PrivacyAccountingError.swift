/// Steps that cannot be accounted for as asked.
public enum PrivacyAccountingError: Error, Equatable, CustomStringConvertible {
  /// Fixed-size samples under a relation for which nothing is proven about them.
  case fixedSizeNeedsReplaceOne(NeighbouringRelation)
  /// No noise multiplier below the limit reaches this ε.
  case unreachable(epsilon: Double, largestNoiseMultiplier: Double)
  /// What was spent before leaves nothing of the budget.
  case alreadySpent(spent: Double, budget: Double)
  /// A step would take a filter over its budget.
  case overBudget(divergence: Double, budget: Double)

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .fixedSizeNeedsReplaceOne(let relation):
      "samples of a fixed size are accounted for under \(NeighbouringRelation.replaceOne.rawValue) only, not under "
        + "\(relation.rawValue): draw by Poisson sampling or choose the other relation"
    case .unreachable(let epsilon, let largest):
      "epsilon \(epsilon) is not reached by any noise multiplier up to \(largest): allow a larger epsilon or delta, "
        + "fewer steps or a smaller sampling rate"
    case .alreadySpent(let spent, let budget):
      "the earlier steps have spent epsilon \(spent) of \(budget): no further step fits the budget"
    case .overBudget(let divergence, let budget):
      "the steps would bring the Rényi divergence to \(divergence), the budget is \(budget): take fewer steps or more noise"
    }
  }
}
