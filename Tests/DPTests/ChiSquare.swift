import Foundation

/// Pearson's χ² with the limits that the tests of this room use.
enum ChiSquare {
  static func statistic(observed: [Int], expected: [Double]) -> Double {
    zip(observed, expected).map { (Double($0) - $1) * (Double($0) - $1) / $1 }.reduce(0, +)
  }

  /// Exceeded by chance with probability about 3e-7 (Wilson and Hilferty's cube root, five standard deviations).
  static func limit(degrees: Int) -> Double {
    let d = Double(degrees)
    return d * pow(1 - 2 / (9 * d) + 5 * (2 / (9 * d)).squareRoot(), 3)
  }

  /// Counts of values in bins between ascending edges; the first and last bins are open.
  static func histogram(_ values: [Int64], edges: [Int64]) -> [Int] {
    var counts = [Int](repeating: 0, count: edges.count + 1)
    for value in values {
      var low = 0
      var high = edges.count
      while low < high {
        let middle = (low + high) / 2
        if value < edges[middle] { high = middle } else { low = middle + 1 }
      }
      counts[low] += 1
    }
    return counts
  }

  /// P(Z < x) for a standard normal Z.
  static func normal(below x: Double) -> Double { 0.5 * erfc(-x / 2.0.squareRoot()) }
}
