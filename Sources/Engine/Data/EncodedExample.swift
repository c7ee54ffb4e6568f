/// An example as token numbers.
public struct EncodedExample: Equatable, Sendable {
  /// Token numbers.
  public let ids: [Int32]
  /// 0 for the text and 1 for the second text of a pair.
  public let typeIds: [Int32]
  /// Index into the labels of the data set; `Example.unlabelled` for a language model; 0 for a regression, which has
  /// one output.
  public let label: Int
  /// For a regression: the number; 0 for others.
  public let value: Float
  /// For a language model: places of the tokens that it learns to predict, ascending and apart. The first token is
  /// predicted from nothing and never among them.
  public let targets: [Range<Int>]

  /// Makes an encoded example of a classifier.
  public init(ids: [Int32], typeIds: [Int32], label: Int) {
    self.ids = ids
    self.typeIds = typeIds
    self.label = label
    value = 0
    targets = []
  }

  /// Makes an encoded example of a regression.
  public init(ids: [Int32], typeIds: [Int32], value: Float) {
    self.ids = ids
    self.typeIds = typeIds
    self.value = value
    label = 0
    targets = []
  }

  /// Makes an encoded example of a language model.
  public init(ids: [Int32], targets: [Range<Int>]) {
    self.ids = ids
    typeIds = [Int32](repeating: 0, count: ids.count)
    label = Example.unlabelled
    value = 0
    self.targets = targets.map { max($0.lowerBound, 1)..<max($0.upperBound, 1) }.filter { !$0.isEmpty }
  }
}

extension PackedBatch {
  /// Adds an encoded example, with its class, its number or its targets.
  public mutating func append(_ example: EncodedExample) {
    guard example.label == Example.unlabelled else {
      return append(tokens: example.ids, tokenTypes: example.typeIds, label: example.label, value: example.value)
    }
    append(tokens: example.ids) { place in example.targets.contains { $0.contains(place) } }
  }
}
