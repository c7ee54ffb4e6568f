/// One labelled text or pair of texts, or one text for a language model.
public struct Example: Equatable, Sendable {
  /// The label of an example for a language model, which has none.
  public static let unlabelled = -1

  /// The text; for a language model the prompt, or, where there is no response, a text of which every token is learnt.
  public let text: String
  /// The second text, where the task has pairs; for a language model the response.
  public let pair: String?
  /// Index into the labels of the data set; `unlabelled` where it has none.
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
  /// Names of the labels, an example's label being an index into them; none in a data set for a language model.
  public let labels: [String]

  /// Makes a data set. Every example's label must be an index into `labels`, or `unlabelled` where there are none.
  public init(examples: [Example], labels: [String]) {
    precondition(
      examples.allSatisfy { labels.isEmpty ? $0.label == Example.unlabelled : labels.indices.contains($0.label) },
      "a label is out of range"
    )
    self.examples = examples
    self.labels = labels
  }

  /// Number of examples of each label.
  public var labelCounts: [Int] {
    labels.isEmpty ? [] : examples.reduce(into: [Int](repeating: 0, count: labels.count)) { $0[$1.label] += 1 }
  }

  /// The examples at these indices, as a data set of their own with the same labels.
  public func subset(_ indices: [Int]) -> Dataset { Dataset(examples: indices.map { examples[$0] }, labels: labels) }
}
