import Foundation

/// A score from which on a run is said to have had the canary.
struct AuditThreshold {
  let value: Double
  /// Whether scores above the threshold, rather than at or below it, speak for the canary.
  let isCanaryAbove: Bool

  /// The threshold and side with the largest lower bound on these scores. That bound itself is worth nothing, as it was
  /// picked; other scores must be counted against the threshold.
  static func best(
    without: [Double],
    with: [Double],
    delta: Double,
    significance: Double,
    by value: (AuditBound.TwoWorlds) -> Double
  ) -> AuditThreshold {
    let (without, with) = (without.sorted(), with.sorted())
    // At most a few hundred candidates: quantiles of both worlds together.
    let all = (without + with).sorted()
    let stride = max(1, all.count / 400)
    var best = AuditThreshold(value: all[all.count / 2], isCanaryAbove: true)
    var bestScore = -Double.infinity
    for index in Swift.stride(from: 0, to: all.count, by: stride) {
      for isAbove in [true, false] {
        let candidate = AuditThreshold(value: all[index], isCanaryAbove: isAbove)
        let below = (countAtMost(all[index], without), countAtMost(all[index], with))
        let bound = candidate.bound(
          falseAlarms: isAbove ? without.count - below.0 : below.0,
          runsWithout: without.count,
          misses: isAbove ? below.1 : with.count - below.1,
          runsWith: with.count,
          delta: delta,
          significance: significance
        )
        let score = value(bound)
        if score > bestScore { (best, bestScore) = (candidate, score) }
      }
    }
    return best
  }

  /// The bound that these scores give against this threshold, which must not depend on them.
  func bound(without: [Double], with: [Double], delta: Double, significance: Double) -> AuditBound.TwoWorlds {
    bound(
      falseAlarms: without.count { ($0 > value) == isCanaryAbove },
      runsWithout: without.count,
      misses: with.count { ($0 > value) != isCanaryAbove },
      runsWith: with.count,
      delta: delta,
      significance: significance
    )
  }

  private func bound(
    falseAlarms: Int,
    runsWithout: Int,
    misses: Int,
    runsWith: Int,
    delta: Double,
    significance: Double
  ) -> AuditBound.TwoWorlds {
    // One rate each for its half of the significance; both directions below use the same two bounds.
    let alarm = BinomialTail.upperBound(successes: falseAlarms, trials: runsWithout, significance: significance / 2)
    let miss = BinomialTail.upperBound(successes: misses, trials: runsWith, significance: significance / 2)
    func epsilon(_ one: Double, _ other: Double) -> Double {
      let rest = 1 - delta - other
      return rest > 0 && one > 0 ? max(0, log(rest / one)) : 0
    }
    let mu = max(0, -NormalTail.quantile(alarm) - NormalTail.quantile(miss))
    let gaussian = (try? GaussianDP(mu: mu).epsilon(delta: max(delta, 1e-300))) ?? 0
    return AuditBound.TwoWorlds(
      epsilon: max(epsilon(alarm, miss), epsilon(miss, alarm)),
      gaussianEpsilon: gaussian,
      gaussianMu: mu,
      threshold: value,
      isCanaryAbove: isCanaryAbove
    )
  }

  private static func countAtMost(_ value: Double, _ sorted: [Double]) -> Int {
    var (low, high) = (0, sorted.count)
    while low < high {
      let middle = (low + high) / 2
      if sorted[middle] <= value { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
