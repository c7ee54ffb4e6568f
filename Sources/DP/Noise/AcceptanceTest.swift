/// Whether u < exp(−t), t = f·(i + f/2)/256, for real u and f of which the first binary digits are known.
///
/// In fixed point with as many binary places as the digits have (64 or 128), every error bounded. With E = 1 − exp(−t) the
/// question is E < 1 − u, and E is the alternating series t − t²/2! + t³/3! − …, whose terms fall as t < 1.
package enum AcceptanceTest {
  /// In units of the last place: t is known to 3 (its two truncated products, and the digits of f to come, by which t grows
  /// at most (i + 1)/256 < 1); dE/dt ≤ 1. Each of up to 36 terms is short by at most 1.8 (1 for its truncation, and
  /// t/k ≤ 0.42 times what the term before is short, from the second on), and the first term left out is below 1.
  package static let margin = 70

  /// - Parameters:
  ///   - cell: i, below 212, so that t < 1.
  ///   - fraction: the first digits of f.
  ///   - level: the first digits of u.
  /// - Returns: nil when it depends on further digits.
  @inline(__always)
  package static func keeps<Digits: FixedWidthInteger & UnsignedInteger>(
    cell: Digits,
    fraction: Digits,
    level: Digits
  ) -> Bool? {
    let linear = cell.multipliedFullWidth(by: fraction)
    let square = fraction.multipliedFullWidth(by: fraction).high
    let t = (linear.high << (Digits.bitWidth - 8) | Digits(truncatingIfNeeded: linear.low) >> 8) + square >> 9
    var sum = t
    var term = t
    var factor: Digits = 2
    while term != 0 {
      term = term.multipliedFullWidth(by: t).high / factor
      if factor & 1 == 0 { sum -= term } else { sum += term }
      factor += 1
    }
    // 1 − u lies in (rest, rest + 1] units; E within `margin` of the sum.
    let rest = ~level
    let margin = Digits(Self.margin)
    if sum + margin <= rest { return true }
    if sum > margin, sum - margin > rest { return false }
    return nil
  }
}
