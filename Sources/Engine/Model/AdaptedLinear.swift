import CKernels
import FedLoRALinearAlgebra

/// A frozen linear module with its LoRA, forward and backward.
///
/// Y = X W₀ᵀ + b + s (drop(X) Aᵀ) Bᵀ, X of T × dIn, Y of T × dOut, H = drop(X) Aᵀ of T × r.
/// Cost of LoRA beside the frozen product: 2 T r (dIn + dOut) flops forward, twice that backward.
struct AdaptedLinear {
  let linear: FrozenModel.Linear
  /// Nil where the module has no adapter.
  let slot: AdaptedModel.Slot?
  let rank: Int
  let scale: Float

  /// How the adapter's input is dropped in this pass.
  struct Dropout {
    /// Nil outside training or at probability 0.
    let key: UInt64?
    let probability: Double
    /// Place of the slice's first token in the batch, so that the mask does not depend on how the batch was cut.
    let firstToken: Int

    func apply(
      _ x: UnsafePointer<Float>,
      to y: UnsafeMutablePointer<Float>,
      rows: Int,
      columns: Int,
      slot: Int
    ) {
      guard let key else { return }
      let mixed = (key &+ UInt64(slot) &* 0x9E37_79B9_7F4A_7C15) ^ (key >> 29)
      fl_dropout(
        x,
        y,
        rows * columns,
        mixed,
        UInt32(truncatingIfNeeded: firstToken * columns),
        UInt32(probability * 4_294_967_296.0),
        Float(1 / (1 - probability))
      )
    }
  }

  /// Writes Y, and H into `down` where there is an adapter.
  func forward(
    _ x: UnsafePointer<Float>,
    rows: Int,
    parameters: UnsafePointer<Float>,
    output y: UnsafeMutablePointer<Float>,
    down: UnsafeMutablePointer<Float>?,
    dropout: Dropout,
    scratch: UnsafeMutablePointer<Float>
  ) {
    let (input, output) = (linear.inputSize, linear.outputSize)
    fl_fill_rows(y, linear.bias, rows, output)
    BLAS.sgemm(
      transA: false,
      transB: true,
      m: rows,
      n: output,
      k: input,
      a: x,
      lda: input,
      b: linear.weight,
      ldb: input,
      beta: 1,
      c: y,
      ldc: output
    )
    guard let slot, let down else { return }
    let adapterInput = self.adapterInput(x, rows: rows, slot: slot, dropout: dropout, scratch: scratch)
    BLAS.sgemm(
      transA: false,
      transB: true,
      m: rows,
      n: rank,
      k: input,
      a: adapterInput,
      lda: input,
      b: parameters + slot.aOffset,
      ldb: input,
      c: down,
      ldc: rank
    )
    BLAS.sgemm(
      transA: false,
      transB: true,
      m: rows,
      n: output,
      k: rank,
      alpha: scale,
      a: down,
      lda: rank,
      b: parameters + slot.bOffset,
      ldb: rank,
      beta: 1,
      c: y,
      ldc: output
    )
  }

  /// Leaves the gradients of A and B in `gradients` and, where asked for, the gradient of X in `gradInput`.
  ///
  /// dB = s dYᵀ H, dH = s dY B, dA = dHᵀ drop(X), dX = dY W₀ + mask ∘ (dH A); for one sequence the same over its rows.
  /// - Parameters:
  ///   - groups: how the rows belong to sequences.
  ///   - overwrite: whether `gradInput` is set rather than added to.
  func backward(
    _ dy: UnsafePointer<Float>,
    input x: UnsafePointer<Float>,
    rows: Int,
    parameters: UnsafePointer<Float>,
    gradients: GradientTarget,
    groups: GradientTarget.Rows,
    trained: TrainedKinds,
    down: UnsafePointer<Float>?,
    gradInput: UnsafeMutablePointer<Float>?,
    overwrite: Bool,
    dropout: Dropout,
    gradDown: UnsafeMutablePointer<Float>,
    scratch: UnsafeMutablePointer<Float>
  ) {
    let (input, output) = (linear.inputSize, linear.outputSize)
    if let gradInput {
      BLAS.sgemm(
        transA: false,
        transB: false,
        m: rows,
        n: input,
        k: output,
        a: dy,
        lda: output,
        b: linear.weight,
        ldb: input,
        beta: overwrite ? 0 : 1,
        c: gradInput,
        ldc: input
      )
    }
    guard let slot, let down else { return }
    if trained.contains(.loraB) {
      gradients.forEachGroup(groups, offset: slot.bOffset, count: output * rank) { first, count, target, beta in
        BLAS.sgemm(
          transA: true,
          transB: false,
          m: output,
          n: rank,
          k: count,
          alpha: scale,
          a: dy + first * output,
          lda: output,
          b: down + first * rank,
          ldb: rank,
          beta: beta,
          c: target,
          ldc: rank
        )
      }
    }
    guard trained.contains(.loraA) || gradInput != nil else { return }
    BLAS.sgemm(
      transA: false,
      transB: false,
      m: rows,
      n: rank,
      k: output,
      alpha: scale,
      a: dy,
      lda: output,
      b: parameters + slot.bOffset,
      ldb: rank,
      c: gradDown,
      ldc: rank
    )
    if trained.contains(.loraA) {
      let adapterInput = self.adapterInput(x, rows: rows, slot: slot, dropout: dropout, scratch: scratch)
      gradients.forEachGroup(groups, offset: slot.aOffset, count: rank * input) { first, count, target, beta in
        BLAS.sgemm(
          transA: true,
          transB: false,
          m: rank,
          n: input,
          k: count,
          a: gradDown + first * rank,
          lda: rank,
          b: adapterInput + first * input,
          ldb: input,
          beta: beta,
          c: target,
          ldc: input
        )
      }
    }
    guard let gradInput else { return }
    if dropout.key == nil {
      BLAS.sgemm(
        transA: false,
        transB: false,
        m: rows,
        n: input,
        k: rank,
        a: gradDown,
        lda: rank,
        b: parameters + slot.aOffset,
        ldb: input,
        beta: 1,
        c: gradInput,
        ldc: input
      )
    } else {
      BLAS.sgemm(
        transA: false,
        transB: false,
        m: rows,
        n: input,
        k: rank,
        a: gradDown,
        lda: rank,
        b: parameters + slot.aOffset,
        ldb: input,
        c: scratch,
        ldc: input
      )
      dropout.apply(scratch, to: scratch, rows: rows, columns: input, slot: slot.index)
      fl_add(gradInput, scratch, rows * input)
    }
  }

  private func adapterInput(
    _ x: UnsafePointer<Float>,
    rows: Int,
    slot: AdaptedModel.Slot,
    dropout: Dropout,
    scratch: UnsafeMutablePointer<Float>
  ) -> UnsafePointer<Float> {
    guard dropout.key != nil else { return x }
    dropout.apply(x, to: scratch, rows: rows, columns: linear.inputSize, slot: slot.index)
    return UnsafePointer(scratch)
  }
}
