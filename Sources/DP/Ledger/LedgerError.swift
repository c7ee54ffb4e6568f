import Foundation

/// Why a ledger cannot be opened, read or charged. Nothing in the file is ever lost by one of these.
public enum LedgerError: Error, Equatable, CustomStringConvertible {
  /// The system refused an operation on the file.
  case system(path: String, operation: String, code: Int32)
  /// Another process, or another part of this one, holds the ledger.
  case inUse(path: String)
  /// A line is not what was written.
  case damaged(path: String, line: Int, reason: String)
  /// The ledger is of other data.
  case otherDataset(path: String, found: String, expected: String)
  /// The ledger is for other neighbours.
  case otherRelation(path: String, found: NeighbouringRelation, expected: NeighbouringRelation)
  /// A fingerprint is not a hexadecimal string.
  case badFingerprint(String)
  /// Another program replaced, removed or changed the file while it was open.
  case changed(path: String)
  /// Writing failed before, so it is not known how the file ends.
  case closed(path: String)

  /// What was wrong, what was expected, and what to do.
  public var description: String {
    switch self {
    case .system(let path, let operation, let code):
      "cannot \(operation) the privacy ledger \(path): \(String(cString: strerror(code)))"
    case .inUse(let path):
      "the privacy ledger \(path) is in use by another process; two clients must not spend from one ledger at a time"
    case .damaged(let path, let line, let reason):
      "line \(line) of the privacy ledger \(path) is damaged: \(reason). "
        + "Restore the file from a copy; without it, what this data has spent is not known"
    case .otherDataset(let path, let found, let expected):
      "the privacy ledger \(path) is of the data with fingerprint \(found), not \(expected). "
        + "Give the ledger of this data, or record that the data changed, which keeps what was spent"
    case .otherRelation(let path, let found, let expected):
      "the privacy ledger \(path) counts neighbours as \(found.rawValue), not \(expected.rawValue); "
        + "the two do not add up, so use the former"
    case .badFingerprint(let text):
      "a data set's fingerprint is '\(text)', expected a string of hexadecimal digits"
    case .changed(let path):
      "the privacy ledger \(path) was replaced, removed or changed by another program while it was open; "
        + "nothing was written and nothing may be released. Put the file back and open it again"
    case .closed(let path):
      "the privacy ledger \(path) could not be written or was closed before; open it again to see how it ends"
    }
  }
}
