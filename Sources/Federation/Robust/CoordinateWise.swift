/// Rules that look at each coordinate for itself: they commute with shifts, so they take the updates as they are.
///
/// The values of a coordinate are sorted by Batcher's merge exchange (Knuth, The Art of Computer Programming, volume 3, 5.2.2,
/// algorithm M): the comparisons do not depend on the values, so that each of them is done for a whole block of coordinates at
/// once, as vector code. Cost: about n·(log₂ n)²/4 comparisons for a coordinate of n updates.
enum CoordinateWise {
  /// Which rows to compare in which order; after that the lower row of each coordinate is never above the higher.
  static func comparisons(rows count: Int) -> [(low: Int, high: Int)] {
    guard count > 1 else { return [] }
    var pairs: [(low: Int, high: Int)] = []
    var top = 1
    while top * 2 < count { top *= 2 }
    var p = top
    while p > 0 {
      var (q, r, d) = (top, 0, p)
      while true {
        for i in 0..<(count - d) where i & p == r { pairs.append((i, i + d)) }
        if q == p { break }
        d = q - p
        q /= 2
        r = p
      }
      p /= 2
    }
    return pairs
  }

  /// Sorts each coordinate of the block.
  static func sort(_ block: UpdateTable.Block, _ comparisons: [(low: Int, high: Int)]) {
    guard let base = block.values.baseAddress else { return }
    for (low, high) in comparisons {
      let (lower, upper) = (base + low * block.stride, base + high * block.stride)
      for index in 0..<block.count {
        let (a, b) = (lower[index], upper[index])
        lower[index] = b < a ? b : a
        upper[index] = b < a ? a : b
      }
    }
  }

  /// The mean of each coordinate without its `trimmed` smallest and as many largest values: a trimmed mean, and with all but one
  /// or two left out the median. Added from the smallest up, in double precision.
  static func mean(_ table: UpdateTable, trimmed: Int) throws -> RobustOutcome {
    let count = table.rows.count
    let comparisons = comparisons(rows: count)
    let divisor = Double(count - 2 * trimmed)
    let sums = UnsafeMutableBufferPointer<Double>.allocate(capacity: table.blockLength)
    defer { sums.deallocate() }
    let tensors = try table.tensors { block, result in
      sort(block, comparisons)
      for index in 0..<block.count { sums[index] = 0 }
      for row in trimmed..<(count - trimmed) {
        let values = block.row(row)
        for index in 0..<block.count { sums[index] += Double(values[index]) }
      }
      for index in 0..<block.count { result[index] = Float(sums[index] / divisor) }
    }
    return RobustOutcome(tensors: tensors, leftOut: [], scaledDown: [])
  }
}
