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
      encoded.append(
        example.value.map { EncodedExample(ids: tokens.ids, typeIds: tokens.typeIds, value: Float($0)) }
          ?? EncodedExample(ids: tokens.ids, typeIds: tokens.typeIds, label: example.label)
      )
    }
    self.init(examples: encoded, labels: dataset.labels)
  }

  /// The examples at these indices, as a data set of their own with the same labels.
  public func subset(_ indices: [Int]) -> TokenizedDataset {
    TokenizedDataset(examples: indices.map { examples[$0] }, labels: labels)
  }
}
