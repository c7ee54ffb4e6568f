import Foundation

/// The privacy of Gaussian noise in closed form: μ-Gaussian differential privacy (Dong, Roth and Su 2022).
///
/// One release of a sum with ℓ₂ sensitivity C and noise σ·C has μ = 1/σ, without sub-sampling; T releases on the same
/// data, chosen as adaptively as one likes, have μ·√T exactly. For every ε ≥ 0 the smallest δ is (Balle and Wang 2018,
/// theorem 8)
///
///     δ(ε) = Q(a) − exp(ε)·Q(b),  a = ε/μ − μ/2,  b = ε/μ + μ/2,
///
/// with Q the upper tail of the standard normal. As exp(ε)·φ(b) = φ(a) this is φ(a)·(m(a) − m(b)) with Mills' ratio
/// m = Q/φ, which neither overflows nor loses the small δ; for μ ≤ 1, where m(a) and m(b) are close, their difference
/// is the integral of −m′ over [a, b] by a Gauss–Legendre rule.
public struct GaussianDP: Sendable, Equatable {
  /// The parameter μ: 0 tells nothing, infinity everything.
  public let mu: Double

  /// - Throws: `PrivacyParameterError` when `mu` is negative or NaN.
  public init(mu: Double) throws {
    guard mu >= 0 else { throw PrivacyParameterError.outOfRange("mu", mu, "0 or more") }
    self.mu = mu
  }

  /// `releases` releases with noise of `noiseMultiplier` times the sensitivity each.
  /// - Throws: `PrivacyParameterError` when the multiplier is negative or NaN, or the count is negative.
  public init(noiseMultiplier: Double, releases: Int = 1) throws {
    guard noiseMultiplier >= 0 else {
      throw PrivacyParameterError.outOfRange("the noise multiplier", noiseMultiplier, "0 or more")
    }
    guard releases >= 0 else {
      throw PrivacyParameterError.outOfRange("the number of releases", Double(releases), "0 or more")
    }
    mu = releases == 0 ? 0 : Double(releases).squareRoot() / noiseMultiplier
  }

  /// The privacy of this and `other` together, on the same data: √(μ₁² + μ₂²).
  public func composed(with other: GaussianDP) -> GaussianDP { GaussianDP(unchecked: hypot(mu, other.mu)) }

  /// The privacy of `count` such releases: μ·√count.
  /// - Throws: `PrivacyParameterError` when the count is negative.
  public func repeated(_ count: Int) throws -> GaussianDP {
    guard count >= 0 else {
      throw PrivacyParameterError.outOfRange("the number of releases", Double(count), "0 or more")
    }
    return GaussianDP(unchecked: count == 0 ? 0 : mu * Double(count).squareRoot())
  }

  /// The smallest δ for which these releases are (ε, δ)-differentially private; 0 where it is below the least `Double`.
  /// - Throws: `PrivacyParameterError` when `epsilon` is negative or NaN.
  public func delta(epsilon: Double) throws -> Double { exp(try logDelta(epsilon: epsilon)) }

  /// ln δ(ε), also where δ itself is too small for a `Double`; −∞ for μ = 0.
  /// - Throws: `PrivacyParameterError` when `epsilon` is negative or NaN.
  public func logDelta(epsilon: Double) throws -> Double {
    guard epsilon >= 0 else { throw PrivacyParameterError.outOfRange("epsilon", epsilon, "0 or more") }
    return logDeltaAndSlope(epsilon).value
  }

  /// The smallest ε for which these releases are (ε, δ)-differentially private; infinity for μ = ∞.
  ///
  /// Newton's method on ln δ inside a shrinking bracket, to the last few bits.
  /// - Throws: `PrivacyParameterError` unless 0 < δ < 1.
  public func epsilon(delta: Double) throws -> Double {
    try PrivacyParameterError.check(delta: delta)
    let target = log(delta)
    guard mu > 0, logDeltaAndSlope(0).value > target else { return 0 }
    guard mu.isFinite else { return .infinity }
    // δ(ε) ≤ Q(a), and Q(a) ≤ exp(−a²/2), so this ε is enough.
    var high = mu * (mu / 2 + (-2 * target).squareRoot()) + mu
    var low = 0.0
    guard high.isFinite else { return .infinity }
    var epsilon = high / 2
    for _ in 0..<200 {
      let (value, slope) = logDeltaAndSlope(epsilon)
      if value > target { low = epsilon } else { high = epsilon }
      let newton = epsilon - (value - target) / slope
      let next = newton > low && newton < high ? newton : low + (high - low) / 2
      if abs(next - epsilon) <= 2 * epsilon.ulp || next == low || next == high { return next }
      epsilon = next
    }
    return epsilon
  }

