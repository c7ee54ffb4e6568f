import Foundation

/// Where and how densely E over N(0, σ²) of ratio(x)^(a + iu) is sampled.
///
/// The trapezoidal rule converges exponentially for an integrand that is analytic in a strip. Here the integrand is
/// analytic up to the zeros of the ratio at Im x = πσ², where at height y it has grown by at most
/// exp(y²/(2σ²) + u·y/σ²), or less where ln ratio is flat, for negative powers by exp(−a·1.15·y²/(8σ⁴)) more while y ≤ πσ²/2. A spacing h leaves an
/// error of that times exp(−2πy/h); h is chosen so that the best y gives exp(−52).
struct MomentQuadrature {
  let first: Double
  let spacing: Double
  let count: Int
  /// The logarithm by which the terms are scaled down where they would leave a Double's range; otherwise 0.
  let shift: Double

  /// Half the range in standard deviations: the density is below exp(−84) of its peak beyond it.
  static let reach = 13.0
  /// The most points for one moment; more means parameters for which this method is the wrong one.
  static let maximumCount = 400_000

  /// - Parameters:
  ///   - power: a, the real part of the power.
  ///   - frequency: the largest |u| for which the points are used.
  ///   - weight: the number of steps, by which a moment's error grows.
  /// - Returns: nil where more than `maximumCount` points would be needed.
  init?(_ step: SubsampledGaussian, power: Double, frequency: Double, weight: Double) {
    let sigma = step.sigma
    let variance = sigma * sigma
    let error = 52.0
    var curvature = 1 / variance
    var height = 0.95 * Double.pi * variance
    if power < 0 {
      curvature -= power * 1.15 / (4 * variance * variance)
      height = 0.5 * Double.pi * variance
    }
    var rate = (2 * error * curvature).squareRoot()
    if rate > curvature * height { rate = error / height + curvature * height / 2 }
    let reach = Self.reach * sigma
    var lower = -reach
    var slope = 1.0
    var isLocal = true
    var upper = 1 + reach
    var peak = 0.0
    func exponent(_ x: Double) -> Double { power * step.logRatio(x) - x * x / (2 * variance) }
    if power > 1 {
      // The peak far from the bulk is at most at x = a, and little above the value there where it matters.
      peak = exponent(power)
      if Self.shiftedPeakMatters(step, power: power, weight: weight) {
        upper = max(upper, power + reach)
        isLocal = false
      }
    } else if power < 0 {
      let left = Self.leftPeak(step, power: power)
      peak = exponent(left)
      lower = min(lower, left - reach)
    }
    shift = peak > 300 ? peak : 0
    if isLocal, shift == 0 {
      // Left of here the terms matter, and ln ratio is no steeper than its derivative here, share(x)/σ². For small rates
      // that is far below 1/σ². (The strip's bound for the argument of a complex ratio is within twice of it.)
      let threshold = -50 - log(weight * max(1, abs(power)))
      while upper > 1 {
        let log = step.logRatio(upper)
        if max(power * log, log, 0) - upper * upper / (2 * variance) > threshold { break }
        upper -= 0.25 * sigma
      }
      upper += 0.25 * sigma
      slope = min(1, 2 * step.shiftedShare(upper))
    }
    spacing = 2 * Double.pi / (rate + slope * frequency / variance)
    let points = ((upper - lower) / spacing).rounded(.up) + 1
    guard points <= Double(Self.maximumCount) else { return nil }
    first = lower
    count = Int(points)
  }

  /// For a > 1 the integrand has a second peak, at most at x = a. It may be left out when it, and the end of the bulk,
  /// are below exp(−60) even times the number of steps.
  private static func shiftedPeakMatters(_ step: SubsampledGaussian, power: Double, weight: Double) -> Bool {
    let threshold = -60 - log(weight)
    let edge = reach * step.sigma
    func exponent(_ x: Double) -> Double { power * step.logRatio(x) - x * x / (2 * step.sigma * step.sigma) }
    guard power > edge, exponent(edge) < threshold, power * step.shiftedShare(edge) < edge else { return true }
    // The right-most stationary point solves x = a·share(x); from x = a the iteration falls towards it.
    var x = power
    for _ in 0..<60 {
      let next = power * step.shiftedShare(x)
      if next < edge { return false }
      if abs(next - x) <= 1e-6 * x { return exponent(next) >= threshold }
      x = next
    }
    return true
  }

  /// For a < 0 the integrand is log-concave with its peak in [a, 0].
  private static func leftPeak(_ step: SubsampledGaussian, power: Double) -> Double {
    var low = power
    var high = 0.0
    for _ in 0..<60 {
      let middle = (low + high) / 2
      if middle < power * step.shiftedShare(middle) { low = middle } else { high = middle }
    }
    return low
  }
}

extension SubsampledGaussian {
  /// ln E over N(0, σ²) of ratio(x)^power for a real power; +∞ where it is out of reach.
  ///
  /// E[ratio] is 1 exactly, so power·(ratio − 1) may be taken off each term. Without that, and without `expm1`, all
  /// digits of a moment near 1 would be lost for small rates.
  func logMoment(power: Double) -> Double {
    if power == 0 || power == 1 { return 0 }
    if rate == 1 { return power * (power - 1) / (2 * sigma * sigma) }
    guard let points = MomentQuadrature(self, power: power, frequency: 0, weight: Double(max(steps, 1))) else {
      return .infinity
    }
    let scale = points.spacing / (sigma * (2 * Double.pi).squareRoot())
    let precision = 1 / (2 * sigma * sigma)
    if points.shift > 0 {
      var sum = 0.0
      for index in 0..<points.count {
        let x = points.first + Double(index) * points.spacing
        sum += exp(power * logRatio(x) - x * x * precision - points.shift)
      }
      return points.shift + log(sum * scale)
    }
    var sum = 0.0
    for index in 0..<points.count {
      let x = points.first + Double(index) * points.spacing
      let exponent = -x * x * precision
      let (excess, logRatio) = excessAndLog(x)
      let tilt = power * logRatio
      let density = exp(exponent)
      if abs(tilt) < 1 {
        sum += density * (expm1(tilt) - power * excess)
      } else {
        // Far out the excess itself overflows before the density has pulled it down.
        let z = (2 * x - 1) * precision
        let mean = z > 40 ? rate * exp(exponent + z) : density * excess
        sum += exp(exponent + tilt) - density - power * mean
      }
    }
    return log1p(sum * scale)
  }
}
