/// One labelled text or pair of texts, or one text for a language model.
public struct Example: Equatable, Sendable {
  /// The label of an example without a class: for a language model or a regression.
  public static let unlabelled = -1

  /// The text; for a language model the prompt, or, where there is no response, a text of which every token is learnt;
  /// of a conversation its messages as JSON.
  public let text: String
  /// The second text, where the task has pairs; for a language model the response.
  public let pair: String?
  /// Index into the labels of the data set; `unlabelled` where it has none.
  public let label: Int
  /// For a regression: the number.
  public let value: Double?
  /// Whose example it is, where the data say so.
  public let client: String?
  /// For a language model: the messages, where it is a conversation.
  public let conversation: Conversation?
  /// For a language model: the answers among which the response is the right one; empty where there are none to choose
  /// from.
  public let choices: [String]

  /// Makes an example.
  public init(text: String, pair: String? = nil, label: Int, client: String? = nil, choices: [String] = []) {
    self.choices = choices
    self.text = text
    self.pair = pair
    self.label = label
    self.client = client
    value = nil
    conversation = nil
  }

  /// Makes an example of a regression.
  /// - Parameter value: finite, also as a `Float`.
  public init(text: String, pair: String? = nil, value: Double, client: String? = nil) {
    self.text = text
    self.pair = pair
    choices = []
    self.value = value
    self.client = client
    label = Self.unlabelled
    conversation = nil
  }

  /// Makes an example of a conversation, for a language model.
  public init(conversation: Conversation, client: String? = nil) {
    text = conversation.text
    choices = []
    pair = nil
    label = Self.unlabelled
    value = nil
    self.client = client
    self.conversation = conversation
  }
}

/// Examples and the names of their labels.
public struct Dataset: Equatable, Sendable {
  /// The examples, in the order of the file.
  public let examples: [Example]
  /// Names of the labels, an example's label being an index into them; none in a data set for a language model or a
  /// regression.
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
