import FedLoRACheckpoint

extension RobustRule {
  /// What takes the place of the mean of these updates.
  ///
  /// Norm bound and geometric median work on differences from `start`; the other rules commute with shifts and take the updates
  /// as they are. Sums are in double precision in ascending order of names, or of values.
  /// - Parameters:
  ///   - rows: the updates, in any order, one a client.
  ///   - start: the uploaded tensors as the round sent them.
  /// - Throws: `RobustAggregationError`.
  public func combine(_ rows: [UpdateRow], start: TensorSet) throws -> RobustOutcome {
    try combine(rows, start: start, chunksPerBlock: nil)
  }

  /// The same with blocks of a stated length, for tests: it changes no bit.
  package func combine(_ rows: [UpdateRow], start: TensorSet, chunksPerBlock: Int?) throws -> RobustOutcome {
    guard rows.count >= leastUpdates else {
      throw RobustAggregationError.tooFewUpdates(
        rule: name,
        byzantine: byzantine,
        found: rows.count,
        needed: leastUpdates
      )
    }
    let table = try UpdateTable(rows, start: start, chunksPerBlock: chunksPerBlock)
    let count = rows.count
    return switch kind {
    case .normBound(let limit): try NormBound.mean(table, limit: limit)
    case .median: try CoordinateWise.mean(table, trimmed: (count - 1) / 2)
    case .trimmedMean: try CoordinateWise.mean(table, trimmed: trimmed(updates: count))
    case .krum: try Krum.select(table, byzantine: byzantine, keep: 1)
    case .multiKrum(let keep):
      try Krum.select(table, byzantine: byzantine, keep: keep == 0 ? count - byzantine - 2 : keep)
    case .geometricMedian(let smoothing, let iterations):
      try GeometricMedian.find(table, smoothing: smoothing, iterations: iterations)
    }
  }
}
