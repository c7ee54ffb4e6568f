import FedLoRAEngine
import Foundation

/// Reads and encodes data files as a run's terms say, with the tokenizer of one model folder.
public struct RecordReader: Sendable {
  private let tokenizer: Tokenizer
  private let endOfText: Int32?
  private let columns: DatasetColumns

  /// Takes the model folder, for its end token, its tokenizer, and the names of columns.
  public init(folder: URL, tokenizer: Tokenizer, columns: DatasetColumns = DatasetColumns()) {
    self.tokenizer = tokenizer
    self.columns = columns
    endOfText = EndOfText.token(in: folder, tokenizer: tokenizer)
  }

  /// Reads a file.
  /// - Parameter labels: class names in their order; nil takes those of the file, sorted. A language model has none.
  /// - Throws: `DatasetError`.
  public func read(_ file: URL, labels: [String]? = nil, _ terms: RecordTerms) throws -> Dataset {
    try DatasetReader.read(file, columns: columns, labels: labels, task: terms.task)
  }

  /// Encodes a data set.
  /// - Throws: `TokenizerError`, or `ModelError.badBatch` where a language model would have nothing to learn.
  public func encode(_ dataset: Dataset, _ terms: RecordTerms) throws -> [EncodedExample] {
    switch terms.task {
    case .classification:
      try TokenizedDataset(dataset, tokenizer: tokenizer, maxLength: terms.maxLength).examples
    case .causalLM:
      try TokenizedDataset(
        language: dataset,
        tokenizer: tokenizer,
        format: terms.promptFormat,
        endOfText: endOfText,
        maxLength: terms.maxLength
      ).examples
    }
  }
}
