import FedLoRACheckpoint
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

func randomTensor(_ shape: [Int], _ generator: inout SeededGenerator, scale: Double = 1) throws -> Tensor {
  try Tensor(
    shape: shape,
    values: (0..<shape.reduce(1, *)).map { _ in Float(scale * generator.signedUnit()) }
  )
}

func matrix(_ tensor: Tensor?) throws -> Matrix {
  guard let tensor else { throw MissingTensor() }
  return try Matrix(rows: tensor.shape[0], columns: tensor.shape[1], floats: tensor.values)
}

struct MissingTensor: Error {}

/// B·A in double precision, dense.
func denseProduct(b: Tensor?, a: Tensor?) throws -> Matrix { try Matrix.product(matrix(b), matrix(a)) }

/// Σ wₖ·Mₖ / Σ wₖ.
func weightedMean(_ matrices: [Matrix], _ weights: [Int]) -> Matrix {
  var sum = Matrix(zeros: matrices[0].rows, matrices[0].columns)
  for (matrix, weight) in zip(matrices, weights) {
    for index in sum.values.indices { sum.values[index] += Double(weight) * matrix.values[index] }
  }
  let total = Double(weights.reduce(0, +))
  for index in sum.values.indices { sum.values[index] /= total }
  return sum
}

/// ‖x − y‖ / ‖y‖ in the Frobenius norm; the plain norm of x where y is zero.
func relativeDifference(_ x: Matrix, _ y: Matrix) -> Double {
  var difference = x
  for index in difference.values.indices { difference.values[index] -= y.values[index] }
  let scale = y.frobeniusNorm
  return scale == 0 ? difference.frobeniusNorm : difference.frobeniusNorm / scale
}

/// The largest element of |A·Aᵀ − 1|.
func orthonormalityError(_ a: Tensor?) throws -> Double {
  let a = try matrix(a)
  var gram = try Matrix.product(a, a, transB: true)
  for index in 0..<gram.rows { gram[index, index] -= 1 }
  return gram.largestMagnitude
}

let nameOfA = "layer.0.query.lora_A.weight"
let nameOfB = "layer.0.query.lora_B.weight"
