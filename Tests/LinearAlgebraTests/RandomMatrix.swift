import FedLoRALinearAlgebra

/// SplitMix64: a generator whose sequence is fixed by its seed, so that a failing seed can be replayed.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  /// Uniform in (−1, 1).
  mutating func signedUnit() -> Double { Double(Int64(bitPattern: next()) >> 10) / Double(1 << 53) }
}

func randomMatrix(_ rows: Int, _ columns: Int, _ generator: inout SeededGenerator) throws -> Matrix {
  try Matrix(rows: rows, columns: columns, values: (0..<rows * columns).map { _ in generator.signedUnit() })
}

/// The product by its definition.
func naiveProduct(_ a: Matrix, _ b: Matrix) -> Matrix {
  var result = Matrix(zeros: a.rows, b.columns)
  for row in 0..<a.rows {
    for column in 0..<b.columns {
      var sum = 0.0
      for inner in 0..<a.columns { sum += a[row, inner] * b[inner, column] }
      result[row, column] = sum
    }
  }
  return result
}

func largestDifference(_ a: Matrix, _ b: Matrix) -> Double {
  guard a.rows == b.rows, a.columns == b.columns else { return .infinity }
  return zip(a.values, b.values).reduce(0) { max($0, abs($1.0 - $1.1)) }
}
