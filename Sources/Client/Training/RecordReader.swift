import FedLoRAEngine
import Foundation

/// Reads and encodes data files as a run's terms say, with the tokenizer of one model folder.
public struct RecordReader: Sendable {
  private let folder: URL
  private let tokenizer: Tokenizer
  private let endOfText: Int32?
  private let columns: DatasetColumns

  /// Takes the model folder, for its end token, its tokenizer, and the names of columns.
  public init(folder: URL, tokenizer: Tokenizer, columns: DatasetColumns = DatasetColumns()) {
    self.folder = folder
    self.tokenizer = tokenizer
    self.columns = columns
    endOfText = EndOfText.token(in: folder, tokenizer: tokenizer)
  }

  /// Reads a file.
  /// - Parameter labels: class names in their order; nil takes those of the file, sorted. A regression and a language
  ///   model have none.
  /// - Throws: `DatasetError`.
  public func read(_ file: URL, labels: [String]? = nil, _ terms: RecordTerms) throws -> Dataset {
    try DatasetReader.read(file, columns: columns, labels: labels, task: terms.task)
  }

  /// Encodes a data set.
  /// - Throws: `TokenizerError`, `ConversationError` for conversations that the model's template does not write, or
  ///   `ModelError.badBatch` where a language model would have nothing to learn.
  public func encode(_ dataset: Dataset, _ terms: RecordTerms) throws -> [EncodedExample] {
    switch terms.task {
    case .classification, .regression:
      try TokenizedDataset(dataset, tokenizer: tokenizer, maxLength: terms.maxLength).examples
    case .causalLM:
      try TokenizedDataset(
        language: dataset,
        tokenizer: tokenizer,
        format: terms.promptFormat,
        endOfText: endOfText,
        maxLength: terms.maxLength,
        template: dataset.examples.contains { $0.conversation != nil } ? try template() : nil
      ).examples
    }
  }

  /// Questions of a data set for a language model, one for each example or nil where it asks none.
  /// - Throws: as `encode`.
  public func questions(_ dataset: Dataset, _ terms: RecordTerms) throws -> [Question?] {
    guard terms.task == .causalLM else { return dataset.examples.map { _ in nil } }
    let template = dataset.examples.contains { $0.conversation != nil } ? try template() : nil
    return try dataset.examples.enumerated().map { index, example in
      do {
        return try Question(
          example,
          tokenizer: tokenizer,
          format: terms.promptFormat,
          endOfText: endOfText,
          template: template
        )
      } catch let error as TemplateError {
        throw ConversationError(record: index + 1, reason: "\(error)")
      }
    }
  }

  /// How questions are asked of this model.
  /// - Throws: `GenerationError` for a folder whose end tokens cannot be read.
  public func asking(_ terms: QuestionTerms) throws -> Asking {
    Asking(
      match: terms.match,
      maximumNewTokens: terms.maximumNewTokens,
      stopTokens: try GenerationOptions.stopTokens(of: folder).union(endOfText.map { [$0] } ?? []),
      choiceLength: terms.choiceLength,
      tokenizer: tokenizer
    )
  }

  /// Examples that are held out, with the questions that they ask.
  /// - Throws: as `encode` and `asking`.
  public func heldOut(_ dataset: Dataset, _ terms: RecordTerms, _ questions: QuestionTerms) throws -> HeldOut {
    let isAsked =
      terms.task == .causalLM && (questions.match != nil || dataset.examples.contains { !$0.choices.isEmpty })
    return HeldOut(
      examples: try encode(dataset, terms),
      questions: isAsked ? try self.questions(dataset, terms).compactMap { $0 } : [],
      asking: isAsked ? try asking(questions) : nil
    )
  }

  /// The model's chat template, read only where there are conversations: base models have none.
  private func template() throws -> ChatTemplate {
    do { return try ChatTemplate(folder: folder) } catch {
      guard error.kind == .file else { throw error }
      throw ConversationError(
        record: nil,
        reason:
          "the records are conversations, which the model's chat template has to write, but \(error.reason). Put the "
          + "template of the model's chat version there as chat_template.jinja, the same at every client, or "
          + "give the data a prompt and a response instead of messages"
      )
    }
  }
}
