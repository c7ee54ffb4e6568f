/// How close found numbers are to expected ones, as sums: those of pairs apart add up to those of all.
public struct NumberScore: Sendable, Equatable {
  /// Pairs.
  public private(set) var count = 0
  /// Σ (found − expected)².
  public private(set) var squaredErrors = 0.0
  /// Means of the found and the expected numbers.
  public private(set) var means = (found: 0.0, expected: 0.0)
  /// Σ of squared differences from the means, and of their products.
  public private(set) var moments = (found: 0.0, expected: 0.0, cross: 0.0)
  /// Spearman's ρ of these very pairs; nil where it is not defined, and of added scores: ranks do not add up.
  public private(set) var spearman: Double?

  /// Nothing seen yet.
  public init() {}

  /// Compares numbers in pairs.
  /// - Throws: `MetricError` for two lists of different length.
  public init(found: [Double], expected: [Double]) throws(MetricError) {
    try MetricError.check(expected.count, found.count)
    for (x, y) in zip(found, expected) {
      // Welford's update, as sums of raw squares would lose what is left of them.
      count += 1
      let (left, right) = (x - means.found, y - means.expected)
      means.found += left / Double(count)
      means.expected += right / Double(count)
      moments.found += left * (x - means.found)
      moments.expected += right * (y - means.expected)
      moments.cross += left * (y - means.expected)
      squaredErrors += (x - y) * (x - y)
    }
    spearman = try Correlation.spearman(found, expected)
  }

  /// Mean squared error; nil over nothing.
  public var meanSquaredError: Double? { count == 0 ? nil : squaredErrors / Double(count) }

  /// Pearson's r; nil for fewer than two pairs, or where one side is constant or not finite.
  public var pearson: Double? {
    let scale = moments.found.squareRoot() * moments.expected.squareRoot()
    guard count > 1, scale > 0, scale.isFinite, moments.cross.isFinite else { return nil }
    return max(-1, min(1, moments.cross / scale))
  }

  /// The sums of both together (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
  /// sample variances", 1979).
  public static func + (left: NumberScore, right: NumberScore) -> NumberScore {
    if left.count == 0 { return right }
    if right.count == 0 { return left }
    var sum = NumberScore()
    sum.count = left.count + right.count
    let (share, product) = (
      Double(right.count) / Double(sum.count), Double(left.count) * Double(right.count) / Double(sum.count)
    )
    let found = right.means.found - left.means.found
    let expected = right.means.expected - left.means.expected
    sum.means = (left.means.found + found * share, left.means.expected + expected * share)
    sum.moments = (
      left.moments.found + right.moments.found + found * found * product,
      left.moments.expected + right.moments.expected + expected * expected * product,
      left.moments.cross + right.moments.cross + found * expected * product
    )
    sum.squaredErrors = left.squaredErrors + right.squaredErrors
    return sum
  }

  /// Whether both hold the same sums.
  public static func == (left: NumberScore, right: NumberScore) -> Bool {
    left.count == right.count && left.squaredErrors == right.squaredErrors && left.means == right.means
      && left.moments == right.moments && left.spearman == right.spearman
  }
}
