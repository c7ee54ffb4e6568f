import FedLoRALinearAlgebra

/// The adapted modules of a model as plain ones: W = W₀ + s B A, a copy of each adapted weight.
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
        guard let slot else { return nil }
        let count = linear.outputSize * linear.inputSize
        let copy = UnsafeMutablePointer<Float>.allocate(capacity: max(count, 1))
        copies.append(copy)
        copy.initialize(from: linear.weight, count: count)
        let adapted = AdaptedLinear(linear: linear, slot: slot, rank: rank, scale: model.adapter.scale, vera: vera)
        adapted.withFactors(slot, parameters) { factors in
          BLAS.sgemm(
            transA: false,
            transB: false,
            m: linear.outputSize,
            n: linear.inputSize,
            k: rank,
            alpha: model.adapter.scale,
            a: factors.b,
            lda: rank,
            b: factors.a,
            ldb: factors.width,
            beta: 1,
            c: copy,
            ldc: linear.inputSize
          )
        }
        return FrozenModel.Linear(
          weight: UnsafePointer(copy),
          bias: linear.bias,
          inputSize: linear.inputSize,
          outputSize: linear.outputSize
        )
      }
    }
  }

  deinit { for copy in copies { copy.deallocate() } }

  /// The merged module; nil where it has no adapter.
  func linear(_ layer: Int, _ module: LayerModule) -> FrozenModel.Linear? { linears[layer][module.rawValue] }
}
