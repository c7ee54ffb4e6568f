/// Why an operation on matrices was refused or did not finish.
public enum LinearAlgebraError: Error, Equatable, CustomStringConvertible {
  /// The operands' shapes do not go together.
  case shapeMismatch(operation: String, found: String, expected: String)
  /// An operand holds NaN or infinity; `row` and `column` are those of the first such element.
  case notFinite(operation: String, row: Int, column: Int)
  /// A buffer is shorter than its shape and stride need.
  case bufferTooShort(operation: String, buffer: String, found: Int, expected: Int)
  /// A distance between rows is smaller than a row.
  case strideTooSmall(operation: String, buffer: String, found: Int, expected: Int)
  /// An extent is negative or more than BLAS's 32-bit integers count.
  case extentOutOfRange(operation: String, extent: Int)
  /// LAPACK reported `info` ≠ 0: positive when an iteration did not converge, negative for a bad argument.
  case lapack(operation: String, routine: String, info: Int)

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .shapeMismatch(let operation, let found, let expected):
      "\(operation): found \(found), expected \(expected)"
    case .notFinite(let operation, let row, let column):
      "\(operation): the element at row \(row), column \(column) is not finite; only finite matrices are accepted"
    case .bufferTooShort(let operation, let buffer, let found, let expected):
      "\(operation): \(buffer) holds \(found) elements, its shape and stride need \(expected)"
    case .strideTooSmall(let operation, let buffer, let found, let expected):
      "\(operation): the rows of \(buffer) are \(found) elements apart, a row needs \(expected)"
    case .extentOutOfRange(let operation, let extent):
      "\(operation): extent \(extent) is outside 0...\(Int32.max)"
    case .lapack(let operation, let routine, let info):
      info > 0
        ? "\(operation): \(routine) did not converge (info \(info)); the matrix may be badly scaled"
        : "\(operation): \(routine) refused its argument \(-info)"
    }
  }
}
