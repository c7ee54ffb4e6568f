/// One labelled text, or pair of texts.
public struct Example: Equatable, Sendable {
  /// The text.
  public let text: String
  /// The second text, where the task has pairs.
  public let pair: String?
  /// Index into the labels of the data set.
  public let label: Int
  /// Whose example it is, where the data say so.
  public let client: String?

  /// Makes an example.
  public init(text: String, pair: String? = nil, label: Int, client: String? = nil) {
    self.text = text
    self.pair = pair
    self.label = label
    self.client = client
  }
}

/// Examples and the names of their labels.
public struct Dataset: Equatable, Sendable {
  /// The examples, in the order of the file.
  public let examples: [Example]
  /// Names of the labels; an example's label is an index into them.
  public let labels: [String]

  /// Makes a data set. Every example's label must be an index into `labels`.
  public init(examples: [Example], labels: [String]) {
    precondition(examples.allSatisfy { labels.indices.contains($0.label) }, "a label is out of range")
    self.examples = examples
    self.labels = labels
  }

  /// Number of examples of each label.
  public var labelCounts: [Int] {
    examples.reduce(into: [Int](repeating: 0, count: labels.count)) { $0[$1.label] += 1 }
  }

  /// The examples at these indices, as a data set of their own with the same labels.
  public func subset(_ indices: [Int]) -> Dataset { Dataset(examples: indices.map { examples[$0] }, labels: labels) }
}

/// An example as token numbers.
public struct EncodedExample: Equatable, Sendable {
  /// Token numbers.
  public let ids: [Int32]
  /// 0 for the text and 1 for the second text of a pair.
  public let typeIds: [Int32]
  /// Index into the labels of the data set.
  public let label: Int

  /// Makes an encoded example.
  public init(ids: [Int32], typeIds: [Int32], label: Int) {
    self.ids = ids
    self.typeIds = typeIds
    self.label = label
  }
}

/// A data set as token numbers: what the training loop takes.
public struct TokenizedDataset: Equatable, Sendable {
  /// The examples, in the order of the data set.
  public let examples: [EncodedExample]
  /// Names of the labels.
  public let labels: [String]

  /// Makes a tokenised data set of encoded examples.
  public init(examples: [EncodedExample], labels: [String]) {
    self.examples = examples
    self.labels = labels
  }

  /// Encodes every example.
  /// - Parameters:
  ///   - maxLength: most tokens of an example, special ones included.
  ///   - truncation: what is cut of a pair that is too long.
  public init(
    _ dataset: Dataset,
    tokenizer: Tokenizer,
    maxLength: Int,
    truncation: TruncationStrategy = .longestFirst
  ) throws(TokenizerError) {
    var encoded: [EncodedExample] = []
    encoded.reserveCapacity(dataset.examples.count)
    for example in dataset.examples {
      let tokens = try tokenizer.encodeIds(
        example.text,
        pair: example.pair,
        maxLength: maxLength,
        truncation: truncation
      )
      encoded.append(EncodedExample(ids: tokens.ids, typeIds: tokens.typeIds, label: example.label))
    }
    self.init(examples: encoded, labels: dataset.labels)
  }

  /// The examples at these indices, as a data set of their own with the same labels.
  public func subset(_ indices: [Int]) -> TokenizedDataset {
    TokenizedDataset(examples: indices.map { examples[$0] }, labels: labels)
  }
}
