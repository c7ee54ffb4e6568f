/// Norm bounding (Sun et al. 2019): each client's difference from the state that the round started from is scaled down to a norm
/// over all tensors together, and the differences are averaged.
///
/// A client then moves the result by no more than the bound over n. It does not see directions: f clients that agree move it
/// by f times that, round after round.
enum NormBound {
  /// The state moved by the mean of the bounded differences, each element rounded once.
  static func mean(_ table: UpdateTable, limit: RobustRule.NormLimit) throws -> RobustOutcome {
    let norms = try norms(table)
    let bound =
      switch limit {
      case .stated(let bound): bound
      case .medianTimes(let factor): factor * median(norms)
      }
    let factors = norms.map { $0 > bound ? bound / $0 : 1 }
    let divisor = Double(table.rows.count)
    let tensors = try table.tensors { block, result in
      for index in 0..<block.count {
        let old = Double(block.start[index])
        var sum = 0.0
        for (row, factor) in factors.enumerated() {
          sum += (Double(block.values[row * block.stride + index]) - old) * factor
        }
        result[index] = Float(old + sum / divisor)
      }
    }
    return RobustOutcome(
      tensors: tensors,
      leftOut: [],
      scaledDown: zip(table.rows, norms).filter { $0.1 > bound }.map(\.0.name)
    )
  }

  /// The norm of each client's difference.
  static func norms(_ table: UpdateTable) throws -> [Double] {
    var squares = [Double](repeating: 0, count: table.rows.count)
    let scratch = UnsafeMutablePointer<Double>.allocate(capacity: UpdateTable.chunkLength)
    defer { scratch.deallocate() }
    try table.forEachBlock { block in
      let centre = block.start.map(Double.init)
      centre.withUnsafeBufferPointer { centre in
        guard let base = centre.baseAddress else { return }
        SquaredDistances.add(block, from: base, to: &squares, scratch: scratch)
      }
    }
    return squares.map { $0.squareRoot() }
  }

  /// Of an even number the mean of the two in the middle. With f below half of the values both of them lie within the
  /// range of the honest ones.
  static func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return 0 }
    return (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
  }
}
