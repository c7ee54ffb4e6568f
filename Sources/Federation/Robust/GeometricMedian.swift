/// The smoothed geometric median of the updates (Pillutla, Kakade, Harchaoui 2022, "Robust Aggregation for Federated Learning").
///
/// It minimises Σ ‖v − wᵢ‖ over v, with ‖u‖ replaced by ‖u‖²/(2ν) + ν/2 below ν, by Weiszfeld's steps
/// v ← Σ βᵢ wᵢ / Σ βᵢ with βᵢ = 1 / max(ν, ‖v − wᵢ‖), from the state that the round started from: nobody's choice but the run's.
/// Each step is one walk over the updates, which both makes the new v of a block and measures distances from it.
///
/// **When it ends.** A step's length is at most Σ |Δλᵢ| ‖v − wᵢ‖ with λ the normalised β. Once that is below 10⁻⁹ of the
/// harmonic mean of the distances, no further step would show in a float.
enum GeometricMedian {
  static let tolerance = 1e-9

  static func find(_ table: UpdateTable, smoothing: Double, iterations: Int) throws -> RobustOutcome {
    let count = table.rows.count
    var distances = try NormBound.norms(table)
    var shares = [Double](repeating: 0, count: count)
    var result = [Float](repeating: 0, count: table.width)
    for _ in 0..<iterations {
      let (next, mean) = weights(distances, smoothing: smoothing)
      let length = zip(zip(next, shares), distances).reduce(0) { $0 + abs($1.0.0 - $1.0.1) * $1.1 }
      let isFirst = shares.allSatisfy { $0 == 0 }
      if !isFirst, length <= tolerance * mean { break }
      shares = next
      distances = try step(table, shares: shares, result: &result)
    }
    return RobustOutcome(tensors: try table.tensors(from: result), leftOut: [], scaledDown: [])
  }

  /// λ, and the harmonic mean of the distances, none of which counts as less than the smoothing.
  private static func weights(_ distances: [Double], smoothing: Double) -> (shares: [Double], mean: Double) {
    let inverses = distances.map { 1 / max(smoothing, $0) }
    let sum = inverses.reduce(0, +)
    return (inverses.map { $0 / sum }, Double(distances.count) / sum)
  }

  /// Puts Σ λᵢ wᵢ into `result`, and returns each update's distance from it before it was rounded to floats.
  private static func step(_ table: UpdateTable, shares: [Double], result: inout [Float]) throws -> [Double] {
    var squares = [Double](repeating: 0, count: shares.count)
    let scratch = UnsafeMutablePointer<Double>.allocate(capacity: UpdateTable.chunkLength)
    defer { scratch.deallocate() }
    var centre: [Double] = []
    try table.forEachBlock { block in
      if centre.count < block.count { centre = [Double](repeating: 0, count: block.count) }
      centre.withUnsafeMutableBufferPointer { centre in
        guard let base = centre.baseAddress else { return }
        for index in 0..<block.count { base[index] = 0 }
        for (row, share) in shares.enumerated() {
          let values = block.row(row)
          for index in 0..<block.count { base[index] += share * Double(values[index]) }
        }
        for index in 0..<block.count { result[block.offset + index] = Float(base[index]) }
        SquaredDistances.add(block, from: base, to: &squares, scratch: scratch)
      }
    }
    return squares.map { $0.squareRoot() }
  }
}
