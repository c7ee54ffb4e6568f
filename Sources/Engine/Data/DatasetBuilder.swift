/// Makes examples of rows: finds the columns, checks every value and numbers the labels.
struct DatasetBuilder {
  let file: String
  let records: Records
  let columns: DatasetColumns

  /// Most labels that numbers may stand for.
  private static let maximumLabels = 10_000

  private enum RawLabel {
    case name(String)
    case number(Int)
  }

  func dataset(labels given: [String]?) throws(DatasetError) -> Dataset {
    guard !records.rows.isEmpty else {
      throw failure(.empty, nil, nil, "no example", "at least one")
    }
    let textColumn = try needed(columns.text, usual: DatasetColumns.usualText, what: "text")
    let labelColumn = try needed(columns.label, usual: DatasetColumns.usualLabel, what: "label")
    let pairColumn = try optional(columns.pair, usual: DatasetColumns.usualPair, what: "second text")
    let clientColumn = try optional(columns.client, usual: DatasetColumns.usualClient, what: "client")
    var raw: [RawLabel] = []
    var parts: [(text: String, pair: String?, client: String?)] = []
    for row in records.rows {
      let text = try string(row, textColumn, numberAllowed: false)
      var (pair, client): (String?, String?)
      if let pairColumn { pair = try string(row, pairColumn, numberAllowed: false) }
      if let clientColumn { client = try string(row, clientColumn, numberAllowed: true) }
      parts.append((text, pair, client))
      raw.append(try label(row, labelColumn))
    }
    let names: [String]
    if let given { names = given } else { names = try self.names(of: raw, labelColumn) }
    var indices: [String: Int] = [:]
    for (index, name) in names.enumerated() { indices[name] = index }
    let isNumbered = given == nil && names == names.indices.map(String.init)
    var examples: [Example] = []
    examples.reserveCapacity(parts.count)
    for (index, part) in parts.enumerated() {
      let number = try self.index(of: raw[index], indices, names, isNumbered, records.rows[index].line, labelColumn)
      examples.append(Example(text: part.text, pair: part.pair, label: number, client: part.client))
    }
    return Dataset(examples: examples, labels: names)
  }

  // MARK: Columns

  /// The place of a column that every file has.
  func needed(_ wanted: String?, usual: [String], what: String) throws(DatasetError) -> Int {
    let candidates = wanted.map { [$0] } ?? usual
    for name in candidates {
      if let place = records.columns.firstIndex(of: name) { return place }
    }
    throw failure(
      .missingColumn,
      records.rows.first?.line,
      nil,
      "the columns \(records.columns.joined(separator: ", "))",
      "a column \(candidates.joined(separator: " or ")) with the \(what); say which one it is if it has another name"
    )
  }

  /// The place of a column that must be there only if the caller names it.
  func optional(_ wanted: String?, usual: [String], what: String) throws(DatasetError) -> Int? {
    if wanted != nil { return try needed(wanted, usual: usual, what: what) }
    return usual.lazy.compactMap { records.columns.firstIndex(of: $0) }.first
  }

  func string(_ row: Records.Row, _ place: Int, numberAllowed: Bool) throws(DatasetError) -> String {
    let name = records.columns[place]
    switch row[place] {
    case .text(let text)?:
      if text.unicodeScalars.allSatisfy(\.properties.isWhitespace) {
        throw failure(.emptyField, row.line, name, "nothing", "some text; leave such rows out")
      }
      return text
    case .number(let number)? where numberAllowed: return String(number)
    case .number(let number)?: throw failure(.wrongKind, row.line, name, "the number \(number)", "a string")
    case .decimal(let number)?: throw failure(.wrongKind, row.line, name, "the number \(number)", "a string")
    case .list?: throw failure(.wrongKind, row.line, name, "an array", "a string")
    case .other(let kind)?: throw failure(.wrongKind, row.line, name, kind, "a string")
    case nil: throw failure(.missingColumn, row.line, name, "no value", "a value in every row")
    }
  }

  // MARK: Labels

  private func label(_ row: Records.Row, _ place: Int) throws(DatasetError) -> RawLabel {
    if case .number(let number)? = row[place] { return .number(number) }
    return .name(try string(row, place, numberAllowed: false))
  }

  private static func number(_ raw: RawLabel) -> Int? {
    switch raw {
    case .number(let number): number
    case .name(let name): name.utf8.allSatisfy { $0 &- 0x30 < 10 } ? Int(name) : nil
    }
  }

  /// The names of a file that sets them itself: sorted by their scalars, or "0", "1" and so on where all are numbers.
  private func names(of raw: [RawLabel], _ place: Int) throws(DatasetError) -> [String] {
    let numbers = raw.compactMap(Self.number)
    if numbers.count == raw.count, let greatest = numbers.max() {
      for (index, number) in numbers.enumerated() where !(0..<Self.maximumLabels).contains(number) {
        throw failure(
          .unknownLabel,
          records.rows[index].line,
          records.columns[place],
          "\(number)",
          "an index from 0 to \(Self.maximumLabels - 1)"
        )
      }
      return (0...greatest).map(String.init)
    }
    let names = Set(
      raw.map { label in
        switch label {
        case .name(let name): name
        case .number(let number): String(number)
        }
      }
    )
    return names.sorted { $0.unicodeScalars.lexicographicallyPrecedes($1.unicodeScalars) }
  }

  private func index(
    of raw: RawLabel,
    _ indices: [String: Int],
    _ names: [String],
    _ isNumbered: Bool,
    _ line: Int,
    _ place: Int
  ) throws(DatasetError) -> Int {
    let name =
      switch raw {
      case .name(let name): name
      case .number(let number): String(number)
      }
    if !isNumbered, let index = indices[name] { return index }
    if let number = Self.number(raw), names.indices.contains(number) { return number }
    let shown = names.prefix(20).joined(separator: ", ") + (names.count > 20 ? ", …" : "")
    throw failure(
      .unknownLabel,
      line,
      records.columns[place],
      "\"\(name)\"",
      "one of \(shown), or an index below \(names.count)"
    )
  }

  func failure(
    _ code: DatasetError.Code,
    _ line: Int?,
    _ column: String?,
    _ found: String,
    _ expected: String
  ) -> DatasetError {
    DatasetError(
      code: code,
      file: file,
      line: line,
      column: column.map { "column \($0)" },
      found: found,
      expected: expected
    )
  }
}
