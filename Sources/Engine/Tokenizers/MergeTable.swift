/// The merges of a byte-pair model: for two tokens side by side the rank of their merge and the token that they become.
/// One open-addressing table, so that a look-up costs about one cache line.
struct MergeTable: Sendable {
  private var keys: [UInt64]
  /// `rank << 32 | token`.
  private var values: [UInt64]
  private let mask: Int

  private static let empty = UInt64.max
  /// What no pair has.
  static let none = UInt64.max

  /// - Parameter merges: in the order of their ranks; of two merges of one pair the later one counts, as in the
  ///   library.
  init(_ merges: [(left: Int32, right: Int32, token: Int32)]) {
    var size = 16
    while size < merges.count * 2 { size *= 2 }
    mask = size - 1
    keys = [UInt64](repeating: Self.empty, count: size)
    values = [UInt64](repeating: Self.none, count: size)
    for (rank, merge) in merges.enumerated() {
      let key = Self.key(merge.left, merge.right)
      var slot = Self.slot(key, mask)
      while keys[slot] != Self.empty, keys[slot] != key { slot = (slot + 1) & mask }
      keys[slot] = key
      values[slot] = UInt64(rank) << 32 | UInt64(UInt32(bitPattern: merge.token))
    }
  }

  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  private static func slot(_ key: UInt64, _ mask: Int) -> Int {
    Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
  }

  /// `rank << 32 | token` of the merge of two tokens, or `none`.
  @inline(__always)
  func merge(_ left: Int32, _ right: Int32) -> UInt64 {
    let key = Self.key(left, right)
    return keys.withUnsafeBufferPointer { keys in
      values.withUnsafeBufferPointer { values in
        var slot = Self.slot(key, mask)
        while keys[slot] != key {
          if keys[slot] == Self.empty { return Self.none }
          slot = (slot + 1) & mask
        }
        return values[slot]
      }
    }
  }

  /// The token of a value of `merge`.
  @inline(__always)
  static func token(_ value: UInt64) -> Int32 { Int32(truncatingIfNeeded: value) }
}

/// The least of some numbers first: a binary heap.
struct LeastFirst {
  private var numbers: [UInt64] = []

  mutating func insert(_ number: UInt64) {
    numbers.append(number)
    var child = numbers.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      if numbers[parent] <= numbers[child] { return }
      numbers.swapAt(parent, child)
      child = parent
    }
  }

  mutating func removeLeast() -> UInt64? {
    guard let least = numbers.first, let last = numbers.popLast() else { return nil }
    if numbers.isEmpty { return least }
    numbers[0] = last
    var parent = 0
    while true {
      var child = 2 * parent + 1
      guard child < numbers.count else { return least }
      if child + 1 < numbers.count, numbers[child + 1] < numbers[child] { child += 1 }
      if numbers[parent] <= numbers[child] { return least }
      numbers.swapAt(parent, child)
      parent = child
    }
  }
}
