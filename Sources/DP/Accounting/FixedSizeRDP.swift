import Foundation

/// Rényi divergence of a Gaussian step on a uniform subset without replacement, between data sets that differ in the
/// content of one example.
///
/// The bound of Wang, Balle and Kasiviswanathan 2019 (theorem 27 of arXiv:1808.00087) for a step of sensitivity 1 is
///
///     (α − 1)·D ≤ ln(1 + q²·C(α, 2)·min(4(e^{D₂} − 1), 2e^{D₂})
///                     + Σ_{j=3…α} q^j·C(α, j)·min(4·√(B(2⌊j/2⌋)·B(2⌈j/2⌉)), 2e^{(j−1)·D_j}))
///
/// where the second choice in each term is theorem 9's bound of the same moment, D_j = j/(2σ²), and B(l) is the l-th
/// forward difference at 0 of exp(k(k − 1)/(2σ²)). That equals E over N(0, σ²) of (exp((2x − 1)/(2σ²)) − 1)^l, which
/// for even l has no cancellation. Between integer orders (α − 1)·D is convex, so a straight line bounds it.
struct FixedSizeRDP {
  /// The order up to which the bound is worked out; larger ones get the unamplified divergence.
  static let maximumOrder = 256.0
  /// The σ for which it is worked out. Below them a step has next to no privacy and the quadrature no end; above them the
  /// unamplified divergence is next to nothing and the differences vanish in rounding.
  static let sigmas = PrivacyAccountant.leastSensibleNoise...1e6

  private let rate: Double
  private let sigma: Double
  /// ln B(2), ln B(4), …, as far as they were needed.
  private var differences: [Double] = []

  init(rate: Double, sigma: Double) {
    self.rate = rate
    self.sigma = sigma
  }

  /// A bound of the divergence of `order`, above 1.
  mutating func divergence(order: Double) -> Double {
    let unamplified = order / (2 * sigma * sigma)
    guard order <= Self.maximumOrder, Self.sigmas.contains(sigma) else { return unamplified }
    let floor = order.rounded(.down)
    let lower = floor == 1 ? 0 : logMoment(Int(floor))
    let part = order - floor
    let upper = part == 0 ? 0 : logMoment(Int(floor) + 1)
    return min((lower * (1 - part) + upper * part) / (order - 1), unamplified)
  }

  /// The bound of (α − 1)·D for an integer order.
  private mutating func logMoment(_ order: Int) -> Double {
    let second = 1 / (sigma * sigma)
    var sum = Self.logBinomial(order, 2) + 2 * log(rate) + min(log(4) + Self.logExpm1(second), log(2) + second)
    for j in stride(from: 3, through: order, by: 1) {
      let both = logDifference(j / 2) + logDifference((j + 1) / 2)
      let plain = log(2) + Double(j * (j - 1)) / (2 * sigma * sigma)
      sum = Self.logSum(sum, Self.logBinomial(order, j) + Double(j) * log(rate) + min(log(4) + both / 2, plain))
    }
    return Self.logSum(0, sum)
  }

  /// ln B(2·half).
  private mutating func logDifference(_ half: Int) -> Double {
    while differences.count < half { differences.append(quadrature(2 * (differences.count + 1))) }
    return differences[half - 1]
  }

  /// ln B(l) for an even l by the trapezoidal rule. The integrand is entire and its peaks are no narrower than σ/√2, so
  /// that a spacing of σ/6 leaves nothing of the error.
  private func quadrature(_ l: Int) -> Double {
    let precision = 1 / (2 * sigma * sigma)
    let reach = 13 * sigma + sigma * Double(l).squareRoot()
    let spacing = sigma / 6
    let count = Int(((Double(l) + 2 * reach) / spacing).rounded(.up))
    // The terms span more than a Double's range: a running sum relative to the largest so far.
    var largest = -Double.infinity
    var sum = 0.0
    for index in 0...count {
      let x = -reach + Double(index) * spacing
      let z = (2 * x - 1) * precision
      let exponent = Double(l) * (z > 0 ? Self.logExpm1(z) : log(-expm1(z))) - x * x * precision
      if exponent > largest {
        sum = sum * exp(largest - exponent) + 1
        largest = exponent
      } else {
        sum += exp(exponent - largest)
      }
    }
    return largest + log(sum * spacing / (sigma * (2 * Double.pi).squareRoot()))
  }

  private static func logBinomial(_ n: Int, _ k: Int) -> Double {
    lgamma(Double(n + 1)) - lgamma(Double(k + 1)) - lgamma(Double(n - k + 1))
  }
  private static func logExpm1(_ x: Double) -> Double { x > 40 ? x + log1p(-exp(-x)) : log(expm1(x)) }
  private static func logSum(_ a: Double, _ b: Double) -> Double {
    let (large, small) = (max(a, b), min(a, b))
    return large == -.infinity ? large : large + log1p(exp(small - large))
  }
}
