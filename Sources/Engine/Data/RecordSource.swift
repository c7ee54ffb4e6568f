/// Rows as they stand in a file: values by column, none interpreted yet.
struct Records {
  /// One row and the line it starts on. It holds its own values alone: in JSON lines every row may bring a column of its
  /// own, and a place for each column in each row would take memory with the square of the file.
  struct Row {
    let line: Int
    private let values: [RecordValue]
    /// The columns of `values`; nil where they are the first ones in order.
    private let places: [Int]?

    /// A row with a value for each column.
    init(line: Int, fields: [String]) {
      self.line = line
      values = fields.map { .text($0) }
      places = nil
    }

    /// A row with values for some columns.
    init(line: Int, values: [RecordValue], places: [Int]) {
      self.line = line
      self.values = values
      self.places = places
    }

    /// The value in this column, if there is one.
    subscript(column: Int) -> RecordValue? {
      guard let places else { return values.indices.contains(column) ? values[column] : nil }
      return places.firstIndex(of: column).map { values[$0] }
    }
  }

  let columns: [String]
  let rows: [Row]
}

/// A value of a row.
enum RecordValue {
  case text(String)
  case number(Int)
  /// A number with a fraction or an exponent, or too large for a whole one.
  case decimal(Double)
  case list([JSONNode])
  /// Something else, described.
  case other(String)
}

/// Cuts a file's bytes into rows. Works on bytes; text is made of whole fields only, and checked to be UTF-8.
struct RecordSource {
  let file: String

  private static let lineFeed = UInt8(ascii: "\n")
  private static let carriageReturn = UInt8(ascii: "\r")

  // MARK: Formats

  func jsonLines(_ bytes: [UInt8]) throws(DatasetError) -> Records {
    var columns: [String] = []
    var places: [[UInt8]: Int] = [:]
    var rows: [Records.Row] = []
    for (index, line) in lines(of: bytes).enumerated() where !line.allSatisfy({ $0 == 0x20 || $0 == 0x09 }) {
      let node: JSONNode
      do {
        _ = try text(line, line: index + 1)
        node = try JSONNode(parsing: Array(line))
      } catch let error as JSONSyntaxError {
        throw failure(
          .invalidJSON,
          index + 1,
          "byte \(error.offset + 1)",
          error.reason,
          "one JSON object a line"
        )
      } catch let error as DatasetError {
        throw error
      } catch {
        throw failure(.invalidJSON, index + 1, nil, "\(error)", "one JSON object a line")
      }
      guard case .object(let members) = node else {
        throw failure(.invalidJSON, index + 1, nil, node.kind, "a JSON object")
      }
      var (values, own): ([RecordValue], [Int]) = ([], [])
      for member in members {
        let key = Array(member.key.utf8)
        let place = places[key] ?? columns.count
        if place == columns.count {
          places[key] = place
          columns.append(member.key)
        }
        switch member.value {
        case .string(let text): values.append(.text(text))
        case .integer(let number): values.append(.number(number))
        case .double(let number): values.append(.decimal(number))
        case .array(let items): values.append(.list(items))
        case .null: continue
        default: values.append(.other(member.value.kind))
        }
        own.append(place)
      }
      rows.append(Records.Row(line: index + 1, values: values, places: own))
    }
    return Records(columns: columns, rows: rows)
  }

  func tabSeparated(_ bytes: [UInt8]) throws(DatasetError) -> Records {
    var fields: [(line: Int, fields: [String])] = []
    for (index, line) in lines(of: bytes).enumerated() where !line.isEmpty {
      var row: [String] = []
      for field in line.split(separator: UInt8(ascii: "\t"), omittingEmptySubsequences: false) {
        row.append(try text(field, line: index + 1, start: line.startIndex))
      }
      fields.append((index + 1, row))
    }
    return try table(fields)
  }

