/// Sampling of a fixed number of examples without replacement: every subset of that size is equally likely.
///
/// For the replace-one relation, where the number of examples is public.
public struct FixedSizeSampler: Sendable, Equatable {
  /// m: how many examples a step draws.
  public let size: Int
  /// n: how many there are.
  public let count: Int

  /// - Throws: `PrivacyParameterError` unless 1 ≤ `size` ≤ `count`.
  public init(size: Int, count: Int) throws {
    guard size >= 1, size <= count else {
      throw PrivacyParameterError.outOfRange("the batch size", Double(size), "1 to \(count), the number of examples")
    }
    self.size = size
    self.count = count
  }

  /// m/n, rounded up: what the accountant is told.
  public var rate: Double {
    let rate = Double(size) / Double(count)
    return size == count ? 1 : min(1, rate.nextUp)
  }

  /// The indices of the examples of one step, ascending.
  ///
  /// Floyd's algorithm (Bentley and Floyd 1987): one bounded draw an example, without the bias of a remainder. Where more than
  /// half are wanted, those left out are drawn instead.
  public func draw(from stream: inout KeyStream) -> [Int] {
    let isComplement = size > count / 2
    let wanted = isComplement ? count - size : size
    var chosen = Set<Int>(minimumCapacity: wanted)
    for last in (count - wanted)..<count {
      let candidate = stream.draw(below: last + 1)
      chosen.insert(chosen.contains(candidate) ? last : candidate)
    }
    return isComplement ? (0..<count).filter { !chosen.contains($0) } : chosen.sorted()
  }
}
