import Foundation

/// Rényi divergence of a Gaussian step on a uniform subset without replacement, between data sets that differ in the
/// content of one example.
enum FixedSizeRDP {
  /// The orders up to which the bound is worked out; larger ones get the unamplified divergence.
  static let maximumOrder = 256.0

  /// The bound of Wang, Balle and Kasiviswanathan 2019 (theorem 27 of arXiv:1808.00087) for a step of sensitivity 1:
  ///
  ///     (α − 1)·D ≤ ln(1 + q²·C(α, 2)·min(4(e^{D₂} − 1), 2e^{D₂})
  ///                     + Σ_{j=3…α} q^j·C(α, j)·min(4·√(B(2⌊j/2⌋)·B(2⌈j/2⌉)), 2e^{(j−1)·D_j}))
  ///
  /// where the second choice in each term is theorem 9's bound of the same moment, D_j = j/(2σ²), and B(l) is the l-th
  /// forward difference at 0 of exp(k(k − 1)/(2σ²)). That equals E over N(0, σ²) of (exp((2x − 1)/(2σ²)) − 1)^l, which
  /// for even l has no cancellation. Between integer orders (α − 1)·D is convex, so a straight line bounds it.
  static func divergence(order: Double, rate: Double, sigma: Double) -> Double {
    let unamplified = order / (2 * sigma * sigma)
    guard order <= maximumOrder else { return unamplified }
    let floor = order.rounded(.down)
    let lower = floor == 1 ? 0 : logMoment(Int(floor), rate: rate, sigma: sigma)
    let part = order - floor
    let upper = part == 0 ? 0 : logMoment(Int(floor) + 1, rate: rate, sigma: sigma)
    return min((lower * (1 - part) + upper * part) / (order - 1), unamplified)
  }

  /// The bound of (α − 1)·D for an integer order.
  private static func logMoment(_ order: Int, rate: Double, sigma: Double) -> Double {
    let second = 1 / (sigma * sigma)
    var sum = logBinomial(order, 2) + 2 * log(rate) + min(log(4) + logExpm1(second), log(2) + second)
    for j in stride(from: 3, through: order, by: 1) {
      let odd = j % 2 == 1
      let lower = logDifference(odd ? j - 1 : j, sigma: sigma)
      let both = odd ? lower + logDifference(j + 1, sigma: sigma) : 2 * lower
      let plain = log(2) + Double(j * (j - 1)) / (2 * sigma * sigma)
      sum = logSum(sum, logBinomial(order, j) + Double(j) * log(rate) + min(log(4) + both / 2, plain))
    }
    return logSum(0, sum)
  }

  /// ln B(l) for an even l, by the trapezoidal rule; the integrand is entire, so that it converges exponentially.
  private static func logDifference(_ l: Int, sigma: Double) -> Double {
    let precision = 1 / (2 * sigma * sigma)
    let reach = 13 * sigma
    // Powers narrow the peaks to about σ/√l where the exponential is still close to 1.
    let spacing = sigma / (8 + Double(l).squareRoot())
    let upper = Double(l) + reach
    let count = Int(((upper + reach) / spacing).rounded(.up))
    func exponent(_ index: Int) -> Double {
      let x = -reach + Double(index) * spacing
      return Double(l) * log(abs(expm1((2 * x - 1) * precision))) - x * x * precision
    }
    var largest = -Double.infinity
    for index in 0...count { largest = max(largest, exponent(index)) }
    var sum = 0.0
    for index in 0...count { sum += exp(exponent(index) - largest) }
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
