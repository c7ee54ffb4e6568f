extension DatasetBuilder {
  /// Examples for a language model: a conversation each, a prompt and a response, or a text where the file has neither.
  func languageDataset() throws(DatasetError) -> Dataset {
    guard !records.rows.isEmpty else { throw failure(.empty, nil, nil, "no example", "at least one") }
    let clientColumn = try optional(columns.client, usual: DatasetColumns.usualClient, what: "client")
    if let place = try messages() {
      var examples: [Example] = []
      examples.reserveCapacity(records.rows.count)
      for row in records.rows {
        var client: String?
        if let clientColumn { client = try string(row, clientColumn, numberAllowed: true) }
        examples.append(Example(conversation: try conversation(row, place), client: client))
      }
      return Dataset(examples: examples, labels: [])
    }
    if let name = columns.choices { return try choiceDataset(name, clientColumn) }
    let texts: (DatasetBuilder, Records.Row) throws(DatasetError) -> (String, String?)
    if columns.text == nil, let pair = try promptAndResponse() {
      texts = { (builder, row) throws(DatasetError) in
        let prompt = try builder.string(row, pair.prompt, numberAllowed: false)
        return (prompt, try builder.string(row, pair.response, numberAllowed: true))
      }
    } else {
      let place = try needed(columns.text, usual: DatasetColumns.usualText, what: "text, or prompt and response")
      texts = { (builder, row) throws(DatasetError) in (try builder.string(row, place, numberAllowed: false), nil) }
    }
    var examples: [Example] = []
    examples.reserveCapacity(records.rows.count)
    for row in records.rows {
      let (text, response) = try texts(self, row)
      var client: String?
      if let clientColumn { client = try string(row, clientColumn, numberAllowed: true) }
      examples.append(Example(text: text, pair: response, label: Example.unlabelled, client: client))
    }
    return Dataset(examples: examples, labels: [])
  }

  /// The columns of prompt and response; nil where neither is asked for and not both have a usual name.
  private func promptAndResponse() throws(DatasetError) -> (prompt: Int, response: Int)? {
    if columns.prompt == nil, columns.response == nil {
      let prompt = try optional(nil, usual: DatasetColumns.usualPrompt, what: "prompt")
      let response = try optional(nil, usual: DatasetColumns.usualResponse, what: "response")
      guard let prompt, let response else { return nil }
      return (prompt, response)
    }
    return (
      try needed(columns.prompt, usual: DatasetColumns.usualPrompt, what: "prompt"),
      try needed(columns.response, usual: DatasetColumns.usualResponse, what: "response")
    )
  }

  /// The column of conversations: the named one, or one with a usual name and a list in it where no other is named.
  private func messages() throws(DatasetError) -> Int? {
    let others = [columns.text, columns.prompt, columns.response].compactMap { $0 }
    if let name = columns.messages {
      guard others.isEmpty else {
        throw failure(.ambiguousColumns, nil, nil, "the columns \(name) and \(others[0])", "one kind of record")
      }
      return try needed(name, usual: [], what: "messages")
    }
    guard others.isEmpty, let place = try optional(nil, usual: DatasetColumns.usualMessages, what: "messages"),
      records.rows.contains(where: { if case .list? = $0[place] { true } else { false } })
    else { return nil }
    var other = try optional(nil, usual: DatasetColumns.usualText, what: "text")
    if other == nil { other = try promptAndResponse()?.response }
    guard let other else { return place }
    throw failure(
      .ambiguousColumns,
      nil,
      nil,
      "the columns \(records.columns[place]) and \(records.columns[other])",
      "one of them; name the one that is to be learnt from"
    )
  }

  private func conversation(_ row: Records.Row, _ place: Int) throws(DatasetError) -> Conversation {
    let name = records.columns[place]
    switch row[place] {
    case .list(let messages)?:
      do { return try Conversation(messages) } catch {
        let found = error.message.map { "message \($0) with \(error.found)" } ?? error.found
        throw failure(.badConversation, row.line, name, found, error.expected)
      }
    case nil: throw failure(.missingColumn, row.line, name, "no value", "a value in every row")
    default: throw failure(.wrongKind, row.line, name, "no array", "an array of messages, as JSON lines can hold one")
    }
  }
}