  func commaSeparated(_ bytes: [UInt8]) throws(DatasetError) -> Records {
    var rows: [(line: Int, fields: [String])] = []
    var (row, field): ([String], [UInt8]) = ([], [])
    var (line, rowLine, index, lineStart) = (1, 1, 0, 0)
    func end(of byte: Int) -> Bool { byte >= bytes.count || bytes[byte] == Self.lineFeed }

    func isRowEnd(_ at: Int) -> Bool { end(of: at) || bytes[at] == Self.carriageReturn && end(of: at + 1) }
    while index < bytes.count {
      // At the start of a field.
      let fieldLine = line
      field.removeAll(keepingCapacity: true)
      let isQuoted = bytes[index] == UInt8(ascii: "\"")
      if isQuoted {
        index += 1
        while true {
          guard index < bytes.count else {
            throw failure(
              .badQuotes,
              fieldLine,
              "field \(row.count + 1)",
              "no closing quote",
              "a quote at the field's end"
            )
          }
          if bytes[index] == UInt8(ascii: "\"") {
            index += 1
            guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") else { break }
          } else if bytes[index] == Self.lineFeed {
            line += 1
            lineStart = index + 1
          }
          field.append(bytes[index])
          index += 1
        }
        guard isRowEnd(index) || bytes[index] == UInt8(ascii: ",") else {
          throw failure(
            .badQuotes,
            line,
            "field \(row.count + 1), byte \(index - lineStart + 1)",
            "text after the closing quote",
            "a comma or the line's end; a quote inside a quoted field is written twice"
          )
        }
      } else {
        while !isRowEnd(index), bytes[index] != UInt8(ascii: ",") {
          field.append(bytes[index])
          index += 1
        }
      }
      row.append(try text(field[...], line: fieldLine))
      if index < bytes.count, bytes[index] == UInt8(ascii: ",") {
        index += 1
        // A comma at the very end of the file is followed by one more, empty field.
        if index < bytes.count { continue }
        row.append("")
      } else {
        if index < bytes.count, bytes[index] == Self.carriageReturn { index += 1 }
        index += 1
      }
      if row != [""] || isQuoted { rows.append((rowLine, row)) }
      row = []
      line += 1
      lineStart = index
      rowLine = line
    }
    return try table(rows)
  }

  // MARK: Parts

  /// A header row and rows of as many fields.
  private func table(_ rows: [(line: Int, fields: [String])]) throws(DatasetError) -> Records {
    guard let header = rows.first else {
      throw failure(.badHeader, nil, nil, "an empty file", "a header row with the names of the columns")
    }
    var seen: Set<String> = []
    for name in header.fields where !seen.insert(name).inserted {
      throw failure(.badHeader, header.line, nil, "the column \"\(name)\" twice", "different names")
    }
    var result: [Records.Row] = []
    for row in rows.dropFirst() {
      guard row.fields.count == header.fields.count else {
        throw failure(
          .raggedRow,
          row.line,
          nil,
          "\(row.fields.count) fields",
          "\(header.fields.count) as in the header: \(header.fields.joined(separator: ", "))"
        )
      }
      result.append(Records.Row(line: row.line, fields: row.fields))
    }
    return Records(columns: header.fields, rows: result)
  }

  /// Lines without their ends; what follows the last line end counts only if it is not empty.
  private func lines(of bytes: [UInt8]) -> [ArraySlice<UInt8>] {
    var lines = bytes.split(separator: Self.lineFeed, omittingEmptySubsequences: false).map { line in
      line.last == Self.carriageReturn ? line.dropLast() : line
    }
    if lines.last?.isEmpty == true { lines.removeLast() }
    return lines
  }

  private func text(_ bytes: ArraySlice<UInt8>, line: Int, start: Int? = nil) throws(DatasetError) -> String {
    if let text = String(validating: bytes, as: UTF8.self) { return text }
    // Repair marks the first bad byte: everything before it is valid and comes back unchanged.
    var valid = 0
    for (own, repaired) in zip(bytes, String(decoding: bytes, as: UTF8.self).utf8) {
      guard own == repaired else { break }
      valid += 1
    }
    let place = bytes.startIndex + valid
    throw failure(
      .notUTF8,
      line,
      "byte \(place - (start ?? bytes.startIndex) + 1)",
      place < bytes.endIndex ? "byte 0x\(String(bytes[place], radix: 16))" : "a cut character",
      "UTF-8; convert the file, for example with iconv"
    )
  }

  private func failure(
    _ code: DatasetError.Code,
    _ line: Int?,
    _ column: String?,
    _ found: String,
    _ expected: String
  ) -> DatasetError {
    DatasetError(code: code, file: file, line: line, column: column, found: found, expected: expected)
  }
}
