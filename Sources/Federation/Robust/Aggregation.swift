/// How the updates of a round become one set of tensors.
public enum Aggregation: Sendable, Equatable {
  /// The exact weighted mean (`ExactSum`): one hostile client can move it anywhere.
  case mean
  /// A rule that a stated number of hostile clients cannot move at will.
  case robust(RobustRule)

  /// The rule's name in run files and manifests.
  public var name: AggregationName {
    switch self {
    case .mean: .mean
    case .robust(let rule): rule.name
    }
  }

  /// Holds the rule against the rest of a run's terms.
  /// - Parameters:
  ///   - quorum: the fewest updates of which a round is made.
  ///   - weighting: how much an update counts.
  ///   - hasPrivateRelease: whether the coordinator noises a clipped sum (privacy level `client`).
  /// - Throws: `AggregationTermError` naming the term that does not go together with the rule.
  public func check(quorum: Int, weighting: Weighting, hasPrivateRelease: Bool) throws {
    guard case .robust(let rule) = self else { return }
    guard !hasPrivateRelease else { throw AggregationTermError.privateRelease(rule.name) }
    guard weighting == .uniform else { throw AggregationTermError.weighted(rule.name) }
    guard quorum >= rule.leastUpdates else {
      throw AggregationTermError.quorumTooSmall(
        rule: rule.name,
        byzantine: rule.byzantine,
        quorum: quorum,
        needed: rule.leastUpdates,
        most: rule.mostByzantine(updates: quorum)
      )
    }
  }
}

/// The rules by the names that run files and manifests use.
public enum AggregationName: String, Codable, CaseIterable, Sendable {
  /// The exact weighted mean.
  case mean
  /// The mean of differences that are scaled down to a norm.
  case normBound = "norm-bound"
  /// The median of each coordinate.
  case median
  /// The mean of each coordinate without its extremes.
  case trimmedMean = "trimmed-mean"
  /// The one update that is nearest to its neighbours.
  case krum
  /// The mean of several such updates.
  case multiKrum = "multi-krum"
  /// The point with the least sum of distances to all updates.
  case geometricMedian = "geometric-median"
}

/// A rule that f hostile clients of a round cannot move at will.
///
/// Every rule counts each update once, and its result depends neither on the order in which updates arrived nor on how many
/// coordinates are looked at together. What each promises where at most f of n updates are hostile, and what it needs:
///
/// | rule | needs | promise |
/// |---|---|---|
/// | norm bound, stated | n ≥ f + 1 | nobody moves the result by more than the bound over n |
/// | norm bound, times the median norm | n ≥ 2f + 1 | the same, with a bound that honest norms decide |
/// | median | n ≥ 2f + 1 | each coordinate lies within the range of the honest ones |
/// | trimmed mean | n ≥ 2k + 1, k ≥ f | the same |
/// | Krum | n ≥ 2f + 3 | the result is an update that n − f − 2 others lie near to |
/// | multi-Krum | n ≥ 2f + 3, n ≥ m + f | a mean of m such updates |
/// | geometric median | n ≥ 2f + 1 | the distance from the honest updates is bounded by their own spread |
public struct RobustRule: Sendable, Equatable {
  /// The rule with what it alone is set by.
  public enum Kind: Sendable, Equatable {
    /// Differences from the state that the round started from, scaled down to a norm, then their mean (Sun et al. 2019,
    /// "Can You Really Backdoor Federated Learning?").
    case normBound(NormLimit)
    /// The median of each coordinate (Yin et al. 2018); of an even number the mean of the two in the middle.
    case median
    /// The mean of each coordinate without its k smallest and k largest values (Yin et al. 2018). k is ⌊fraction·n⌋; for a
    /// fraction of 0 it is f.
    case trimmedMean(fraction: Double)
    /// The update with the least sum of squared distances to its n − f − 2 nearest (Blanchard et al. 2017).
    case krum
    /// The mean of the m updates with the least such sums; for 0 m is n − f − 2.
    case multiKrum(keep: Int)
    /// The smoothed geometric median (Pillutla et al. 2022, RFA): distances below `smoothing` count as quadratic. Stops
    /// after `iterations` of Weiszfeld's steps, or when they no longer move.
    case geometricMedian(smoothing: Double, iterations: Int)
  }

