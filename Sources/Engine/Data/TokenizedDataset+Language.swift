extension TokenizedDataset {
  /// Encodes every example for a language model.
  ///
  /// A text is encoded with the special tokens that the tokenizer puts around one text, and then ends with `endOfText`
  /// unless it does so already. A text without response is learnt whole. Of a prompt and a response the two are encoded as
  /// one text, in `format`; what is learnt begins with the first token in which this differs from the encoding of the
  /// given part alone, so that the tokens are those that the model would be given and would have to say.
  ///
  /// A conversation is written by the model's chat template, and what the assistant says is learnt. Neither `format`
  /// nor `endOfText` plays a part in it: the template has its own.
  ///
  /// - Parameters:
  ///   - template: of the model, for conversations; of no use to other examples.
  ///   - maxLength: most tokens of an example, special ones included; longer ones lose their end, and then their
  ///     `endOfText`.
  ///   - endOfText: the token that ends a text; nil adds none.
  /// - Throws: `TokenizerError`; `ConversationError` for a conversation that the template does not write, or where
  ///   there is no template; `ModelError.badBatch` where examples are there and none has a token left to learn.
  public init(
    language dataset: Dataset,
    tokenizer: Tokenizer,
    format: PromptFormat,
    endOfText: Int32?,
    maxLength: Int,
    template: ChatTemplate? = nil
  ) throws {
    func encoded(_ text: String) throws -> [Int32] {
      var ids = try tokenizer.encodeIds(text).ids
      if let endOfText, ids.last == endOfText { ids.removeLast() }
      return ids
    }
    let examples = try dataset.examples.enumerated().map { index, example in
      if let conversation = example.conversation {
        guard let template else {
          throw ConversationError(record: index + 1, reason: "no chat template was given to write it")
        }
        do {
          return try Self.encoded(conversation, template: template, tokenizer: tokenizer, maxLength: maxLength)
        } catch let error as TemplateError {
          throw ConversationError(record: index + 1, reason: "\(error)")
        }
      }
      guard let response = example.pair else {
        let ids = Self.ended(try encoded(example.text), endOfText, maxLength)
        return EncodedExample(ids: ids, targets: [1..<max(ids.count, 1)])
      }
      let given = try encoded(format.given(example.text))
      let whole = try encoded(format.whole(example.text, response))
      let shared = zip(given, whole).prefix { $0 == $1 }.count
      let ids = Self.ended(whole, endOfText, maxLength)
      return EncodedExample(ids: ids, targets: [min(shared, ids.count)..<ids.count])
    }
    guard examples.isEmpty || examples.contains(where: { !$0.targets.isEmpty }) else {
      throw ModelError.badBatch(
        reason:
          "no example has a token to learn within \(maxLength) tokens: its prompt alone is longer; raise max_length"
      )
    }
    self.init(examples: examples, labels: [])
  }

  private static func ended(_ ids: [Int32], _ endOfText: Int32?, _ maxLength: Int) -> [Int32] {
    Array((endOfText.map { ids + [$0] } ?? ids).prefix(maxLength))
  }
}
