/// Token texts as a tree of scalars, for longest-match look-up. Edges live in one open-addressing table keyed by node and
/// scalar: building is linear, and a step costs about one cache line.
struct TokenTrie: Sendable {
  /// `node << 21 | scalar`, or the mark for an empty slot.
  private var keys: [UInt64]
  private var children: [Int32]
  /// For each node the token that ends there, or -1.
  private var tokens: [Int32] = [-1]
  private var mask: Int
  private var used = 0

  private static let empty = UInt64.max

  init() {
    keys = [UInt64](repeating: Self.empty, count: 64)
    children = [Int32](repeating: 0, count: 64)
    mask = 63
  }

  mutating func insert(_ text: some Sequence<UInt32>, token: Int32) {
    var node: Int32 = 0
    for scalar in text {
      let key = UInt64(node) << 21 | UInt64(scalar)
      var slot = Self.slot(key, mask)
      while keys[slot] != key, keys[slot] != Self.empty { slot = (slot + 1) & mask }
      if keys[slot] == key {
        node = children[slot]
        continue
      }
      keys[slot] = key
      children[slot] = Int32(tokens.count)
      node = Int32(tokens.count)
      tokens.append(-1)
      used += 1
      if used * 2 > mask { grow() }
    }
    tokens[Int(node)] = token
  }

  private static func slot(_ key: UInt64, _ mask: Int) -> Int {
    Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
  }

  private mutating func grow() {
    let (oldKeys, oldChildren) = (keys, children)
    mask = mask * 2 + 1
    keys = [UInt64](repeating: Self.empty, count: mask + 1)
    children = [Int32](repeating: 0, count: mask + 1)
    for (key, child) in zip(oldKeys, oldChildren) where key != Self.empty {
      var slot = Self.slot(key, mask)
      while keys[slot] != Self.empty { slot = (slot + 1) & mask }
      keys[slot] = key
      children[slot] = child
    }
  }

  /// The longest token that `scalars` starts with from `start`: its id and where it ends.
  @inline(__always)
  func longestMatch(in scalars: UnsafeBufferPointer<UInt32>, from start: Int) -> (token: Int32, end: Int)? {
    var best: (token: Int32, end: Int)?
    forEachMatch(in: scalars, from: start) { best = ($0, $1) }
    return best
  }

  /// The token that is all of `scalars`.
  func token(of scalars: UnsafeBufferPointer<UInt32>) -> Int32? {
    guard let match = longestMatch(in: scalars, from: 0), match.end == scalars.count else { return nil }
    return match.token
  }

  /// Calls `body` with each token that `scalars` starts with from `start`, and where it ends, the shortest first.
  @inline(__always)
  func forEachMatch(in scalars: UnsafeBufferPointer<UInt32>, from start: Int, _ body: (Int32, Int) -> Void) {
    var node: Int32 = 0
    keys.withUnsafeBufferPointer { keys in
      children.withUnsafeBufferPointer { children in
        tokens.withUnsafeBufferPointer { tokens in
          for index in start..<scalars.count {
            let key = UInt64(node) << 21 | UInt64(scalars[index])
            var slot = Self.slot(key, mask)
            while keys[slot] != key {
              if keys[slot] == Self.empty { return }
              slot = (slot + 1) & mask
            }
            node = children[slot]
            if tokens[Int(node)] >= 0 { body(tokens[Int(node)], index + 1) }
          }
        }
      }
    }
  }
}
