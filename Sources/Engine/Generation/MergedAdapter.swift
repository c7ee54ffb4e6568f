import FedLoRALinearAlgebra

/// The adapted modules of a model as plain ones: W = W₀ + s B A, a copy of each adapted weight as floats.
///
/// A token then costs what it costs the base model; the copies cost 4 bytes a weight. Sums are taken in another order, so
/// results differ from the unmerged ones in the last bits.
///
/// `@unchecked Sendable`: nothing is written after `init`; the copies are freed in `deinit`.
final class MergedAdapter: @unchecked Sendable {
  private var linears: [[FrozenModel.Linear?]] = []
  private var copies: [UnsafeMutablePointer<Float>] = []

  /// Merges `parameters`, a flat vector in the model's layout.
  init(_ model: AdaptedModel, parameters: UnsafePointer<Float>) {
    let rank = model.adapter.rank
    let scratch = UnsafeMutablePointer<Float>.allocate(
      capacity: max(1, 2 * (model.projections?.largestOutput ?? 0) * rank)
    )
    defer { scratch.deallocate() }
    let vera = model.projections.map { AdaptedLinear.VeRA(projections: $0, scratch: scratch) }
    linears = zip(model.base.layers, model.slots).map { layer, slots in
      zip(layer.modules, slots).map { linear, slot in
        guard let slot, let linear else { return nil }
        let (input, output) = (linear.inputSize, linear.outputSize)
        let copy = UnsafeMutablePointer<Float>.allocate(capacity: max(input * output, 1))
        copies.append(copy)
        linear.weight.copyRows(from: 0, count: linear.weight.rows, to: copy)
        let adapted = AdaptedLinear(linear: linear, slot: slot, rank: rank, scale: model.adapter.scale, vera: vera)
        adapted.withFactors(slot, parameters) { factors in
          // B A, or Aᵀ Bᵀ where the inputs stand first.
          let (rows, columns) = linear.hasInputsFirst ? (input, output) : (output, input)
          BLAS.sgemm(
            transA: linear.hasInputsFirst,
            transB: linear.hasInputsFirst,
            m: rows,
            n: columns,
            k: rank,
            alpha: model.adapter.scale,
            a: linear.hasInputsFirst ? factors.a : factors.b,
            lda: linear.hasInputsFirst ? factors.width : rank,
            b: linear.hasInputsFirst ? factors.b : factors.a,
            ldb: linear.hasInputsFirst ? rank : factors.width,
            beta: 1,
            c: copy,
            ldc: columns
          )
        }
        return FrozenModel.Linear(
          weight: FrozenMatrix(copy, rows: linear.weight.rows, columns: linear.weight.columns),
          bias: linear.bias,
          inputSize: input,
          outputSize: output,
          hasInputsFirst: linear.hasInputsFirst
        )
      }
    }
  }

  deinit { for copy in copies { copy.deallocate() } }

  /// The merged module; nil where it has no adapter.
  func linear(_ layer: Int, _ module: LayerModule) -> FrozenModel.Linear? { linears[layer][module.rawValue] }
}
