import CKernels
import FedLoRALinearAlgebra
import Foundation

/// Pooling and classification head, forward and backward.
extension SlicePass {
  private var usesPooler: Bool { model.head?.pooling == .pooler }

  private func poolerLinear(_ buffers: PassBuffers) -> AdaptedLinear? {
    usesPooler
      ? model.base.pooler.map { adapted($0, slot: model.poolerSlot, buffers) } : nil
  }

  /// The pooler's mask counts sequences where a layer's counts tokens.
  private func poolerDropout(_ input: Input) -> AdaptedLinear.Dropout {
    AdaptedLinear.Dropout(
      key: input.dropout.key,
      probability: input.dropout.probability,
      firstToken: input.sequences.lowerBound
    )
  }

  func forwardHead(_ x: UnsafePointer<Float>, _ input: Input, _ buffers: PassBuffers) {
    let hidden = model.base.spec.hiddenSize
    let rows = input.sequences.count
    withOffsets(input) { offsets in
      for sequence in 0..<rows {
        let target = buffers.pooled + sequence * hidden
        let start = offsets[sequence] - offsets[0]
        let length = offsets[sequence + 1] - offsets[sequence]
        switch model.head?.pooling {
        case .pooler, .dense: (buffers.gathered + sequence * hidden).update(from: x + start * hidden, count: hidden)
        case .last: target.update(from: x + (start + length - 1) * hidden, count: hidden)
        case .mean, nil:
          target.update(repeating: 0, count: hidden)
          fl_add_column_sums(x + start * hidden, target, length, hidden)
          fl_scale(1 / Float(length), target, hidden)
        }
      }
    }
    if let pooler = poolerLinear(buffers) {
      pooler.forward(
        buffers.gathered,
        rows: rows,
        parameters: input.parameters,
        output: buffers.pooled,
        down: model.poolerSlot == nil ? nil : buffers.poolerDown,
        dropout: poolerDropout(input),
        scratch: buffers.dropped
      )
      for index in 0..<(rows * hidden) { buffers.pooled[index] = tanhf(buffers.pooled[index]) }
    }
    forwardDense(input, buffers, rows: rows)
    let labels = model.head?.labelCount ?? 0
    if let offset = model.classifierBiasOffset { fl_fill_rows(buffers.logits, input.parameters + offset, rows, labels) }
    BLAS.sgemm(
      transA: false,
      transB: true,
      m: rows,
      n: labels,
      k: hidden,
      a: buffers.pooled,
      lda: hidden,
      b: input.parameters + model.classifierWeightOffset,
      ldb: hidden,
      beta: model.classifierBiasOffset == nil ? 0 : 1,
      c: buffers.logits,
      ldc: labels
    )
  }

  /// Reads the logits' gradient from `buffers.logits`; leaves the last layer's gradient in `buffers.gradient`.
  /// - Returns: whether the layers have anything left to do.
  func backwardHead(
    _ input: Input,
    _ buffers: PassBuffers,
    trained: TrainedKinds,
    gradients: GradientTarget,
    needsPooled: Bool
  ) -> Bool {
    let hidden = model.base.spec.hiddenSize
    let labels = model.head?.labelCount ?? 0
    let rows = input.sequences.count
    if trained.contains(.head) {
      addGradients(
        ofLayerAt: model.classifierWeightOffset,
        bias: model.classifierBiasOffset,
        dy: buffers.logits,
        width: labels,
        x: buffers.pooled,
        rows: rows,
        to: gradients
      )
    }
    guard needsPooled || model.denseHead != nil && trained.contains(.head) else { return false }
    BLAS.sgemm(
      transA: false,
      transB: false,
      m: rows,
      n: hidden,
      k: labels,
      a: buffers.logits,
      lda: labels,
      b: input.parameters + model.classifierWeightOffset,
      ldb: hidden,
      c: buffers.gradPooled,
      ldc: hidden
    )
    let reachesLayers = needsPooled && model.lowestAdaptedLayer < model.base.spec.layerCount
    backwardDense(input, buffers, rows: rows, trained: trained, gradients: gradients, needsInput: reachesLayers)
    if let pooler = poolerLinear(buffers) {
      for index in 0..<(rows * hidden) {
        let y = buffers.pooled[index]
        buffers.gradPooled[index] *= 1 - y * y
      }
      // `pooled` has served: it takes the gradient of the first tokens.
      pooler.backward(
        buffers.gradPooled,
        input: buffers.gathered,
        rows: rows,
        parameters: input.parameters,
        gradients: gradients,
        groups: .sequences(rows),
        trained: trained,
        down: model.poolerSlot == nil ? nil : UnsafePointer(buffers.poolerDown),
        gradInput: reachesLayers ? buffers.pooled : nil,
        overwrite: true,
        dropout: poolerDropout(input),
        gradDown: buffers.gradDown,
        scratch: buffers.dropped
      )
    }
    guard reachesLayers else { return false }
    withOffsets(input) { offsets in
      for sequence in 0..<rows {
        let start = offsets[sequence] - offsets[0]
        let length = offsets[sequence + 1] - offsets[sequence]
        let target = buffers.gradient + start * hidden
        switch model.head?.pooling {
        case .pooler, .dense:
          target.update(repeating: 0, count: length * hidden)
          target.update(from: buffers.pooled + sequence * hidden, count: hidden)
        case .last:
          target.update(repeating: 0, count: length * hidden)
          (target + (length - 1) * hidden).update(from: buffers.gradPooled + sequence * hidden, count: hidden)
        case .mean, nil:
          let source = buffers.gradPooled + sequence * hidden
          fl_scale(1 / Float(length), source, hidden)
          fl_fill_rows(target, source, length, hidden)
        }
      }
    }
    return true
  }

