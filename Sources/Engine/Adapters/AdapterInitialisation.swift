import FedLoRALinearAlgebra

/// The start of an adapter and head: PEFT's distributions, from a seed, the same on every machine.
public enum AdapterInitialisation {
  /// The flat vector that a run starts from: A and B by the configured rule, one of them zero, head weight N(0, 0.02²), head bias zero.
  ///
  /// Every tensor has its own stream derived from the seed and its name, so that adding a module changes no other.
  /// - Throws: `LinearAlgebraError` when the orthonormal start's QR fails.
  public static func parameters(of model: AdaptedModel, seed: UInt64) throws -> [Float] {
    var values = [Float](repeating: 0, count: model.layout.count)
    for entry in model.layout.entries {
      var generator = SeededGenerator(seed: seed, "initialisation", .name(entry.name))
      switch entry.kind {
      case .loraA where model.projections != nil, .loraB where model.projections != nil:
        // PEFT's d_initial is 0.1; one of the two scales is zero so that the model starts as its base.
        let isHeld = model.adapter.initialisation == .orthonormalB
        let start: Float = entry.kind == .loraA ? (isHeld ? 0 : 0.1) : (isHeld ? 1 : 0)
        for index in entry.range { values[index] = start }
      case .loraA:
        let start = try matrixA(
          rank: entry.shape[0],
          inputSize: entry.shape[1],
          rule: model.adapter.initialisation,
          generator: &generator
        )
        values.replaceSubrange(entry.range, with: start)
      case .head where entry.shape.count == 2:
        for index in entry.range { values[index] = Float(0.02 * generator.normal()) }
      case .loraB where model.adapter.initialisation == .orthonormalB:
        let (rows, rank) = (entry.shape[0], entry.shape[1])
        let gaussian = try Matrix(
          rows: rows,
          columns: rank,
          values: (0..<rows * rank).map { _ in generator.normal() }
        )
        values.replaceSubrange(entry.range, with: try ThinQR(gaussian).q.floats)
      case .loraB, .head:
        break
      }
    }
    return values
  }

  /// A of r × dIn, row-major.
  private static func matrixA(
    rank: Int,
    inputSize: Int,
    rule: LoRAConfiguration.Initialisation,
    generator: inout SeededGenerator
  ) throws -> [Float] {
    switch rule {
    case .kaiming:
      // Kaiming uniform with a = √5 has the bound √(6 / ((1 + 5) dIn)) = 1/√dIn.
      let bound = 1 / Double(inputSize).squareRoot()
      return (0..<rank * inputSize).map { _ in Float((2 * generator.uniform() - 1) * bound) }
    case .orthonormal:
      let gaussian = try Matrix(
        rows: rank,
        columns: inputSize,
        values: (0..<rank * inputSize).map { _ in generator.normal() }
      )
      return try ThinQR(transposeOf: gaussian).q.transposed.floats
    case .orthonormalB:
      return [Float](repeating: 0, count: rank * inputSize)
    }
  }
}