  /// To which norm a difference is scaled down.
  public enum NormLimit: Sendable, Equatable {
    /// This one; above 0 and finite.
    case stated(Double)
    /// This many times the median norm of the round's differences; above 0 and finite.
    case medianTimes(Double)
  }

  /// The rule.
  public let kind: Kind
  /// f: how many updates of a round may be hostile; at least 1.
  public let byzantine: Int

  /// The most steps that a geometric median may take.
  public static let mostIterations = 10_000

  /// - Throws: `AggregationTermError` naming the first setting that is out of range.
  public init(_ kind: Kind, byzantine: Int) throws {
    func check(_ field: String, _ value: Double, _ isSound: Bool, _ expected: String) throws {
      if !isSound { throw AggregationTermError.outOfRange(field: field, value: value, expected: expected) }
    }
    self.kind = kind
    self.byzantine = byzantine
    guard byzantine >= 1 else { throw AggregationTermError.namesNoAttackers(name) }
    try check("byzantine", Double(byzantine), byzantine <= 1_000_000, "1 to 1000000")
    switch kind {
    case .normBound(.stated(let bound)):
      try check("norm_bound", bound, bound > 0 && bound.isFinite, "a positive number")
    case .normBound(.medianTimes(let factor)):
      try check("norm_multiple", factor, factor > 0 && factor.isFinite, "a positive number")
    case .trimmedMean(let fraction):
      try check("trim", fraction, fraction >= 0 && fraction < 0.5, "at least 0 and below 0.5")
    case .multiKrum(let keep):
      try check("keep", Double(keep), (0...1_000_000).contains(keep), "0 to 1000000")
    case .geometricMedian(let smoothing, let iterations):
      try check("smoothing", smoothing, smoothing > 0 && smoothing.isFinite, "a positive number")
      try check(
        "iterations",
        Double(iterations),
        (1...RobustRule.mostIterations).contains(iterations),
        "1 to \(RobustRule.mostIterations)"
      )
    case .median, .krum: break
    }
  }

  /// The rule's name.
  public var name: AggregationName {
    switch kind {
    case .normBound: .normBound
    case .median: .median
    case .trimmedMean: .trimmedMean
    case .krum: .krum
    case .multiKrum: .multiKrum
    case .geometricMedian: .geometricMedian
    }
  }

  /// The fewest updates among which f hostile ones are withstood.
  public var leastUpdates: Int {
    switch kind {
    case .normBound(.stated): byzantine + 1
    case .normBound(.medianTimes), .median, .geometricMedian, .trimmedMean(fraction: 0): 2 * byzantine + 1
    // Saturating: a tiny fraction asks for more updates than an Int can count.
    case .trimmedMean(let fraction):
      max(2 * byzantine + 1, Int(min(1e15, (Double(byzantine) / fraction - RobustRule.slack).rounded(.up))))
    case .krum: 2 * byzantine + 3
    case .multiKrum(let keep): max(2 * byzantine + 3, keep + byzantine)
    }
  }

  /// The largest f that this rule could be set to where a round has `updates` updates; 0 where there is none.
  public func mostByzantine(updates: Int) -> Int {
    switch kind {
    case .normBound(.stated): max(0, updates - 1)
    case .normBound(.medianTimes), .median, .geometricMedian, .trimmedMean(fraction: 0): max(0, (updates - 1) / 2)
    case .trimmedMean: trimmed(updates: updates)
    case .krum: max(0, (updates - 3) / 2)
    case .multiKrum(let keep): max(0, min((updates - 3) / 2, updates - keep))
    }
  }

  /// k of the trimmed mean: how many values are left out at each end of a coordinate.
  func trimmed(updates: Int) -> Int {
    guard case .trimmedMean(let fraction) = kind else { return 0 }
    if fraction == 0 { return byzantine }
    return min(Int((fraction * Double(updates) + RobustRule.slack).rounded(.down)), max(0, (updates - 1) / 2))
  }

  /// So that a fraction of 0.29 of 100 is 29 although the product of the doubles is a little less.
  private static let slack = 1e-9
}
