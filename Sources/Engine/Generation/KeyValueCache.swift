/// Keys and values of one sequence's tokens so far, for every layer: what a causal model needs of the past.
///
/// It holds 2 · layers · heads of keys · head size floats a token. Under a sliding window the tokens that nobody sees any more
/// stay, so that a sequence can be cut back.
///
/// `@unchecked Sendable`: a cache belongs to one sequence, and only the thread that extends it touches it.
public final class KeyValueCache: @unchecked Sendable {
  /// Tokens that are in it.
  public private(set) var count = 0
  /// Tokens for which it has room.
  public private(set) var capacity: Int

  private let layerCount: Int
  /// Floats of one token's keys, or values, in one layer.
  private let width: Int
  /// layers × (keys, values) × capacity × width.
  private var storage: UnsafeMutablePointer<Float>

  /// An empty cache for a model of this shape with room for `capacity` tokens.
  public init(_ spec: TransformerSpec, capacity: Int) {
    layerCount = spec.layerCount
    width = spec.keyValueWidth
    self.capacity = max(1, capacity)
    storage = .allocate(capacity: max(1, 2 * layerCount * self.capacity * width))
  }

  deinit { storage.deallocate() }

  /// Bytes that are held.
  public var byteCount: Int { 2 * layerCount * capacity * width * MemoryLayout<Float>.stride }

  /// Makes room for `tokens` tokens in all, at least doubling where it grows.
  public func reserve(_ tokens: Int) {
    guard tokens > capacity else { return }
    let grown = max(tokens, 2 * capacity)
    let moved = UnsafeMutablePointer<Float>.allocate(capacity: max(1, 2 * layerCount * grown * width))
    for part in 0..<2 * layerCount {
      (moved + part * grown * width).update(from: storage + part * capacity * width, count: count * width)
    }
    storage.deallocate()
    (storage, capacity) = (moved, grown)
  }

  /// Forgets the tokens from `count` on.
  public func truncate(to count: Int) { self.count = max(0, min(self.count, count)) }

  /// Keys of a layer, tokens × width, those that are being added included.
  func keys(_ layer: Int) -> UnsafeMutablePointer<Float> { storage + 2 * layer * capacity * width }

  /// Values of a layer, tokens × width.
  func values(_ layer: Int) -> UnsafeMutablePointer<Float> { storage + (2 * layer + 1) * capacity * width }

  /// Puts keys and values of the next `rows` tokens behind those of a layer; `advance` follows when every layer has them.
  func write(_ layer: Int, keys: UnsafePointer<Float>, values: UnsafePointer<Float>, rows: Int) {
    precondition(count + rows <= capacity, "a cache of \(capacity) tokens was given more")
    (self.keys(layer) + count * width).update(from: keys, count: rows * width)
    (self.values(layer) + count * width).update(from: values, count: rows * width)
  }

  /// Counts `rows` tokens as being there.
  func advance(by rows: Int) { count += rows }
}
