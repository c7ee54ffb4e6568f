import Foundation

/// Rényi differential privacy: bounds that add up over steps, for each order by itself.
///
/// Looser than `PrivacyAccountant`'s answer, but valid when σ and q are chosen while the steps run (see `RDPFilter`),
/// and for fixed-size samples.
public enum RenyiDP {
  /// The orders that are tried: 1.1 to 10.9 by tenths, 11 to 63, and four large ones.
  public static let orders: [Double] =
    (11..<110).map { (tenths: Int) -> Double in Double(tenths) / 10 }
    + (11...63).map { (order: Int) -> Double in Double(order) } + [128, 256, 512, 1024]

  /// How E over N(0, σ²) of ratio^α is worked out for an α that is not an integer.
  public enum FractionalOrders: Sendable {
    /// By quadrature, to the last few digits.
    case exact
    /// By the two series of Mironov, Talwar and Zhang 2019 (section 3.3) with the absolute values of their terms: an upper bound
    /// that published accountants report, and so one for comparisons.
    case series
  }

  /// The Rényi divergence of `order` between neighbours that the phase's steps leave at most.
  ///
  /// Poisson sampling when one example is added, removed or zeroed: ln A/(α − 1) with A = E over N(0, σ²) of ratio^α
  /// (Mironov, Talwar and Zhang 2019). When one is replaced: ln(1 − q + q·exp(α(α − 1)·2/σ²))/(α − 1), the
  /// divergence with the draw itself revealed, which hiding it can only lower. A fixed size: `FixedSizeRDP`.
  /// - Parameters:
  ///   - order: α, above 1.
  ///   - fractional: how A is worked out for an order that is not an integer.
  /// - Throws: `PrivacyParameterError` for an order of 1 or less, phases outside their ranges and fixed-size samples
  ///   under another relation than `replaceOne`.
  public static func divergence(
    order: Double,
    of phase: PrivatePhase,
    relation: NeighbouringRelation,
    fractional: FractionalOrders = .exact
  ) throws -> Double {
    guard order > 1 else { throw PrivacyParameterError.outOfRange("the Rényi order", order, "above 1") }
    try phase.check(under: relation)
    guard phase.steps > 0 else { return 0 }
    guard phase.noiseMultiplier > 0 else { return .infinity }
    return Double(phase.steps) * stepDivergence(order, phase, relation, fractional)
  }

  /// The least ε over `orders` from their divergences (Canonne, Kamath and Steinke 2020, proposition 12).
  static func epsilon(delta: Double, divergence: (Double) throws -> Double) rethrows -> (epsilon: Double, order: Double)
  {
    var best = (epsilon: Double.infinity, order: Double.nan)
    for order in orders {
      let divergence = try divergence(order)
      guard !divergence.isNaN else { continue }
      // δ ≤ √(1 − exp(−D)) (Bretagnolle and Huber) may already be enough for ε = 0.
      if delta * delta + expm1(-divergence) > 0 { return (0, order) }
      let epsilon = divergence + log1p(-1 / order) - log(delta * order) / (order - 1)
      if epsilon < best.epsilon { best = (max(0, epsilon), order) }
    }
    return best
  }

  private static func stepDivergence(
    _ order: Double,
    _ phase: PrivatePhase,
    _ relation: NeighbouringRelation,
    _ fractional: FractionalOrders
  ) -> Double {
    let rate = phase.sampling.rate
    let sigma = phase.noiseMultiplier / relation.sumSensitivity
    let gaussian = order / (2 * sigma * sigma)
    if rate == 1 { return gaussian }
    if phase.sampling.isFixedSize { return FixedSizeRDP.divergence(order: order, rate: rate, sigma: sigma) }
    if relation == .replaceOne {
      let exponent = order * (order - 1) / (2 * sigma * sigma)
      let log =
        exponent > 40 ? exponent + Foundation.log(rate + (1 - rate) * exp(-exponent)) : log1p(rate * expm1(exponent))
      return log / (order - 1)
    }
    let step = SubsampledGaussian(rate: rate, sigma: sigma, steps: phase.steps)
    if fractional == .series, order != order.rounded() { return step.logMomentSeries(power: order) / (order - 1) }
    // The unamplified divergence is a bound of its own, and catches what is out of the quadrature's reach.
    return min(max(step.logMoment(power: order), 0) / (order - 1), gaussian)
  }
}

extension SubsampledGaussian {
  /// An upper bound of ln E[ratio^power] from absolute terms of two binomial series, split where both components of the
  /// mixture weigh the same; infinity where 1000 terms do not settle it.
  fileprivate func logMomentSeries(power: Double) -> Double {
    func sum(_ a: Double, _ b: Double) -> Double {
      max(a, b) == -.infinity ? -.infinity : max(a, b) + log1p(exp(-abs(a - b)))
    }
    let precision = 1 / (2 * sigma * sigma)
    let split = sigma * sigma * log(1 / rate - 1) + 0.5
    var left = -Double.infinity
    var right = -Double.infinity
    var last = (-Double.infinity, -Double.infinity)
    var logBinomial = 0.0
    for i in 0..<1000 {
      let (i, j) = (Double(i), power - Double(i))
      let first =
        logBinomial + i * log(rate) + j * log1p(-rate) + (i * i - i) * precision
        + NormalTail.logUpper((i - split) / sigma)
      let second =
        logBinomial + j * log(rate) + i * log1p(-rate) + (j * j - j) * precision
        + NormalTail.logUpper((split - j) / sigma)
      left = sum(left, first)
      right = sum(right, second)
      if first < last.0, second < last.1, max(first, second) < sum(left, right) - 30 { return sum(left, right) }
      last = (first, second)
      logBinomial += log(abs(j) / (i + 1))
    }
    return .infinity
  }
}

extension PrivatePhase {
  func check(under relation: NeighbouringRelation) throws {
    try check()
    guard !sampling.isFixedSize || relation == .replaceOne else {
      throw PrivacyAccountingError.fixedSizeNeedsReplaceOne(relation)
    }
  }
}
