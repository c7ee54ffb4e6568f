extension TokenizedDataset {
  /// Encodes a conversation as transformers' `apply_chat_template` does: the template's text without further special
  /// tokens, cut at its end where it has more than `maxLength` tokens. What is learnt are the tokens with something of
  /// what the assistant says in them.
  static func encoded(
    _ conversation: Conversation,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    maxLength: Int
  ) throws -> EncodedExample {
    let written = try template.written(conversation)
    let encoding = try tokenizer.encode(written.text, addSpecialTokens: false)
    var targets: [Range<Int>] = []
    var next = 0
    for answer in written.answers {
      // Offsets never descend, so the tokens of an answer lie side by side.
      guard
        let first = encoding.offsets[next...].firstIndex(where: { $0.upperBound > answer.lowerBound && !$0.isEmpty })
      else { break }
      let end = encoding.offsets[first...].firstIndex { $0.lowerBound >= answer.upperBound } ?? encoding.offsets.count
      if end > first { targets.append(first..<end) }
      next = max(first, end)
    }
    let kept = min(encoding.ids.count, maxLength)
    return EncodedExample(
      ids: Array(encoding.ids.prefix(kept)),
      targets: targets.map { $0.clamped(to: 0..<kept) }
    )
  }
}
