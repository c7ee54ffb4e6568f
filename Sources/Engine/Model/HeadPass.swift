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
        case .pooler: (buffers.gathered + sequence * hidden).update(from: x + start * hidden, count: hidden)
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
      let weight = model.classifierWeightOffset
      gradients.forEachGroup(.sequences(rows), offset: weight, count: labels * hidden) { first, count, target, beta in
        BLAS.sgemm(
          transA: true,
          transB: false,
          m: labels,
          n: hidden,
          k: count,
          a: buffers.logits + first * labels,
          lda: labels,
          b: buffers.pooled + first * hidden,
          ldb: hidden,
          beta: beta,
          c: target,
          ldc: hidden
        )
      }
      if let bias = model.classifierBiasOffset {
        gradients.forEachGroup(.sequences(rows), offset: bias, count: labels) { first, count, target, beta in
          if beta == 0 { target.update(repeating: 0, count: labels) }
          fl_add_column_sums(buffers.logits + first * labels, target, count, labels)
        }
      }
    }
    guard needsPooled else { return false }
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
    let reachesLayers = model.lowestAdaptedLayer < model.base.spec.layerCount
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
        case .pooler:
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
}
