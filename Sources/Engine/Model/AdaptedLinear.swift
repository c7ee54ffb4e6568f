import CKernels
import FedLoRALinearAlgebra

/// A frozen linear module with its adapter, forward and backward.
///
/// Y = X W₀ᵀ + b + s (drop(X) Aᵀ) Bᵀ, X of T × dIn, Y of T × dOut, H = drop(X) Aᵀ of T × r.
/// Cost of LoRA beside the frozen product: 2 T r (dIn + dOut) flops forward, twice that backward.
///
/// VeRA is LoRA with s = 1, a frozen A and B = diag(b) P diag(d) for the frozen P: B is folded before each use, and the
/// gradients of b and d follow from B's.
struct AdaptedLinear {
  let linear: FrozenModel.Linear
  /// Nil where the module has no adapter.
  let slot: AdaptedModel.Slot?
  let rank: Int
  let scale: Float
  /// VeRA's frozen matrices; nil under LoRA.
  let vera: VeRA?

  /// What VeRA has beside the parameters.
  struct VeRA {
    let projections: VeRAProjections
    /// 2 · the largest output · rank: the folded B, and its gradient.
    let scratch: UnsafeMutablePointer<Float>
  }

  /// A (r rows, `width` apart) and B (dOut × r) as the products take them.
  struct Factors {
    let a: UnsafePointer<Float>
    let width: Int
    let b: UnsafePointer<Float>
  }

  func withFactors(
    _ slot: AdaptedModel.Slot,
    _ parameters: UnsafePointer<Float>,
    _ body: (Factors) -> Void
  ) {
    guard let vera else {
      return body(Factors(a: parameters + slot.aOffset, width: linear.inputSize, b: parameters + slot.bOffset))
    }
    vera.projections.a.withUnsafeBufferPointer { a in
      vera.projections.b.withUnsafeBufferPointer { b in
        guard let a = a.baseAddress, let b = b.baseAddress else { return }
        fl_vera_fold(b, parameters + slot.bOffset, parameters + slot.aOffset, vera.scratch, linear.outputSize, rank)
        body(Factors(a: a, width: vera.projections.largestInput, b: vera.scratch))
      }
    }
  }

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
    if let bias = linear.bias { fl_fill_rows(y, bias, rows, output) }
    linear.weight.multiply(
      x,
      rows: rows,
      transposed: !linear.hasInputsFirst,
      into: y,
      accumulates: linear.bias != nil,
      scratch: scratch
    )
    guard let slot, let down else { return }
    let adapterInput = self.adapterInput(x, rows: rows, slot: slot, dropout: dropout, scratch: scratch)
    withFactors(slot, parameters) { factors in
      BLAS.sgemm(
        transA: false,
        transB: true,
        m: rows,
        n: rank,
        k: input,
        a: adapterInput,
        lda: input,
        b: factors.a,
        ldb: factors.width,
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
        b: factors.b,
        ldb: rank,
        beta: 1,
        c: y,
        ldc: output
      )
    }
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
      linear.weight.multiply(
        dy,
        rows: rows,
        transposed: linear.hasInputsFirst,
        into: gradInput,
        accumulates: !overwrite,
        scratch: scratch
      )
    }
    guard let slot, let down else { return }
    withFactors(slot, parameters) { factors in
      if let vera {
        addScaleGradients(dy, slot, vera, parameters, gradients, groups, trained, down)
      } else if trained.contains(.loraB) {
        gradients.forEachGroup(groups, offset: slot.bOffset, count: output * rank) { first, count, target, beta in
          gradientOfB(dy + first * output, down + first * rank, count, into: target, beta: beta)
        }
      }
      let needsA = trained.contains(.loraA) && vera == nil
      guard needsA || gradInput != nil else { return }
      BLAS.sgemm(
        transA: false,
        transB: false,
        m: rows,
        n: rank,
        k: output,
        alpha: scale,
        a: dy,
        lda: output,
        b: factors.b,
        ldb: rank,
        c: gradDown,
        ldc: rank
      )
      if needsA {
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
      addInputGradient(gradDown, factors, rows: rows, to: gradInput, slot: slot, dropout: dropout, scratch: scratch)
    }
  }

  /// s dYᵀ H over `rows` rows, dOut × r.
  private func gradientOfB(
    _ dy: UnsafePointer<Float>,
    _ down: UnsafePointer<Float>,
    _ rows: Int,
    into target: UnsafeMutablePointer<Float>,
    beta: Float
  ) {
    BLAS.sgemm(
      transA: true,
      transB: false,
      m: linear.outputSize,
      n: rank,
      k: rows,
      alpha: scale,
      a: dy,
      lda: linear.outputSize,
      b: down,
      ldb: rank,
      beta: beta,
      c: target,
      ldc: rank
    )
  }

  /// The gradients of VeRA's d and b, which lie side by side in the flat vector.
  private func addScaleGradients(
    _ dy: UnsafePointer<Float>,
    _ slot: AdaptedModel.Slot,
    _ vera: VeRA,
    _ parameters: UnsafePointer<Float>,
    _ gradients: GradientTarget,
    _ groups: GradientTarget.Rows,
    _ trained: TrainedKinds,
    _ down: UnsafePointer<Float>
  ) {
    let output = linear.outputSize
    let (trainsD, trainsB) = (trained.contains(.loraA), trained.contains(.loraB))
    guard trainsD || trainsB else { return }
    let offset = trainsD ? slot.aOffset : slot.bOffset
    let size = (trainsD ? rank : 0) + (trainsB ? output : 0)
    let folded = vera.scratch + output * rank
    gradients.forEachGroup(groups, offset: offset, count: size) { first, count, target, beta in
      gradientOfB(dy + first * output, down + first * rank, count, into: folded, beta: 0)
      if beta == 0 { target.update(repeating: 0, count: size) }
      vera.projections.b.withUnsafeBufferPointer { projection in
        guard let projection = projection.baseAddress else { return }
        fl_vera_unfold(
          folded,
          projection,
          parameters + slot.bOffset,
          parameters + slot.aOffset,
          trainsD ? target : nil,
          trainsB ? target + (trainsD ? rank : 0) : nil,
          output,
          rank
        )
      }
    }
  }

  /// dX += mask ∘ (dH A).
  private func addInputGradient(
    _ gradDown: UnsafePointer<Float>,
    _ factors: Factors,
    rows: Int,
    to gradInput: UnsafeMutablePointer<Float>,
    slot: AdaptedModel.Slot,
    dropout: Dropout,
    scratch: UnsafeMutablePointer<Float>
  ) {
    let input = linear.inputSize
    BLAS.sgemm(
      transA: false,
      transB: false,
      m: rows,
      n: input,
      k: rank,
      a: gradDown,
      lda: rank,
      b: factors.a,
      ldb: factors.width,
      beta: dropout.key == nil ? 1 : 0,
      c: dropout.key == nil ? gradInput : scratch,
      ldc: input
    )
    guard dropout.key != nil else { return }
    dropout.apply(scratch, to: scratch, rows: rows, columns: input, slot: slot.index)
    fl_add(gradInput, scratch, rows * input)
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
