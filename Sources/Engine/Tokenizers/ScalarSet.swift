/// A set of Unicode scalars as sorted inclusive ranges that neither overlap nor touch.
struct ScalarSet: Sendable, Equatable {
  /// First, last, first, last and so on.
  private(set) var bounds: [UInt32] = []

  private static let greatest: UInt32 = 0x10FFFF

  init() {}

  /// The set of these ranges, in any order.
  init(ranges: some Sequence<ClosedRange<UInt32>>) {
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = bounds.last, range.lowerBound <= last &+ 1 {
        bounds[bounds.count - 1] = max(last, range.upperBound)
      } else {
        bounds.append(range.lowerBound)
        bounds.append(range.upperBound)
      }
    }
  }

  /// The set of ranges written as first, last, first, last.
  init(pairs: [UInt32]) {
    self.init(ranges: stride(from: 0, to: pairs.count - 1, by: 2).lazy.map { pairs[$0]...pairs[$0 + 1] })
  }

  init(_ scalars: UInt32...) { self.init(ranges: scalars.lazy.map { $0...$0 }) }

  /// The scalars of these general categories, a bit for each as `ScalarCategories.names` numbers them.
  init(categories: UInt32) {
    let runs = ScalarCategories.runs
    for (index, run) in runs.enumerated() where categories >> (run & 31) & 1 == 1 {
      let last = index + 1 < runs.count ? (runs[index + 1] >> 5) - 1 : Self.greatest
      if let end = bounds.last, end + 1 == run >> 5 {
        bounds[bounds.count - 1] = last
      } else {
        bounds.append(run >> 5)
        bounds.append(last)
      }
    }
  }

  private var ranges: some Sequence<ClosedRange<UInt32>> {
    stride(from: 0, to: bounds.count, by: 2).lazy.map { bounds[$0]...bounds[$0 + 1] }
  }

  func union(_ other: ScalarSet) -> ScalarSet { Self.union([self, other]) }

  /// What is in any of some sets.
  static func union(_ sets: [ScalarSet]) -> ScalarSet { ScalarSet(ranges: sets.flatMap { Array($0.ranges) }) }

  func intersection(_ other: ScalarSet) -> ScalarSet { inverted.union(other.inverted).inverted }

  /// Every scalar that is not in the set.
  var inverted: ScalarSet {
    var result = ScalarSet()
    var next: UInt32 = 0
    for range in ranges {
      if next < range.lowerBound {
        result.bounds.append(next)
        result.bounds.append(range.lowerBound - 1)
      }
      next = range.upperBound + 1
    }
    if next <= Self.greatest {
      result.bounds.append(next)
      result.bounds.append(Self.greatest)
    }
    return result
  }

  func contains(_ scalar: UInt32) -> Bool {
    bounds.withUnsafeBufferPointer { Self.contains(scalar, in: $0) }
  }

  /// Whether `scalar` lies in one of the ranges: the number of bounds up to it is odd, or it is an upper bound.
  @inline(__always)
  static func contains(_ scalar: UInt32, in bounds: UnsafeBufferPointer<UInt32>) -> Bool {
    var (low, high) = (0, bounds.count >> 1)
    while low < high {
      let middle = (low + high) >> 1
      if bounds[2 * middle + 1] < scalar { low = middle + 1 } else { high = middle }
    }
    return 2 * low < bounds.count && bounds[2 * low] <= scalar
  }

  /// White space as regular expressions have it (`\s`).
  static let whitespace = ScalarSet(pairs: ScalarRanges.whitespace)
  /// Decimal digits of all scripts (`\d`).
  static let digits = ScalarSet(categories: mask(named: "Nd"))
  /// Letters, marks, decimal digits, connectors and some numbers and symbols (`\w` in a class).
  static let words = ScalarSet(categories: mask(named: "L") | mask(named: "M") | mask(named: "Nd") | mask(named: "Pc"))
    .union(ScalarSet(pairs: ScalarCategories.otherWords))

  /// Words as `\w` outside a class has them: Oniguruma then takes Latin-1 from another table, with ², ³, ¹, ¼, ½ and ¾.
  static let wordsOutsideClass = words.union(ScalarSet(ranges: [0xB2...0xB3, 0xB9...0xB9, 0xBC...0xBE]))

  /// The categories that start with `name`: "L" is every kind of letter, "Lu" the upper case. 0 where none does.
  static func mask(named name: String) -> UInt32 {
    guard !name.isEmpty else { return 0 }
    return ScalarCategories.names.enumerated().reduce(0) { mask, category in
      category.element.hasPrefix(name) ? mask | 1 << UInt32(category.offset) : mask
    }
  }
}
