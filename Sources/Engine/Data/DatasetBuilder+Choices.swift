extension DatasetBuilder {
  /// Questions with answers to choose from: the right one is learnt as the response.
  func choiceDataset(_ column: String, _ clientColumn: Int?) throws(DatasetError) -> Dataset {
    let promptColumn = try needed(columns.prompt, usual: DatasetColumns.usualPrompt, what: "prompt")
    let rightColumn = try needed(columns.response, usual: DatasetColumns.usualRight, what: "right answer")
    let choiceColumn = try needed(column, usual: [], what: "choices")
    var examples: [Example] = []
    examples.reserveCapacity(records.rows.count)
    for row in records.rows {
      let choices = try choices(row, choiceColumn)
      let right: Int?
      switch row[rightColumn] {
      case .number(let number)?: right = choices.indices.contains(number) ? number : nil
      default:
        let text = try string(row, rightColumn, numberAllowed: false)
        right = choices.firstIndex { $0.utf8.elementsEqual(text.utf8) }
      }
      guard let right else {
        throw failure(
          .badChoices,
          row.line,
          records.columns[rightColumn],
          "what is none of the \(choices.count) choices",
          "the text of one of them, or its number from 0 to \(choices.count - 1)"
        )
      }
      var client: String?
      if let clientColumn { client = try string(row, clientColumn, numberAllowed: true) }
      examples.append(
        Example(
          text: try string(row, promptColumn, numberAllowed: false),
          pair: choices[right],
          label: Example.unlabelled,
          client: client,
          choices: choices
        )
      )
    }
    return Dataset(examples: examples, labels: [])
  }

  private func choices(_ row: Records.Row, _ place: Int) throws(DatasetError) -> [String] {
    func bad(_ found: String) -> DatasetError {
      failure(.badChoices, row.line, records.columns[place], found, "a list of at least two different texts")
    }
    guard case .list(let items)? = row[place] else { throw bad("no array") }
    var choices: [String] = []
    for item in items {
      guard case .string(let text) = item, text.unicodeScalars.contains(where: { !$0.properties.isWhitespace }) else {
        throw bad("a choice that is no text")
      }
      choices.append(text)
    }
    guard choices.count >= 2 else { throw bad("\(choices.count) choices") }
    guard Set(choices.map { Array($0.utf8) }).count == choices.count else { throw bad("a choice twice") }
    return choices
  }
}