  /// The gradients of a trained layer of the head over a vector for each sequence: dyᵀ x at `offset`, and dy's columns summed at
  /// `bias` where it has one. `dy` is rows × width, `x` rows × hidden.
  private func addGradients(
    ofLayerAt offset: Int,
    bias: Int?,
    dy: UnsafePointer<Float>,
    width: Int,
    x: UnsafePointer<Float>,
    rows: Int,
    to gradients: GradientTarget
  ) {
    let hidden = model.base.spec.hiddenSize
    gradients.forEachGroup(.sequences(rows), offset: offset, count: width * hidden) { first, count, target, beta in
      BLAS.sgemm(
        transA: true,
        transB: false,
        m: width,
        n: hidden,
        k: count,
        a: dy + first * width,
        lda: width,
        b: x + first * hidden,
        ldb: hidden,
        beta: beta,
        c: target,
        ldc: hidden
      )
    }
    guard let bias else { return }
    gradients.forEachGroup(.sequences(rows), offset: bias, count: width) { first, count, target, beta in
      if beta == 0 { target.update(repeating: 0, count: width) }
      fl_add_column_sums(dy + first * width, target, count, width)
    }
  }

  // MARK: The dense layer

  /// `buffers.pooled` from the first tokens in `buffers.gathered`, where the head has a dense layer.
  private func forwardDense(_ input: Input, _ buffers: PassBuffers, rows: Int) {
    guard let dense = model.denseHead, let offset = model.denseOffset else { return }
    let hidden = model.base.spec.hiddenSize
    fl_fill_rows(buffers.dense, input.parameters + offset + hidden * hidden, rows, hidden)
    BLAS.sgemm(
      transA: false,
      transB: true,
      m: rows,
      n: hidden,
      k: hidden,
      a: buffers.gathered,
      lda: hidden,
      b: input.parameters + offset,
      ldb: hidden,
      beta: 1,
      c: buffers.dense,
      ldc: hidden
    )
    dense.forward(buffers.dense, to: buffers.pooled, rows * hidden)
  }

  /// The dense layer's gradients from `buffers.gradPooled`; the gradient of the first tokens is left in
  /// `buffers.pooled`.
  private func backwardDense(
    _ input: Input,
    _ buffers: PassBuffers,
    rows: Int,
    trained: TrainedKinds,
    gradients: GradientTarget,
    needsInput: Bool
  ) {
    guard let dense = model.denseHead, let offset = model.denseOffset else { return }
    let hidden = model.base.spec.hiddenSize
    dense.backward(buffers.dense, buffers.pooled, buffers.gradPooled, rows * hidden)
    if trained.contains(.head) {
      addGradients(
        ofLayerAt: offset,
        bias: offset + hidden * hidden,
        dy: buffers.gradPooled,
        width: hidden,
        x: buffers.gathered,
        rows: rows,
        to: gradients
      )
    }
    guard needsInput else { return }
    BLAS.sgemm(
      transA: false,
      transB: false,
      m: rows,
      n: hidden,
      k: hidden,
      a: buffers.gradPooled,
      lda: hidden,
      b: input.parameters + offset,
      ldb: hidden,
      c: buffers.pooled,
      ldc: hidden
    )
  }
}
