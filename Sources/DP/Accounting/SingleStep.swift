import Foundation

extension SubsampledGaussian {
  /// The least ε of one such step, the larger of both directions.
  ///
  /// With δ_G the profile of the Gaussian with μ = 1/σ, removing gives δ(ln(1 + q·(exp(ε′) − 1))) = q·δ_G(ε′): the
  /// amplification by sampling is an equation here (Balle, Barthe and Gaboardi 2018, theorem 8). Adding gives
  /// δ(ε) = q·exp(ε − ε″)·δ_G(ε″) with exp(−ε″) = (exp(−ε) − 1 + q)/q, and 0 from ε = −ln(1 − q) on.
  func singleStepEpsilon(delta: Double) throws -> Double {
    let gaussian = try GaussianDP(mu: 1 / sigma)
    let target = delta * (1 - 1e-13)
    var removed = 0.0
    if target < rate {
      let inner = try gaussian.epsilon(delta: target / rate)
      removed = inner > 30 ? inner + log(rate + (1 - rate) * exp(-inner)) : log1p(rate * expm1(inner))
    }
    func addedLogDelta(_ epsilon: Double) throws -> Double {
      let inner = expm1(-epsilon) / rate
      guard inner > -1 else { return -.infinity }
      let shifted = -log1p(inner)
      return try log(rate) + epsilon - shifted + gaussian.logDelta(epsilon: max(shifted, 0))
    }
    // Removing is the worse direction for a single step, so one evaluation nearly always settles it.
    guard try addedLogDelta(removed) > log(delta) else { return removed * (1 + 1e-13) }
    var low = removed
    var high = max(2 * removed, 1e-300)
    while try addedLogDelta(high) > log(delta) { high *= 2 }
    for _ in 0..<200 where high - low > high.ulp {
      let middle = (low + high) / 2
      if try addedLogDelta(middle) > log(delta) { low = middle } else { high = middle }
    }
    return high
  }
}
