/// A data file that cannot be used, with the place and what would be right.
public struct DatasetError: Error, Equatable, CustomStringConvertible {
  /// What is wrong.
  public enum Code: String, Sendable {
    /// The file cannot be read.
    case unreadable
    /// Neither the file's name nor the caller says what format it has.
    case unknownFormat
    /// There is no example in it.
    case empty
    /// Bytes that are not UTF-8.
    case notUTF8
    /// A line that is not JSON, or no object.
    case invalidJSON
    /// The header is missing, or names a column twice.
    case badHeader
    /// A column or key that is needed is not there.
    case missingColumn
    /// A row with more or fewer fields than the header.
    case raggedRow
    /// A quoted field that never ends, or goes on after its closing quote.
    case badQuotes
    /// A text, label or client that is empty.
    case emptyField
    /// A value of the wrong kind.
    case wrongKind
    /// A label that is not among the known ones.
    case unknownLabel
    /// A label that is to be a number and is none.
    case badNumber
    /// Columns that leave open what is to be learnt.
    case ambiguousColumns
    /// Answers to choose from that are none, or without the right one.
    case badChoices
    /// Messages that are no conversation to learn from.
    case badConversation
  }

  /// What is wrong.
  public let code: Code
  /// The file.
  public let file: String
  /// The line, from 1; nil where the file as a whole is meant.
  public let line: Int?
  /// The column's name, or a place in the line; nil where the line as a whole is meant.
  public let column: String?
  /// What is there.
  public let found: String
  /// What should be there, and what to do.
  public let expected: String

  /// The error in words.
  public var description: String {
    let place = [file] + (line.map { ["line \($0)"] } ?? []) + (column.map { [$0] } ?? [])
    return "\(place.joined(separator: ", ")): found \(found), expected \(expected)"
  }
}
