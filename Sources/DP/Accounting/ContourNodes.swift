import Foundation

/// δ(ε) as an integral along the line Re s = c > 0 of the complex plane:
///
///     δ(ε) = 1/(2π) · ∫ exp(K(c + iu) − (c + iu)·ε) / ((c + iu)·(c + iu + 1)) du,
///
/// the inverse of the Laplace transform of (1 − exp(ε − L))₊. The trapezoidal rule with step du gives
/// Σ over integers k of δ(ε + k·2π/du)·exp(k·c·2π/du): the value at k = 0 and more terms that are all positive. So
/// the step never makes δ too small, and Chernoff's bound says how short it must be for the other terms to vanish.
///
/// The nodes do not depend on ε, so that the search for it costs next to nothing.
struct ContourNodes {
  private let c: Double
  private let step: Double
  private let cumulant: Double
  private var amplitudes: [Double] = []
  private var phases: [Double] = []
  /// What the rounding of the cumulant may have done to ln δ.
  private var relativeError = 0.0

  /// Beyond so many terms of moments the integrand decays too slowly for this method; with few steps the alternative is
  /// quick.
  private static func maximumWork(_ losses: LossComposition) -> Double {
    losses.groups.reduce(0) { $0 + $1.steps } > 500 ? 32e6 : 4e6
  }
  private static let maximumNodes = 1 << 17
  private static let largestBlock = 128
  /// A node below exp(−42) of the first one no longer counts.
  private static let cutOff = exp(-40.0)

  /// - Parameters:
  ///   - c: where the line crosses the real axis.
  ///   - aliasDistance: 2π/du.
  /// - Returns: nil where the integrand decays too slowly.
  init?(_ losses: LossComposition, c: Double, aliasDistance: Double) {
    self.c = c
    step = 2 * Double.pi / aliasDistance
    cumulant = losses.cumulant(c)
    guard cumulant.isFinite, step > 0, step.isFinite else { return nil }
    amplitudes.reserveCapacity(512)
    phases.reserveCapacity(512)
    var moments = ComplexMoments()
    var logarithms = [Double](repeating: 0, count: Self.largestBlock)
    var arguments = [Double](repeating: 0, count: Self.largestBlock)
    var work = 0.0
    let maximumWork = Self.maximumWork(losses)
    while amplitudes.count < Self.maximumNodes {
      let start = amplitudes.count
      // A new block costs each point some transcendental functions; short ones at first, as few nodes may do.
      let block = start < 96 ? 32 : Self.largestBlock
      for k in 0..<block {
        let u = Double(start + k) * step
        logarithms[k] = losses.squaredMu * (c * c + c - u * u) / 2
        arguments[k] = losses.squaredMu * (2 * c + 1) * u / 2
      }
      for group in losses.groups {
        guard
          moments.evaluate(
            group,
            power: losses.direction.power(c),
            sign: losses.direction.sign,
            firstFrequency: Double(start) * step,
            frequencyStep: step,
            count: block
          )
        else { return nil }
        let steps = Double(group.steps)
        for k in 0..<block {
          logarithms[k] += steps * moments.logarithms[k]
          arguments[k] += steps * moments.arguments[k]
        }
        if start == 0 { relativeError += steps * moments.roundOff }
        work += Double(moments.points * block)
      }
      var largest = 0.0
      for k in 0..<block {
        let u = Double(start + k) * step
        // 1/(s·(s + 1)) = 1/|…| at minus the arguments of both factors.
        let amplitude = exp(logarithms[k] - cumulant) / (hypot(c, u) * hypot(c + 1, u))
        guard amplitude.isFinite else { return nil }
        largest = max(largest, amplitude)
        amplitudes.append(amplitude)
        phases.append(arguments[k] - atan2(u, c) - atan2(u, c + 1))
      }
      if largest <= amplitudes[0] * Self.cutOff { return }
      // What the rest will cost if the decay goes on as it has on average: no use in going on to the limit.
      let share = log(largest / amplitudes[0]) / log(Self.cutOff)
      let expected = amplitudes.count >= 352 ? work / max(share, 1e-3) : work
      guard expected <= maximumWork else { return nil }
    }
    return nil
  }

  /// ln of an upper bound of δ(ε), and its derivative by ε; the bound contains what rounding may have taken away.
  func logDelta(_ epsilon: Double) -> (value: Double, slope: Double) {
    var sum = 0.5 * amplitudes[0]
    var derivative = 0.5 * amplitudes[0] * c
    var noise = 0.0
    for k in 1..<amplitudes.count {
      let u = Double(k) * step
      let phase = phases[k] - u * epsilon
      let (sine, cosine) = (sin(phase), cos(phase))
      sum += amplitudes[k] * cosine
      // −d/dε brings a factor c + iu.
      derivative += amplitudes[k] * (c * cosine - u * sine)
      noise += amplitudes[k] * (8 + abs(phases[k]) + u * epsilon)
    }
    let bound = max(sum, 0) + 0x1p-52 * (noise + 8 * amplitudes[0])
    let value = cumulant - c * epsilon + log(bound * step / Double.pi) + relativeError + abs(cumulant) * 0x1p-50
    return (value, -derivative / bound)
  }
}
