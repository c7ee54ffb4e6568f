/// Named tensors in ascending order of their names, so that every walk over a set is the same walk.
///
/// Names follow PEFT without its `base_model.model.` prefix, for example
/// `encoder.layer.0.attention.self.query.lora_A.weight`.
public struct TensorSet: Sendable, Equatable {
  /// One named tensor.
  public struct Entry: Sendable, Equatable {
    /// Unique within the set.
    public let name: String
    /// The values.
    public var tensor: Tensor
  }

  /// The entries in ascending order of `name` (by Unicode scalars).
  public private(set) var entries: [Entry]

  /// An empty set.
  public init() { entries = [] }

  /// Takes the pairs of `tensors`.
  public init(_ tensors: [String: Tensor]) {
    entries = tensors.map { Entry(name: $0.key, tensor: $0.value) }.sorted { TensorSet.precedes($0.name, $1.name) }
  }

  /// Takes named tensors in any order.
  /// - Throws: `TensorError.duplicateName`.
  public init(_ pairs: [(String, Tensor)]) throws {
    entries = pairs.map { Entry(name: $0.0, tensor: $0.1) }.sorted { TensorSet.precedes($0.name, $1.name) }
    for (left, right) in zip(entries, entries.dropFirst()) where left.name == right.name {
      throw TensorError.duplicateName(left.name)
    }
  }

  /// The names in order.
  public var names: [String] { entries.map(\.name) }
  /// How many tensors the set holds.
  public var count: Int { entries.count }
  /// Whether the set holds no tensor.
  public var isEmpty: Bool { entries.isEmpty }
  /// Elements over all tensors.
  public var elementCount: Int { entries.reduce(0) { $0 + $1.tensor.values.count } }

  /// The tensor of this name; assigning nil removes it.
  public subscript(name: String) -> Tensor? {
    get {
      let index = lowerBound(of: name)
      return index < entries.count && entries[index].name == name ? entries[index].tensor : nil
    }
    set {
      let index = lowerBound(of: name)
      let isPresent = index < entries.count && entries[index].name == name
      switch (newValue, isPresent) {
      case (let tensor?, true): entries[index].tensor = tensor
      case (let tensor?, false): entries.insert(Entry(name: name, tensor: tensor), at: index)
      case (nil, true): entries.remove(at: index)
      case (nil, false): break
      }
    }
  }

  /// The entries whose name satisfies `isIncluded`.
  public func filter(_ isIncluded: (String) -> Bool) -> TensorSet {
    var result = TensorSet()
    result.entries = entries.filter { isIncluded($0.name) }
    return result
  }

  /// This set with the entries of `other` added; where both have a name, `other` wins.
  public func merging(_ other: TensorSet) -> TensorSet {
    var result = self
    for entry in other.entries { result[entry.name] = entry.tensor }
    return result
  }

  /// Order of names: by Unicode scalars, which is also the order of their UTF-8 bytes.
  static func precedes(_ left: String, _ right: String) -> Bool {
    left.utf8.lexicographicallyPrecedes(right.utf8)
  }

  private func lowerBound(of name: String) -> Int {
    var low = 0
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      if TensorSet.precedes(entries[middle].name, name) { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
