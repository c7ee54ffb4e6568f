/// How far two lists of numbers go together, from −1 to 1.
public enum Correlation {
  /// Pearson's r: covariance over the product of the standard deviations. Sums are taken over differences from the means.
  /// - Returns: nil for fewer than two pairs, or where one list is constant or not finite.
  /// - Throws: `MetricError` for two lists of different length.
  public static func pearson(_ left: [Double], _ right: [Double]) throws(MetricError) -> Double? {
    try MetricError.check(left.count, right.count)
    guard left.count > 1 else { return nil }
    let count = Double(left.count)
    let (leftMean, rightMean) = (left.reduce(0, +) / count, right.reduce(0, +) / count)
    var (cross, leftSquares, rightSquares) = (0.0, 0.0, 0.0)
    for (x, y) in zip(left, right) {
      cross += (x - leftMean) * (y - rightMean)
      leftSquares += (x - leftMean) * (x - leftMean)
      rightSquares += (y - rightMean) * (y - rightMean)
    }
    let scale = leftSquares.squareRoot() * rightSquares.squareRoot()
    guard scale > 0, scale.isFinite else { return nil }
    return max(-1, min(1, cross / scale))
  }

  /// Spearman's ρ: Pearson's r of the ranks; equals share the mean of their ranks.
  /// - Returns: nil as `pearson` does, and where a value is not a number.
  /// - Throws: `MetricError` for two lists of different length.
  public static func spearman(_ left: [Double], _ right: [Double]) throws(MetricError) -> Double? {
    try MetricError.check(left.count, right.count)
    if left.contains(where: \.isNaN) || right.contains(where: \.isNaN) { return nil }
    return try pearson(ranks(left), ranks(right))
  }

  /// The rank of each value from 1 on; equals share the mean of their ranks.
  static func ranks(_ values: [Double]) -> [Double] {
    let order = values.indices.sorted { values[$0] < values[$1] }
    var result = [Double](repeating: 0, count: values.count)
    var start = 0
    while start < order.count {
      var end = start + 1
      while end < order.count, values[order[end]] == values[order[start]] { end += 1 }
      for place in start..<end { result[order[place]] = Double(start + 1 + end) / 2 }
      start = end
    }
    return result
  }
}
