import Foundation

/// One Poisson-subsampled Gaussian step as a pair of distributions on the line.
///
/// With the neighbour's example present the released coordinate is (1−q)·N(0, σ²) + q·N(1, σ²), without it N(0, σ²)
/// (Abadi et al. 2016; Zhu, Dong and Wang 2022 for why this pair is the worst). Everything about the privacy loss
/// follows from the ratio of their densities, ratio(x) = 1 − q + q·exp((2x − 1)/(2σ²)), and its logarithm.
struct SubsampledGaussian: Sendable, Equatable {
  /// q.
  let rate: Double
  /// σ.
  let sigma: Double
  /// How many such steps.
  var steps: Int

  /// Which of the two neighbours holds the example, and so which moments of the ratio make up the loss.
  enum Direction: Sendable, CaseIterable {
    /// The example is removed: L = ln ratio(x) under the mixture.
    case remove
    /// The example is added: L = −ln ratio(x) under N(0, σ²).
    case add

    /// The power a with E[exp(c·L)] = E over N(0, σ²) of ratio^a.
    func power(_ c: Double) -> Double { self == .remove ? c + 1 : -c }
    /// The sign with which the imaginary part enters the power.
    var sign: Double { self == .remove ? 1 : -1 }
  }

  /// ratio(x) − 1 and ln ratio(x), without cancellation for small q and without overflow.
  @inline(__always)
  func excessAndLog(_ x: Double) -> (excess: Double, log: Double) {
    let z = (2 * x - 1) / (2 * sigma * sigma)
    if z > 40 { return (rate * exp(min(z, 700)), z + Foundation.log(rate + (1 - rate) * exp(-z))) }
    let excess = rate * expm1(z)
    return (excess, log1p(excess))
  }

  /// ln ratio(x).
  func logRatio(_ x: Double) -> Double { excessAndLog(x).log }

  /// The probability that x came from the shifted component: q·exp(z)/ratio.
  func shiftedShare(_ x: Double) -> Double {
    let z = (2 * x - 1) / (2 * sigma * sigma)
    return rate / (rate + (1 - rate) * exp(-z))
  }

  /// The x at which ln ratio is `loss`; −∞ where the ratio never falls so low.
  func x(atLogRatio loss: Double) -> Double {
    // exp(z) = 1 + (exp(loss) − 1)/q
    let z =
      loss > 40 ? loss + log1p((rate - 1) * exp(-loss)) - log(rate) : Self.log1pOrMinusInfinity(expm1(loss) / rate)
    return sigma * sigma * z + 0.5
  }

  private static func log1pOrMinusInfinity(_ value: Double) -> Double { value <= -1 ? -.infinity : log1p(value) }
}
