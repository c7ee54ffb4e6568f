import FedLoRACheckpoint

/// VeRA's frozen random matrices: one A and one B for all modules of a model, which take the columns and rows that they
/// have inputs and outputs.
///
/// Both follow from the seed, so every client and the coordinator have the same without sending them.
/// Source: Kopiczko et al., "VeRA: Vector-based Random Matrix Adaptation", 2024, with PEFT's distributions.
final class VeRAProjections: Sendable {
  /// r × the largest input, Kaiming uniform over the inputs: U(−√(6/dIn), √(6/dIn)).
  let a: [Float]
  /// The largest output × r, Kaiming uniform over the rank.
  let b: [Float]
  let rank: Int
  let largestInput: Int
  let largestOutput: Int

  init(rank: Int, largestInput: Int, largestOutput: Int, seed: UInt64) {
    func uniform(_ count: Int, fanIn: Int, _ name: SeedPart) -> [Float] {
      var generator = SeededGenerator(seed: seed, "vera-projections", name)
      let bound = (6 / Double(fanIn)).squareRoot()
      return (0..<count).map { _ in Float((2 * generator.uniform() - 1) * bound) }
    }
    self.rank = rank
    self.largestInput = largestInput
    self.largestOutput = largestOutput
    a = uniform(rank * largestInput, fanIn: largestInput, .name("A"))
    b = uniform(largestOutput * rank, fanIn: rank, .name("B"))
  }

  /// Takes matrices that were saved: of at least the size that the modules need, and possibly larger.
  /// - Throws: `ModelError.wrongParameter`.
  init(_ stored: TensorSet, rank: Int, largestInput: Int, largestOutput: Int) throws {
    func matrix(_ name: String, _ fits: ([Int]) -> Bool, _ expected: String) throws -> Tensor {
      guard let tensor = stored[name] else {
        throw ModelError.wrongParameter(
          name: name,
          reason: "is not in the adapter: save VeRA's projections with it (save_projection)"
        )
      }
      guard tensor.shape.count == 2, fits(tensor.shape) else {
        throw ModelError.wrongParameter(name: name, reason: "has shape \(tensor.shape), expected \(expected)")
      }
      return tensor
    }
    let a = try matrix("vera_A", { $0[0] == rank && $0[1] >= largestInput }, "[\(rank), at least \(largestInput)]")
    let b = try matrix("vera_B", { $0[0] >= largestOutput && $0[1] == rank }, "[at least \(largestOutput), \(rank)]")
    self.rank = rank
    self.largestInput = a.shape[1]
    self.largestOutput = b.shape[0]
    (self.a, self.b) = (a.values, b.values)
  }

  /// Both under the names that PEFT saves them with, less `base_model.`.
  var tensors: TensorSet {
    var result = TensorSet()
    result["vera_A"] = try? Tensor(shape: [rank, largestInput], values: a)
    result["vera_B"] = try? Tensor(shape: [largestOutput, rank], values: b)
    return result
  }
}
