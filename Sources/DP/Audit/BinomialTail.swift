import Foundation

/// Tails of the binomial distribution, summed term by term, and the bounds of Clopper and Pearson that follow from
/// them.
enum BinomialTail {
  /// ln P[Bin(n, p) = k].
  static func logMass(_ k: Int, trials n: Int, probability p: Double) -> Double {
    if p <= 0 { return k == 0 ? 0 : -.infinity }
    if p >= 1 { return k == n ? 0 : -.infinity }
    let (k, n) = (Double(k), Double(n))
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log1p(-p)
  }

  /// P[Bin(n, p) ≥ k], to about 1e-12 relative: each term from the one before, from the side where they shrink.
  static func atLeast(_ k: Int, trials n: Int, probability p: Double) -> Double {
    if k <= 0 { return 1 }
    if k > n { return 0 }
    if p <= 0 { return 0 }
    if p >= 1 { return 1 }
    guard Double(k) > Double(n) * p else { return 1 - atLeast(n - k + 1, trials: n, probability: 1 - p) }
    var term = exp(logMass(k, trials: n, probability: p))
    var sum = term
    let odds = p / (1 - p)
    for j in stride(from: k, to: n, by: 1) {
      term *= odds * Double(n - j) / Double(j + 1)
      sum += term
      if term < sum * 1e-17 { break }
    }
    return min(sum, 1)
  }

  /// The largest p for which at most k of n successes are not less likely than `significance`: an upper confidence
  /// bound for a rate (Clopper and Pearson 1934), rounded up.
  static func upperBound(successes k: Int, trials n: Int, significance: Double) -> Double {
    guard k < n else { return 1 }
    var low = 0.0
    var high = 1.0
    while true {
      let middle = (low + high) / 2
      guard middle > low, middle < high else { return high }
      // P[Bin(n, p) ≤ k] = P[Bin(n, 1 − p) ≥ n − k] falls with p.
      if atLeast(n - k, trials: n, probability: 1 - middle) > significance { low = middle } else { high = middle }
    }
  }
}
