import FedLoRACheckpoint

/// The updates of a round side by side, walked block by block of coordinates.
///
/// **Memory.** A walk holds one block of every update: about a MiB, or 1 KiB for each update where there are more than 1024,
/// whatever the size of the model.
///
/// **Order.** Rows are in ascending order of names. Sums over coordinates are made chunk by chunk (`chunkLength`), and a block
/// is a whole number of chunks, so that no bit depends on the length of a block.
struct UpdateTable {
  /// One block of coordinates.
  struct Block {
    /// Where it begins in the rows.
    let offset: Int
    /// How many coordinates it has.
    let count: Int
    /// The rows' elements, one row after the other with `stride` between their beginnings.
    let values: UnsafeMutableBufferPointer<Float>
    let stride: Int
    /// The state's elements at these coordinates.
    let start: UnsafeBufferPointer<Float>

    func row(_ index: Int) -> UnsafeMutableBufferPointer<Float> {
      UnsafeMutableBufferPointer(rebasing: values[index * stride..<index * stride + count])
    }
  }

  /// Coordinates over which a sum is made before it is added to others.
  static let chunkLength = 256
  /// Floats of a block that suits the caches.
  private static let blockFloats = 1 << 18

  let rows: [UpdateRow]
  let layout: TensorLayout
  /// Elements of a row.
  var width: Int { layout.elementCount }
  private let start: [Float]
  /// Coordinates of a block; the last one may have fewer.
  let blockLength: Int

  /// - Parameters:
  ///   - rows: in any order.
  ///   - start: the uploaded tensors as the round sent them.
  ///   - chunksPerBlock: coordinates of a block in units of `chunkLength`; nil takes what suits.
  /// - Throws: `RobustAggregationError` for two rows of one client and rows of another length.
  init(_ rows: [UpdateRow], start: TensorSet, chunksPerBlock: Int? = nil) throws {
    self.rows = rows.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    layout = TensorLayout(of: start)
    self.start = start.entries.flatMap(\.tensor.values)
    for (row, next) in zip(self.rows, self.rows.dropFirst()) where row.name == next.name {
      throw RobustAggregationError.duplicate(row.name)
    }
    for row in self.rows where row.count != layout.elementCount {
      throw RobustAggregationError.wrongCount(client: row.name, found: row.count, expected: layout.elementCount)
    }
    let fitting = UpdateTable.blockFloats / max(1, rows.count) / UpdateTable.chunkLength
    blockLength = UpdateTable.chunkLength * (chunksPerBlock ?? min(16, max(1, fitting)))
  }

  /// Calls `body` with each block in order.
  /// - Throws: `RobustAggregationError.notFinite`, and what `body` throws.
  func forEachBlock(_ body: (Block) throws -> Void) throws {
    let length = min(blockLength, max(1, width))
    let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: length * rows.count)
    defer { buffer.deallocate() }
    try start.withUnsafeBufferPointer { start in
      var offset = 0
      while offset < width {
        let count = min(length, width - offset)
        let block = Block(
          offset: offset,
          count: count,
          values: buffer,
          stride: length,
          start: UnsafeBufferPointer(rebasing: start[offset..<offset + count])
        )
        for (index, row) in rows.enumerated() {
          let target = block.row(index)
          row.read(offset..<offset + count, into: target)
          try checkFinite(target, row: row, offset: offset)
        }
        try body(block)
        offset += count
      }
    }
  }

  /// A set of tensors whose elements `fill` gives block by block.
  func tensors(_ fill: (Block, UnsafeMutableBufferPointer<Float>) throws -> Void) throws -> TensorSet {
    var result = [Float](repeating: 0, count: width)
    try result.withUnsafeMutableBufferPointer { result in
      try forEachBlock { block in
        try fill(block, UnsafeMutableBufferPointer(rebasing: result[block.offset..<block.offset + block.count]))
      }
    }
    return try tensors(from: result)
  }

  /// The elements of a row as named tensors.
  func tensors(from values: [Float]) throws -> TensorSet {
    try TensorSet(
      layout.entries.map { entry in
        (entry.name, try Tensor(shape: entry.shape, values: Array(values[entry.offset..<entry.offset + entry.count])))
      }
    )
  }

  private func checkFinite(_ values: UnsafeMutableBufferPointer<Float>, row: UpdateRow, offset: Int) throws {
    // The bits of a float without its sign order as the magnitudes do, with infinity and NaN above all others.
    var bits: Int32 = 0
    for value in values { bits = max(bits, Int32(bitPattern: value.bitPattern & 0x7fff_ffff)) }
    guard bits >= 0x7f80_0000 else { return }
    let place = offset + (values.firstIndex { !$0.isFinite } ?? 0)
    let entry = layout.entries.last { $0.offset <= place && $0.count > 0 }
    throw RobustAggregationError.notFinite(
      client: row.name,
      tensor: entry?.name ?? "",
      index: place - (entry?.offset ?? 0)
    )
  }
}
