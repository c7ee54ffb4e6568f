import Foundation
import Testing

/// Tests of numbers that should be independent standard normal ones. Each has a bound on how often it fails by chance that
/// holds for every count, not only in the limit.
enum NoiseStatistics {
  /// For n numbers the sum is N(0, n): |sum| > √(2n·ln(2/α)) with probability at most α (Chernoff).
  static func expectMean(_ z: [Double], errorRate: Double, _ what: String = "") {
    let bound = (2 * Double(z.count) * log(2 / errorRate)).squareRoot()
    let sum = z.reduce(0, +)
    #expect(
      abs(sum) <= bound,
      "\(what): the mean is \(sum / Double(z.count)), expected within \(bound / Double(z.count))"
    )
  }

  /// The sum of squares is χ² with n degrees: above n + 2√(nt) + 2t or below n − 2√(nt) with probability at most e⁻ᵗ each
  /// (Laurent and Massart 2000, lemma 1).
  static func expectVariance(_ z: [Double], errorRate: Double, _ what: String = "") {
    let n = Double(z.count)
    let t = log(2 / errorRate)
    let sum = z.reduce(0) { $0 + $1 * $1 }
    let range = (n - 2 * (n * t).squareRoot())...(n + 2 * (n * t).squareRoot() + 2 * t)
    #expect(
      range.contains(sum),
      "\(what): the variance is \(sum / n), expected \(range.lowerBound / n) to \(range.upperBound / n)"
    )
  }

  /// The mean of z⁴ is 3 with variance 96/n. No |z| is above b but with probability n·exp(−b²/2); below it z⁴ ≤ b⁴, and
  /// Bernstein's inequality bounds the sum: P(|Σ(z⁴ − 3)| > u) ≤ 2·exp(−u²/(2·(96n + b⁴u/3))). The cut lowers the mean by
  /// less than 1e-8. Half of α goes to each.
  static func expectKurtosis(_ z: [Double], errorRate: Double, _ what: String = "") {
    let n = Double(z.count)
    let cut = pow(2 * log(2 * n / errorRate), 2)
    let l = log(4 / errorRate)
    // u² = 2l(96n + cut·u/3)
    let half = l * cut / 3
    let bound = half + (half * half + 2 * l * 96 * n).squareRoot()
    let sum = z.reduce(0) { $0 + pow($1, 4) - 3 }
    #expect(abs(sum) <= bound, "\(what): the kurtosis is \(3 + sum / n), expected within \(bound / n) of 3")
  }

  /// The sum of products of independent normal numbers has E exp(λ·sum) = (1 − λ²)^(−n/2), so for every λ in (0, 1) it is
  /// above (ln(2/α) − n/2·ln(1 − λ²))/λ in size with probability at most α (Chernoff).
  static func expectUncorrelated(
    _ x: some Collection<Double>,
    _ y: some Collection<Double>,
    errorRate: Double,
    _ what: String
  ) {
    let n = Double(x.count)
    let l = log(2 / errorRate)
    let lambda = min(0.5, (2 * l / n).squareRoot())
    let bound = (l - n / 2 * log1p(-lambda * lambda)) / lambda
    let sum = zip(x, y).reduce(0) { $0 + $1.0 * $1.1 }
    #expect(
      x.count == y.count && abs(sum) <= bound,
      "\(what): the correlation is \(sum / n), expected within \(bound / n)"
    )
  }

  /// Two streams of noise on one grid agree in a place by chance with probability below 2⁻²² (the densest cell of noise with
  /// a deviation of at least 2²² units), in more than `count` of n places with probability at most (n·2⁻²²)^count/count!.
  static func expectNoStreamTwice(_ x: [Double], _ y: [Double], _ what: String) {
    // 64,000 places: below 1e-13.
    let equal = zip(x, y).count { $0 == $1 }
    #expect(
      x.count == y.count && x.count <= 64_000 && equal < 6,
      "\(what): \(equal) of \(x.count) numbers are the same"
    )
  }
}
