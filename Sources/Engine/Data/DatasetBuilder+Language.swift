extension DatasetBuilder {
  /// Examples for a language model: a prompt and a response each, or a text each where the file has neither.
  func languageDataset() throws(DatasetError) -> Dataset {
    guard !records.rows.isEmpty else { throw failure(.empty, nil, nil, "no example", "at least one") }
    let clientColumn = try optional(columns.client, usual: DatasetColumns.usualClient, what: "client")
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
}
