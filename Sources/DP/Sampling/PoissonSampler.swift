import Foundation

/// Poisson sampling: each example is drawn on its own with one probability, afresh at every step.
///
/// An example is in when its 64 secret bits, as an integer, are below ⌊q·2⁶⁴⌋. The real rate is therefore never above q, which
/// the accountant was told, and below it by less than 2⁻⁶⁴; with the 24 bits of a `Float` it would be 19 % above q = 10⁻⁷.
/// How many are drawn, and which, must stay secret: amplification by sampling rests on it.
public struct PoissonSampler: Sendable, Equatable {
  /// q: what the accountant is told.
  public let rate: Double
  /// An example is in when its word is below this; nil takes all.
  package let threshold: UInt64?

  /// - Parameter rate: q, above 0 and at most 1; 1 takes every example.
  /// - Throws: `PrivacyParameterError` when it is out of range.
  public init(rate: Double) throws {
    guard rate > 0, rate <= 1 else {
      throw PrivacyParameterError.outOfRange("the sampling rate", rate, "above 0 and at most 1")
    }
    self.rate = rate
    // The product is exact, so the conversion is the floor of q·2⁶⁴.
    threshold = rate == 1 ? nil : UInt64(rate * 0x1p64)
  }

  /// The indices of the examples of one step, ascending; often none where the expected number is small.
  ///
  /// Takes 8 bytes of key stream an example, the same number whatever is drawn.
  /// - Parameter count: the number of examples, 0 or more.
  public func draw(count: Int, from stream: inout KeyStream) -> [Int] {
    precondition(count >= 0, "a data set has no negative number of examples")
    guard let threshold else { return Array(0..<count) }
    var drawn = [Int]()
    drawn.reserveCapacity(Int(Double(count) * rate * 1.1) + 16)
    for index in 0..<count where stream.next() < threshold { drawn.append(index) }
    return drawn
  }
}