  /// The least noise multiplier, rounded up, with which `releases` releases are (ε, δ)-differentially private.
  ///
  /// Bisection on the logarithm of the multiplier. What is returned was put back into `epsilon(delta:)` and gave at most
  /// `epsilon`; it is above the true solution by at most about 1e-12 of itself.
  /// - Throws: `PrivacyParameterError` unless ε > 0 and finite, 0 < δ < 1 and at least one release.
  public static func noiseMultiplier(epsilon: Double, delta: Double, releases: Int = 1) throws -> Double {
    guard epsilon > 0, epsilon.isFinite else {
      throw PrivacyParameterError.outOfRange("epsilon", epsilon, "above 0 and finite")
    }
    try PrivacyParameterError.check(delta: delta)
    guard releases >= 1 else {
      throw PrivacyParameterError.outOfRange("the number of releases", Double(releases), "1 or more")
    }
    let target = log(delta)
    func isPrivate(_ mu: Double) -> Bool { GaussianDP(unchecked: mu).logDeltaAndSlope(epsilon).value <= target }
    // δ grows with μ: a bracket in ln μ by doubling, then bisection to neighbouring doubles.
    var low = 0.0
    var high = 0.0
    var step = 1.0
    if isPrivate(1) {
      while isPrivate(exp(high)) {
        low = high
        high += step
        step *= 2
      }
    } else {
      while !isPrivate(exp(low)) {
        high = low
        low -= step
        step *= 2
        guard low > -740 else {
          throw PrivacyParameterError.outOfRange("epsilon", epsilon, "large enough for a finite noise multiplier")
        }
      }
    }
    while true {
      let middle = low + (high - low) / 2
      guard middle > low, middle < high else { break }
      if isPrivate(exp(middle)) { low = middle } else { high = middle }
    }
    var multiplier = Double(releases).squareRoot() / exp(low)
    var excess = 0x1p-50
    while try GaussianDP(noiseMultiplier: multiplier, releases: releases).epsilon(delta: delta) > epsilon {
      multiplier *= 1 + excess
      excess *= 2
    }
    return multiplier
  }

  private init(unchecked mu: Double) { self.mu = mu }

  /// ln δ(ε) and its derivative −exp(ε)·Q(b)/δ(ε).
  private func logDeltaAndSlope(_ epsilon: Double) -> (value: Double, slope: Double) {
    guard mu > 0, epsilon.isFinite else { return (mu.isFinite ? -.infinity : 0, 0) }
    guard mu.isFinite else { return (0, 0) }
    let a = epsilon / mu - mu / 2
    let b = epsilon / mu + mu / 2
    guard b.isFinite else { return (-.infinity, 0) }
    if mu > 1, a < -1 {
      // δ near 1: the difference of the tails as they stand.
      let rest = NormalTail.density(a) * NormalTail.millsRatio(b).ratio
      return (log1p(-(NormalTail.upper(-a) + rest)), -rest / (NormalTail.upper(a) - rest))
    }
    let atB = NormalTail.millsRatio(b).ratio
    let difference = mu > 1 ? NormalTail.millsRatio(a).ratio - atB : Self.integratedSlope(from: a, width: mu)
    return (NormalTail.logDensity(a) + log(difference), -atB / difference)
  }

  /// ∫ −m′(x) dx over [start, start + width] for a width of at most 1; 12 nodes reach the last bits.
  private static func integratedSlope(from start: Double, width: Double) -> Double {
    var sum = 0.0
    for (node, weight) in legendre {
      sum += weight * NormalTail.millsRatio(start + width * 0.5 * (1 + node)).negatedSlope
      sum += weight * NormalTail.millsRatio(start + width * 0.5 * (1 - node)).negatedSlope
    }
    return 0.5 * width * sum
  }

  /// Positive nodes and weights of the Gauss–Legendre rule with 12 nodes (Abramowitz & Stegun, table 25.4).
  private static let legendre: [(node: Double, weight: Double)] = [
    (0.125233408511468915472441369464, 0.249147045813402785000562436043),
    (0.367831498998180193752691536644, 0.233492536538354808760849898925),
    (0.587317954286617447296702418941, 0.203167426723065921749064455810),
    (0.769902674194304687036893833213, 0.160078328543346226334652529543),
    (0.904117256370474856678465866119, 0.106939325995318430960254718194),
    (0.981560634246719250690549090149, 0.047175336386511827194615961485),
  ]
}

/// A privacy parameter outside its range.
public enum PrivacyParameterError: Error, Equatable, CustomStringConvertible {
  /// The parameter's name, the value found, and the values that it may have.
  case outOfRange(String, Double, String)

  static func check(delta: Double) throws {
    guard delta > 0, delta < 1 else { throw outOfRange("delta", delta, "above 0 and below 1") }
  }

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .outOfRange(let name, let value, let expected): "\(name) is \(value), expected \(expected)"
    }
  }
}
