import Foundation

/// The upper tail Q of the standard normal distribution relative to its density φ, without under- or overflow where
/// the tail itself is far below the smallest `Double`.
enum NormalTail {
  /// Mills' ratio m(x) = Q(x) / φ(x) and −m′(x) = 1 − x·m(x).
  ///
  /// Below 2 by `erfc`; above by Laplace's continued fraction m(x) = 1/(x + 1/(x + 2/(x + 3/(x + …)))) from the inside
  /// out (Abramowitz & Stegun 26.2.14), of which 190 / x² terms give the last bit. With t = 1/(x + 2/(x + …)) it gives
  /// the slope as t/(x + t), where 1 − x·m(x) would cancel.
  /// - Precondition: `x` is at least −37, below which m(x) is above the largest `Double`.
  static func millsRatio(_ x: Double) -> (ratio: Double, negatedSlope: Double) {
    if x == .infinity { return (0, 0) }
    if x < 2 {
      let ratio = 0.5 * erfc(x / 2.0.squareRoot()) / density(x)
      return (ratio, 1 - x * ratio)
    }
    let terms = 12 + Int(400 / (x * x))
    var tail = x
    for k in stride(from: terms, through: 2, by: -1) { tail = x + Double(k) / tail }
    tail = 1 / tail
    return (1 / (x + tail), tail / (x + tail))
  }

  static func logDensity(_ x: Double) -> Double { -0.5 * x * x - 0.5 * log(2 * Double.pi) }
  static func density(_ x: Double) -> Double { exp(logDensity(x)) }
  /// ln Q(x), also where Q(x) is below the least `Double`.
  static func logUpper(_ x: Double) -> Double { x < 2 ? log(upper(x)) : logDensity(x) + log(millsRatio(x).ratio) }
  static func upper(_ x: Double) -> Double { 0.5 * erfc(x / 2.0.squareRoot()) }
}
