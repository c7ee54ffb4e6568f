import FedLoRACheckpoint

/// The names and shapes of a set of tensors, in the order of the set.
public struct TensorLayout: Sendable, Equatable {
  /// One tensor's declaration.
  public struct Entry: Sendable, Equatable {
    /// The tensor's name.
    public let name: String
    /// Its extents.
    public let shape: [Int]
    /// Where its elements begin in the concatenation of all tensors.
    let offset: Int
    let count: Int
  }

  /// The declarations in ascending order of names.
  public let entries: [Entry]
  /// Elements over all tensors.
  public let elementCount: Int

  /// The layout of `tensors`.
  public init(of tensors: TensorSet) {
    var offset = 0
    entries = tensors.entries.map { entry in
      defer { offset += entry.tensor.values.count }
      return Entry(
        name: entry.name,
        shape: entry.tensor.shape,
        offset: offset,
        count: entry.tensor.values.count
      )
    }
    elementCount = offset
  }

  /// Takes declarations in any order.
  /// - Throws: `LayoutError` when a name repeats or a shape has no element count.
  public init(_ declarations: [(name: String, shape: [Int])]) throws {
    let sorted = declarations.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    var found: [Entry] = []
    var offset = 0
    for (name, shape) in sorted {
      guard found.last?.name != name else { throw LayoutError.duplicate(name) }
      guard let count = Tensor.count(of: shape) else { throw LayoutError.shape(name, found: shape, expected: []) }
      found.append(Entry(name: name, shape: shape, offset: offset, count: count))
      let (end, overflow) = offset.addingReportingOverflow(count)
      guard !overflow else { throw LayoutError.shape(name, found: shape, expected: []) }
      offset = end
    }
    entries = found
    elementCount = offset
  }

  /// - Throws: `LayoutError` naming the first tensor that is missing, not expected, or of another shape.
  public func check(_ tensors: TensorSet) throws {
    var index = 0
    for entry in tensors.entries {
      guard index < entries.count else { throw LayoutError.unexpected(entry.name) }
      let expected = entries[index]
      guard expected.name == entry.name else {
        throw entries.contains { $0.name == entry.name }
          ? LayoutError.missing(expected.name) : LayoutError.unexpected(entry.name)
      }
      guard expected.shape == entry.tensor.shape else {
        throw LayoutError.shape(entry.name, found: entry.tensor.shape, expected: expected.shape)
      }
      index += 1
    }
    if index < entries.count { throw LayoutError.missing(entries[index].name) }
  }
}

/// How a set of tensors differs from what was declared.
public enum LayoutError: Error, Equatable, CustomStringConvertible {
  /// A declared tensor is absent.
  case missing(String)
  /// A tensor was not declared.
  case unexpected(String)
  /// A name was declared twice.
  case duplicate(String)
  /// A tensor has another shape than declared; `expected` is empty where the declared shape itself is impossible.
  case shape(String, found: [Int], expected: [Int])

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .missing(let name): "tensor '\(name)' is missing"
    case .unexpected(let name): "tensor '\(name)' is not part of this run's updates"
    case .duplicate(let name): "tensor '\(name)' is declared twice"
    case .shape(let name, let found, []): "tensor '\(name)' cannot have shape \(found)"
    case .shape(let name, let found, let expected): "tensor '\(name)' has shape \(found), expected \(expected)"
    }
  }
}
