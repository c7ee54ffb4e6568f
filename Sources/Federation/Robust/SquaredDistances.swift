/// Sums of squares over coordinates, in double precision and in an order that depends on the coordinates alone.
enum SquaredDistances {
  /// Σ (a − b)² over `count` coordinates, in eight lanes.
  static func between(_ a: UnsafePointer<Double>, _ b: UnsafePointer<Double>, count: Int) -> Double {
    var lanes = SIMD8<Double>(repeating: 0)
    var index = 0
    while index + 8 <= count {
      let left = UnsafeRawPointer(a + index).loadUnaligned(as: SIMD8<Double>.self)
      let right = UnsafeRawPointer(b + index).loadUnaligned(as: SIMD8<Double>.self)
      let difference = left - right
      lanes += difference * difference
      index += 8
    }
    while index < count {
      let difference = a[index] - b[index]
      lanes[index & 7] += difference * difference
      index += 1
    }
    return lanes.sum()
  }

  /// The squared distance between any two updates, row-major with n² entries. Costs n²/2 differences a coordinate.
  static func pairs(_ table: UpdateTable) throws -> [Double] {
    let count = table.rows.count
    var squares = [Double](repeating: 0, count: count * count)
    try forEachChunk(table) { chunk, length in
      for i in 0..<count {
        for j in 0..<i {
          let sum = between(
            chunk + i * UpdateTable.chunkLength,
            chunk + j * UpdateTable.chunkLength,
            count: length
          )
          squares[i * count + j] += sum
        }
      }
    }
    for i in 0..<count {
      for j in 0..<i { squares[j * count + i] = squares[i * count + j] }
    }
    return squares
  }

  /// Calls `body` with each chunk of coordinates as doubles: all rows, one after the other at a distance of `chunkLength`.
  private static func forEachChunk(
    _ table: UpdateTable,
    _ body: (UnsafeMutablePointer<Double>, _ length: Int) -> Void
  ) throws {
    let capacity = max(1, table.rows.count) * UpdateTable.chunkLength
    let chunk = UnsafeMutablePointer<Double>.allocate(capacity: capacity)
    defer { chunk.deallocate() }
    try table.forEachBlock { block in
      var begin = 0
      while begin < block.count {
        let length = min(UpdateTable.chunkLength, block.count - begin)
        for row in table.rows.indices {
          let (source, target) = (block.row(row), chunk + row * UpdateTable.chunkLength)
          for index in 0..<length { target[index] = Double(source[begin + index]) }
        }
        body(chunk, length)
        begin += length
      }
    }
  }

  /// Adds, for each row, its squared distance from `centre` in this block to `squares`.
  static func add(
    _ block: UpdateTable.Block,
    from centre: UnsafePointer<Double>,
    to squares: inout [Double],
    scratch: UnsafeMutablePointer<Double>
  ) {
    for row in squares.indices {
      let values = block.row(row)
      var begin = 0
      while begin < block.count {
        let length = min(UpdateTable.chunkLength, block.count - begin)
        for index in 0..<length { scratch[index] = Double(values[begin + index]) }
        squares[row] += between(scratch, centre + begin, count: length)
        begin += length
      }
    }
  }
}
