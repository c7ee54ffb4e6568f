extension DatasetBuilder {
  /// Examples with a number each.
  func regressionDataset() throws(DatasetError) -> Dataset {
    guard !records.rows.isEmpty else { throw failure(.empty, nil, nil, "no example", "at least one") }
    let textColumn = try needed(columns.text, usual: DatasetColumns.usualText, what: "text")
    let numberColumn = try needed(columns.label, usual: DatasetColumns.usualNumber, what: "number")
    let pairColumn = try optional(columns.pair, usual: DatasetColumns.usualPair, what: "second text")
    let clientColumn = try optional(columns.client, usual: DatasetColumns.usualClient, what: "client")
    var examples: [Example] = []
    examples.reserveCapacity(records.rows.count)
    for row in records.rows {
      let text = try string(row, textColumn, numberAllowed: false)
      var (pair, client): (String?, String?)
      if let pairColumn { pair = try string(row, pairColumn, numberAllowed: false) }
      if let clientColumn { client = try string(row, clientColumn, numberAllowed: true) }
      examples.append(Example(text: text, pair: pair, value: try finite(row, numberColumn), client: client))
    }
    return Dataset(examples: examples, labels: [])
  }

  /// The number in a column: a number of JSON, or a text that is one in decimal digits.
  private func finite(_ row: Records.Row, _ place: Int) throws(DatasetError) -> Double {
    let value: Double?
    switch row[place] {
    case .number(let number)?: value = Double(number)
    case .decimal(let number)?: value = number
    case .text(let text)?: value = Self.decimal(text)
    default: value = nil
    }
    // What is learnt from is a Float.
    if let value, Float(value).isFinite { return value }
    let found =
      switch row[place] {
      case nil: "no value"
      case .text(let text)?: "\"\(text.prefix(40))\""
      case .number(let number)?: "the number \(number)"
      case .decimal(let number)?: "the number \(number)"
      case .list?: "an array"
      case .other(let kind)?: kind
      }
    throw failure(
      .badNumber,
      row.line,
      records.columns[place],
      found,
      "a finite number such as 3.5, which model.task regression learns"
    )
  }

  /// A number as people write it: no infinity, no hexadecimal digits, blanks around it allowed.
  private static func decimal(_ text: String) -> Double? {
    let bytes = Array(text.utf8.drop { $0 == 0x20 || $0 == 0x09 })
    let last = bytes.lastIndex { $0 != 0x20 && $0 != 0x09 }
    guard let last, bytes[...last].allSatisfy({ $0 &- 0x30 < 10 || "+-.eE".utf8.contains($0) }) else { return nil }
    return Double(String(decoding: bytes[...last], as: UTF8.self))
  }
}
