import Foundation

/// An upper bound for the least ε from a discretised privacy loss, composed by one Fourier transform for each kind of
/// step.
///
/// Before the transform the masses are tilted by exp(θ·l − κ), so that the tail that δ lives in becomes the bulk and
/// the transform's rounding, which is relative to the whole, is small beside it; a bound of it is added to each cell.
/// The transform is cyclic. What wraps upwards only adds to δ, the more so as undoing the tilt gives it the factor
/// exp(−θ·window) at most; what lies above the window is bounded by Chernoff and added.
enum TiltedPLD {
  /// Grids have at most this many points; then ε gets coarser, never too small.
  private static let maximumPoints = 1 << 21
  private static let minimumPoints = 1 << 13
  /// What is neglected, relative to δ.
  private static let neglect = 1e-9

  /// - Returns: nil where the parameters are out of reach.
  static func epsilon(_ losses: LossComposition, logDelta: Double, bound: LossComposition.ChernoffBound) -> Double? {
    guard bound.epsilon > 0 else { return 0 }
    var groups = losses.groups
    if losses.squaredMu > 0 {
      groups.append(SubsampledGaussian(rate: 1, sigma: 1 / losses.squaredMu.squareRoot(), steps: 1))
    }
    let steps = groups.reduce(0.0) { $0 + Double($1.steps) }
    let target = exp(logDelta + ContourAccountant.safety)
    let neglected = neglect * exp(logDelta)
    let theta = 0.8 * bound.c
    // The window's top is where Chernoff leaves the neglected mass; no taller than what the steps can add up to.
    let top = (losses.cumulant(bound.c) - log(neglected)) / bound.c
    let bottom = max(0, bound.epsilon - 20 / theta)
    let window = max((-log(neglected)) / theta, 1.05 * (top - bottom))
    let wanted = (36e-7 * bound.epsilon / (steps * (theta + 1))).squareRoot()
    guard wanted > 0, window.isFinite else { return nil }
    // A first, coarse look says how far the losses reach; a window that holds all of them wraps nothing.
    var support = 0.0
    for group in groups {
      let range = reach(group, direction: losses.direction, neglected: neglected / steps)
      support += Double(group.steps) * range
    }
    let width = min(window, 1.01 * support + wanted)
    let points = (width / wanted).rounded(.up)
    var count = minimumPoints
    while count < maximumPoints, Double(count) < points { count *= 2 }
    let spacing = width / Double(count - 2 * groups.count - 4)
    guard support / spacing / max(steps, 1) < 3e7 else { return nil }
    return compose(
      groups,
      direction: losses.direction,
      theta: theta,
      chernoff: bound.c,
      count: count,
      spacing: spacing,
      neglected: neglected,
      target: target,
      top: top
    )
  }

  /// How far the losses of one step spread.
  private static func reach(
    _ step: SubsampledGaussian,
    direction: SubsampledGaussian.Direction,
    neglected: Double
  ) -> Double {
    let cells = LossCells.bounds(step, direction: direction, neglected: neglected)
    return cells.upperBound - cells.lowerBound
  }

  private static func compose(
    _ groups: [SubsampledGaussian],
    direction: SubsampledGaussian.Direction,
    theta: Double,
    chernoff: Double,
    count: Int,
    spacing: Double,
    neglected: Double,
    target: Double,
    top: Double
  ) -> Double? {
    let steps = groups.reduce(0.0) { $0 + Double($1.steps) }
    let transform = FourierTransform(count: count)
    var logMagnitude = [Double](repeating: 0, count: count / 2 + 1)
    var angle = logMagnitude
    var kappa = 0.0
    var infinity = 0.0
    var chernoffCumulant = 0.0
    var highest = 0.0
    for group in groups {
      let cells = LossCells(group, direction: direction, spacing: spacing, neglected: neglected / steps)
      let repeats = Double(group.steps)
      infinity += repeats * cells.infinity
      highest += repeats * Double(cells.firstIndex + cells.masses.count - 1)
      chernoffCumulant += repeats * cells.cumulant(chernoff, spacing: spacing)
      let logNorm = cells.cumulant(theta, spacing: spacing)
      kappa += repeats * logNorm
      var real = [Double](repeating: 0, count: count)
      var imaginary = real
      for (offset, mass) in cells.masses.enumerated() where mass > 0 {
        let index = cells.firstIndex + offset
        real[wrapped(index, count)] += mass * exp(theta * spacing * Double(index) - logNorm)
      }
      transform.transform(&real, &imaginary)
      for k in 0...count / 2 {
        logMagnitude[k] += repeats * log(hypot(real[k], imaginary[k]))
        angle[k] += repeats * atan2(imaginary[k], real[k])
      }
    }
    var real = [Double](repeating: 0, count: count)
    var imaginary = real
    for k in 0...count / 2 {
      let magnitude = exp(logMagnitude[k])
      real[k] = magnitude * cos(angle[k])
      imaginary[k] = magnitude * sin(angle[k])
      if k > 0, k < count / 2 {
        real[count - k] = real[k]
        imaginary[count - k] = -imaginary[k]
      }
    }
    transform.transform(&imaginary, &real)
    // Each level of a transform adds a few units in the last place of the whole, which is 1; a power multiplies them.
    let roundOff = (steps + 1) * 4 * log2(Double(count)) * 0x1p-52
    let last = min(Int((top / spacing).rounded(.up)), Int(highest))
    var extra = infinity
    if Double(last) < highest { extra += exp(chernoffCumulant - chernoff * spacing * Double(last)) }
    guard kappa.isFinite, roundOff.isFinite, extra < target else { return nil }
    return crossing(last: last, count: count, spacing: spacing, extra: extra, target: target) { index in
      let tilted = max(real[wrapped(index, count)] / Double(count), 0) + roundOff
      return tilted * exp(kappa - theta * spacing * Double(index))
    }
  }

  private static func wrapped(_ index: Int, _ count: Int) -> Int {
    let rest = index % count
    return rest < 0 ? rest + count : rest
  }

  /// Walks down from the top until δ reaches the target; inside a cell ε follows in closed form.
  private static func crossing(
    last: Int,
    count: Int,
    spacing: Double,
    extra: Double,
    target: Double,
    mass: (Int) -> Double
  ) -> Double? {
    let decay = exp(-spacing)
    var above = extra
    // Σ p·exp(l_i − l) over the masses above grid point i.
    var discounted = 0.0
    for index in stride(from: last, to: last - count, by: -1) {
      let here = mass(index)
      guard here.isFinite else { return nil }
      above += here
      discounted = (discounted + here) * decay
      let point = Double(index - 1) * spacing
      if above - discounted >= target { return max(0, point + log((above - target) / discounted)) }
      if index <= 1 { return 0 }
    }
    return nil
  }
}
