import FedLoRACheckpoint

/// One client's update as a row of floats, all tensors one after the other in the order of their names, that is read in
/// parts: where it lies in a file, no more than a part is in memory.
public struct UpdateRow: Sendable {
  /// Fills the buffer with the elements of the range.
  public typealias Reader = @Sendable (Range<Int>, UnsafeMutableBufferPointer<Float>) -> Void

  /// The client.
  public let name: String
  /// Elements over all tensors.
  public let count: Int
  private let reader: Reader

  /// A row that is read from somewhere.
  /// - Parameter reader: called with ranges within 0..<count and buffers of their length, from any thread.
  public init(name: String, count: Int, reader: @escaping Reader) {
    self.name = name
    self.count = count
    self.reader = reader
  }

  /// A row that is in memory.
  public init(name: String, tensors: TensorSet) {
    let values = tensors.entries.flatMap(\.tensor.values)
    self.init(name: name, count: values.count) { range, target in
      for (place, index) in range.enumerated() { target[place] = values[index] }
    }
  }

  func read(_ range: Range<Int>, into target: UnsafeMutableBufferPointer<Float>) { reader(range, target) }
}

/// What a robust rule made of a round.
public struct RobustOutcome: Sendable, Equatable {
  /// What takes the place of the mean.
  public let tensors: TensorSet
  /// Clients whose update had no part in it, in ascending order: those that Krum did not choose.
  public let leftOut: [String]
  /// Clients whose update was scaled down, in ascending order.
  public let scaledDown: [String]
}

/// Why a round's updates could not be combined.
public enum RobustAggregationError: Error, Equatable, CustomStringConvertible {
  /// Fewer updates than the rule needs to withstand what it is to withstand.
  case tooFewUpdates(rule: AggregationName, byzantine: Int, found: Int, needed: Int)
  /// Two updates are of one client.
  case duplicate(String)
  /// An update has another number of elements than the state.
  case wrongCount(client: String, found: Int, expected: Int)
  /// An element is NaN or infinite.
  case notFinite(client: String, tensor: String, index: Int)

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .tooFewUpdates(let rule, let byzantine, let found, let needed):
      "\(rule.rawValue) withstands \(byzantine) hostile updates among \(needed) or more, not among \(found)"
    case .duplicate(let client): "two updates are of client '\(client)'"
    case .wrongCount(let client, let found, let expected):
      "the update of client '\(client)' has \(found) elements, expected \(expected)"
    case .notFinite(let client, let tensor, let index):
      "tensor '\(tensor)' of client '\(client)', element \(index) is not finite; updates must be finite"
    }
  }
}
