/// Deals the examples of one client in shuffled epochs: every example once an epoch, in an order drawn anew for each, and
/// batches that run over an epoch's end rather than drop or shorten anything.
///
/// Where it stands follows from the seed and the number of batches taken, so that a checkpoint stores one number.
public struct BatchSampler: Sendable, Equatable {
  /// Number of examples.
  public let count: Int
  /// Examples a batch.
  public let batchSize: Int
  /// Seed of all orders.
  public let seed: UInt64
  /// Batches taken so far.
  public private(set) var step: Int

  private var epoch = -1
  private var order: [Int] = []

  /// - Parameters:
  ///   - count: number of examples, at least 1.
  ///   - batchSize: examples a batch, at least 1; may be more than `count`.
  ///   - step: batches that were taken before.
  public init(count: Int, batchSize: Int, seed: UInt64, step: Int = 0) {
    precondition(count > 0 && batchSize > 0 && step >= 0, "a sampler needs examples, a batch size and a step")
    self.count = count
    self.batchSize = batchSize
    self.seed = seed
    self.step = step
  }

  /// The next batch, as indices of examples.
  public mutating func next() -> [Int] {
    var batch: [Int] = []
    batch.reserveCapacity(batchSize)
    forEachNext { batch.append($0) }
    return batch
  }

  /// Calls `body` with the index of each example of the next batch.
  mutating func forEachNext(_ body: (Int) -> Void) {
    for position in step * batchSize..<(step + 1) * batchSize {
      if position / count != epoch {
        epoch = position / count
        var generator = SeededGenerator(seed: seed, "epoch", .number(UInt64(epoch)))
        generator.permute(count, &order)
      }
      body(order[position % count])
    }
    step += 1
  }

  /// Whether both go on with the same batches.
  public static func == (left: BatchSampler, right: BatchSampler) -> Bool {
    (left.count, left.batchSize, left.seed, left.step) == (right.count, right.batchSize, right.seed, right.step)
  }
}
