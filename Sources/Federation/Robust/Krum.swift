/// Krum and multi-Krum (Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent").
///
/// The score of an update is the sum of its squared distances to its n − f − 2 nearest others; a hostile update that lies far
/// from the honest ones scores badly. Distances between updates are those between their differences from any common state.
enum Krum {
  /// The rows in ascending order of their scores; of equal scores the one whose name comes first.
  static func ranking(_ squares: [Double], rows count: Int, byzantine: Int) -> [Int] {
    let neighbours = max(0, count - byzantine - 2)
    let scores = (0..<count).map { row in
      let others = (0..<count).filter { $0 != row }.map { squares[row * count + $0] }.sorted()
      return others.prefix(neighbours).reduce(0, +)
    }
    return (0..<count).sorted { (scores[$0], $0) < (scores[$1], $1) }
  }

  /// The mean of the `keep` updates with the least scores; of one, the update itself.
  static func select(_ table: UpdateTable, byzantine: Int, keep: Int) throws -> RobustOutcome {
    let ranking = ranking(try SquaredDistances.pairs(table), rows: table.rows.count, byzantine: byzantine)
    let kept = ranking.prefix(keep).sorted()
    let tensors = try table.tensors { block, result in
      for index in 0..<block.count {
        var sum = 0.0
        for row in kept { sum += Double(block.values[row * block.stride + index]) }
        result[index] = Float(sum / Double(kept.count))
      }
    }
    return RobustOutcome(
      tensors: tensors,
      leftOut: ranking.dropFirst(keep).sorted().map { table.rows[$0].name },
      scaledDown: []
    )
  }
}
