import Foundation

/// The privacy loss of all steps together, in one direction, through its cumulant generating function
/// K(c) = Σ steps · ln E[exp(c·L)].
struct LossComposition: Sendable {
  let direction: SubsampledGaussian.Direction
  /// The steps with sub-sampling, equal ones merged.
  let groups: [SubsampledGaussian]
  /// Σ steps/σ² of the steps without sub-sampling, which are Gaussian in closed form.
  let squaredMu: Double

  /// K(c) for a real c above −1; +∞ where it is out of reach.
  func cumulant(_ c: Double) -> Double {
    var sum = squaredMu * c * (c + 1) / 2
    for group in groups {
      sum += Double(group.steps) * group.logMoment(power: direction.power(c))
      if sum == .infinity { return sum }
    }
    return sum
  }

  /// The best bound of the form δ(ε) ≤ exp(K(c) − c·ε)·cᶜ/(c+1)^(c+1), solved for ε: the conversion from Rényi
  /// divergence of order c + 1 (Canonne, Kamath and Steinke 2020, proposition 12), over all orders and not a list.
  struct ChernoffBound {
    let c: Double
    let cumulant: Double
    let epsilon: Double
  }

  /// The ε of `ChernoffBound` is quasi-convex in c, so a search in ln c finds its least value.
  /// - Returns: nil where K is out of reach everywhere.
  func chernoffBound(logDelta: Double) -> ChernoffBound? {
    func bound(_ logC: Double) -> ChernoffBound {
      let c = exp(logC)
      let cumulant = self.cumulant(c)
      let entropy = c * -log1p(1 / c) - log1p(c)
      return ChernoffBound(c: c, cumulant: cumulant, epsilon: (cumulant + entropy - logDelta) / c)
    }
    var best = bound(0)
    var low = -2.0
    var high = 2.0
    // Walk downhill in growing steps until the least value is bracketed.
    let right = bound(1)
    let downhill = right.epsilon < best.epsilon ? 1.0 : -1.0
    var at = downhill > 0 ? 1.0 : 0.0
    if downhill > 0 { best = right }
    var step = 1.0
    var behind = at - downhill
    while true {
      let next = at + downhill * step
      guard abs(next) < 80 else { return best.epsilon.isFinite ? best : nil }
      let candidate = bound(next)
      // Far too large a c gives +∞: go on to smaller ones.
      if candidate.epsilon < best.epsilon || (candidate.epsilon == .infinity && best.epsilon == .infinity) {
        best = candidate
        behind = at
        at = next
        step *= 1.6
      } else {
        low = min(behind, next)
        high = max(behind, next)
        break
      }
    }
    let golden = 0.381_966_011_250_105
    var inner = low + golden * (high - low)
    var outer = high - golden * (high - low)
    var first = bound(inner)
    var second = bound(outer)
    while high - low > 0.02 {
      if first.epsilon < second.epsilon {
        high = outer
        outer = inner
        second = first
        inner = low + golden * (high - low)
        first = bound(inner)
      } else {
        low = inner
        inner = outer
        first = second
        outer = high - golden * (high - low)
        second = bound(outer)
      }
      if first.epsilon < best.epsilon { best = first }
      if second.epsilon < best.epsilon { best = second }
    }
    return best.epsilon.isFinite ? best : nil
  }
}
