import Foundation

/// Says before a step whether it still fits a budget, also when its noise or sampling was chosen from what earlier steps
/// released.
///
/// For one fixed order α the Rényi divergences of the steps are added up, and a step is refused when the sum would pass
/// the divergence that (ε, δ) allows. That is enough for (ε, δ)-differential privacy of everything that was admitted, however
/// adaptively it was chosen (Feldman and Zrnic 2021, theorem 4.3). Accountants that compose whole distributions give
/// smaller numbers, but need the steps fixed beforehand.
public struct RDPFilter: Sendable, Equatable {
  /// Which data sets are neighbours.
  public let relation: NeighbouringRelation
  /// α.
  public let order: Double
  /// The divergence of order α that the budget allows.
  public let budget: Double
  /// The divergence of the steps admitted so far.
  public private(set) var spent = 0.0

  /// A filter for a budget.
  /// - Parameters:
  ///   - epsilon: above 0 and finite.
  ///   - delta: above 0 and below 1.
  ///   - expected: the steps that are likely; the order among `RenyiDP.orders` that leaves the most room for them is
  ///     taken. Any other steps may follow.
  /// - Throws: `PrivacyParameterError` for parameters outside their ranges, and when no order leaves any room.
  public init(epsilon: Double, delta: Double, relation: NeighbouringRelation, expected: PrivatePhase) throws {
    guard epsilon > 0, epsilon.isFinite else {
      throw PrivacyParameterError.outOfRange("epsilon", epsilon, "above 0 and finite")
    }
    try PrivacyParameterError.check(delta: delta)
    var best: (order: Double, budget: Double, room: Double)?
    for order in RenyiDP.orders {
      let budget = epsilon - log1p(-1 / order) + log(delta * order) / (order - 1)
      guard budget > 0 else { continue }
      let cost = try RenyiDP.divergence(order: order, of: expected, relation: relation)
      let room = cost > 0 ? budget / cost : budget
      if best.map({ room > $0.room }) ?? true { best = (order, budget, room) }
    }
    guard let best else {
      throw PrivacyParameterError.outOfRange("epsilon", epsilon, "large enough for Rényi divergences at delta \(delta)")
    }
    self.relation = relation
    order = best.order
    budget = best.budget
  }

  /// Whether the phase's steps fit what is left.
  /// - Throws: as `RenyiDP.divergence(order:of:relation:)`.
  public func admits(_ phase: PrivatePhase) throws -> Bool { try sum(with: phase) <= budget }

  /// Books the phase; to be called before its steps are taken.
  /// - Throws: `PrivacyAccountingError.overBudget`, with nothing booked, when it does not fit.
  public mutating func spend(_ phase: PrivatePhase) throws {
    let sum = try sum(with: phase)
    guard sum <= budget else { throw PrivacyAccountingError.overBudget(divergence: sum, budget: budget) }
    spent = sum
  }

  private func sum(with phase: PrivatePhase) throws -> Double {
    spent + (try RenyiDP.divergence(order: order, of: phase, relation: relation))
  }
}
