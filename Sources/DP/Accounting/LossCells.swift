import Foundation

/// The privacy loss of one step on the grid of multiples of a spacing, so that it dominates the true one.
///
/// The mass of a cell goes to its two ends so that its total and its E[exp(−L)] stay ("connect the dots", Doroshenko
/// et al. 2022): to the upper end ∫ (1 − exp(l − L))/(1 − exp(−h)) dP with l the lower end. These integrals are taken
/// by Gauss–Legendre quadrature; as differences of δ(ε) they would lose their digits in the tail.
struct LossCells {
  /// The grid index of the first mass.
  private(set) var firstIndex = 0
  /// Masses at consecutive grid points.
  private(set) var masses: [Double] = []
  /// Mass at infinity.
  private(set) var infinity = 0.0

  /// - Parameters:
  ///   - spacing: the grid's, h.
  ///   - neglected: how much mass may be moved to infinity.
  init(_ step: SubsampledGaussian, direction: SubsampledGaussian.Direction, spacing: Double, neglected: Double) {
    let range = Self.range(step, direction: direction, neglected: neglected)
    let sign = direction.sign
    let losses = Self.bounds(step, direction: direction, range: range)
    let lowest = Int((losses.lowerBound / spacing).rounded(.down))
    let highest = max(Int((losses.upperBound / spacing).rounded(.up)), lowest + 1)
    firstIndex = lowest
    masses = [Double](repeating: 0, count: highest - lowest + 1)
    let normal = 1 / (step.sigma * (2 * Double.pi).squareRoot())
    let precision = 1 / (2 * step.sigma * step.sigma)
    let all = -expm1(-spacing)
    var next = step.x(atLogRatio: sign * Double(lowest) * spacing)
    for cell in lowest..<highest {
      let start = next
      let end = step.x(atLogRatio: sign * Double(cell + 1) * spacing)
      next = end
      let from = max(min(start, end), range.lowerBound)
      let to = min(max(start, end), range.upperBound)
      guard from < to else { continue }
      let pieces = max(1, ((to - from) / (0.25 * step.sigma)).rounded(.up))
      let width = (to - from) / pieces
      var lower = 0.0
      var upper = 0.0
      for piece in 0..<Int(pieces) {
        // Narrow cells need fewer nodes for the same ten digits.
        for (node, weight) in width < 0.04 * step.sigma ? Self.threeNodes : Self.fiveNodes {
          let x = from + width * (Double(piece) + 0.5 + 0.5 * node)
          let (excess, logRatio) = step.excessAndLog(x)
          var mass = 0.5 * width * weight * normal * exp(-x * x * precision)
          // Above, the excess is capped, but there the density of the shifted component is what counts.
          if direction == .remove { mass *= logRatio > 40 ? exp(logRatio) : 1 + excess }
          let share = min(max(-expm1(Double(cell) * spacing - sign * logRatio) / all, 0), 1)
          upper += mass * share
          lower += mass * (1 - share)
        }
      }
      masses[cell - lowest] += lower
      masses[cell - lowest + 1] += upper
    }
    cutTails(step, direction: direction, range: range)
  }

  /// ln E[exp(power·L)] of the finite masses.
  func cumulant(_ power: Double, spacing: Double) -> Double {
    var largest = -Double.infinity
    for (offset, mass) in masses.enumerated() where mass > 0 {
      largest = max(largest, log(mass) + power * spacing * Double(firstIndex + offset))
    }
    var sum = 0.0
    for (offset, mass) in masses.enumerated() where mass > 0 {
      sum += mass * exp(power * spacing * Double(firstIndex + offset) - largest)
    }
    return largest + log(sum)
  }

  /// The losses between which all but at most `neglected` mass on either side lies.
  static func bounds(
    _ step: SubsampledGaussian,
    direction: SubsampledGaussian.Direction,
    neglected: Double
  ) -> ClosedRange<Double> {
    bounds(step, direction: direction, range: range(step, direction: direction, neglected: neglected))
  }

  private static func bounds(
    _ step: SubsampledGaussian,
    direction: SubsampledGaussian.Direction,
    range: ClosedRange<Double>
  ) -> ClosedRange<Double> {
    let ends = (direction.sign * step.logRatio(range.lowerBound), direction.sign * step.logRatio(range.upperBound))
    return min(ends.0, ends.1)...max(ends.0, ends.1)
  }

  /// What lies below the range of losses goes up to its lowest cell, what lies above it to infinity.
  private mutating func cutTails(
    _ step: SubsampledGaussian,
    direction: SubsampledGaussian.Direction,
    range: ClosedRange<Double>
  ) {
    let below = NormalTail.upper(-range.lowerBound / step.sigma)
    let above = NormalTail.upper(range.upperBound / step.sigma)
    switch direction {
    case .remove:
      masses[1] += (1 - step.rate) * below + step.rate * NormalTail.upper((1 - range.lowerBound) / step.sigma)
      infinity = (1 - step.rate) * above + step.rate * NormalTail.upper((range.upperBound - 1) / step.sigma)
    case .add:
      masses[1] += above
      infinity = below
    }
  }

  /// The stretch of x outside of which at most `neglected` mass lies on either side.
  private static func range(
    _ step: SubsampledGaussian,
    direction: SubsampledGaussian.Direction,
    neglected: Double
  ) -> ClosedRange<Double> {
    func tail(_ distance: Double, isUpper: Bool) -> Double {
      let plain = NormalTail.upper(distance)
      guard direction == .remove else { return plain }
      let shift = (isUpper ? -1 : 1) / step.sigma
      return (1 - step.rate) * plain + step.rate * NormalTail.upper(distance + shift)
    }
    func distance(isUpper: Bool) -> Double {
      var low = 0.0
      var high = 38 + 1 / step.sigma
      for _ in 0..<60 {
        let middle = (low + high) / 2
        if tail(middle, isUpper: isUpper) > neglected { low = middle } else { high = middle }
      }
      return high
    }
    return -distance(isUpper: false) * step.sigma...distance(isUpper: true) * step.sigma
  }

  /// Nodes and weights of the Gauss–Legendre rules with 3 and 5 nodes (Abramowitz & Stegun, table 25.4).
  private static let threeNodes: [(node: Double, weight: Double)] = [
    (-0.774596669241483377035853079956, 0.555555555555555555555555555556),
    (0, 0.888888888888888888888888888889),
    (0.774596669241483377035853079956, 0.555555555555555555555555555556),
  ]
  private static let fiveNodes: [(node: Double, weight: Double)] = [
    (-0.906179845938663992797626878299, 0.236926885056189087514264040720),
    (-0.538469310105683091036314420700, 0.478628670499366468041291514836),
    (0, 0.568888888888888888888888888889),
    (0.538469310105683091036314420700, 0.478628670499366468041291514836),
    (0.906179845938663992797626878299, 0.236926885056189087514264040720),
  ]
}
