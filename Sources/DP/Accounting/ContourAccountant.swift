import Foundation

/// The least ε for a δ by the contour integral, certified by a second contour.
enum ContourAccountant {
  /// By how much δ is lowered before it is looked for. It covers what remains of the quadrature's errors.
  static let safety = log1p(-1e-6)
  /// The nats by which terms of the trapezoidal rule other than the wanted one lie below it.
  private static let aliasNats = 24.0
  /// The two contours' ln δ must agree so well, which is half of what `safety` allows for.
  private static let agreement = 5e-7

  /// - Parameter bound: the Chernoff bound for this δ.
  /// - Returns: an ε that is not below the least one and above it by about 1e-6/c; nil where the integrand decays too
  ///   slowly or two contours disagree.
  static func epsilon(_ losses: LossComposition, logDelta: Double, bound: LossComposition.ChernoffBound) -> Double? {
    guard bound.epsilon > 0 else { return 0 }
    let target = logDelta + safety
    guard let first = solve(losses, target: target, bound: bound, fraction: 0.6, from: bound.epsilon),
      let second = solve(losses, target: target, bound: bound, fraction: 0.45, from: max(first.epsilon, 0))
    else { return nil }
    // Differences of ε count by what they do to ln δ.
    let gap = abs(first.epsilon - second.epsilon) * max(first.slope, second.slope)
    guard gap <= agreement || first.epsilon == second.epsilon else { return nil }
    return max(first.epsilon, second.epsilon)
  }

  /// Finds the root below `upper`. The contour's alias distance is made for an ε near the root, so it is made again
  /// when the root lies far below.
  private static func solve(
    _ losses: LossComposition,
    target: Double,
    bound: LossComposition.ChernoffBound,
    fraction: Double,
    from start: Double
  ) -> (epsilon: Double, slope: Double)? {
    let c = bound.c * fraction
    let below = (aliasNats - target) / c
    func distance(_ epsilon: Double) -> Double {
      let excess = max(0, bound.cumulant - bound.c * epsilon)
      return max(below, (aliasNats - target + excess) / (bound.c - c))
    }
    var used = distance(start)
    for _ in 0..<4 {
      guard let nodes = ContourNodes(losses, c: c, aliasDistance: used),
        let root = root(nodes, target: target, upper: bound.epsilon, width: 20 / c)
      else { return nil }
      // Six nats less than asked for still leave the aliases far below the safety.
      let needed = distance(root.epsilon)
      if needed <= used + 6 / (bound.c - c) { return root }
      used = needed
    }
    return nil
  }

  /// Newton's method on ln δ in a shrinking bracket.
  private static func root(
    _ nodes: ContourNodes,
    target: Double,
    upper: Double,
    width: Double
  ) -> (epsilon: Double, slope: Double)? {
    var high = upper
    var low = max(0, upper - width)
    let atLow = nodes.logDelta(low)
    guard atLow.value > target else {
      // At 0 it is the answer; elsewhere the root is too far below for this contour's digits.
      return low == 0 ? (0, -atLow.slope) : nil
    }
    // Rounding may leave the bound itself a hair short; then the root is beyond it by as little.
    let atHigh = nodes.logDelta(high)
    if atHigh.value > target { high += 2 * (atHigh.value - target) / max(-atHigh.slope, 1e-300) }
    guard nodes.logDelta(high).value <= target else { return nil }
    var epsilon = (low + high) / 2
    var slope = 0.0
    for _ in 0..<100 {
      let at = nodes.logDelta(epsilon)
      slope = at.slope
      if at.value > target { low = epsilon } else { high = epsilon }
      let newton = epsilon - (at.value - target) / at.slope
      let next = newton > low && newton < high ? newton : (low + high) / 2
      if abs(next - epsilon) * abs(slope) <= 1e-11 || high - low <= 4 * high.ulp { break }
      epsilon = next
    }
    // A step to the safe side of the root.
    let safe = epsilon + 1e-10 / max(abs(slope), 1e-300)
    return nodes.logDelta(safe).value <= target ? (safe, abs(slope)) : (high, abs(slope))
  }
}
