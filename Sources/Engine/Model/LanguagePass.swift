import CKernels
import FedLoRALinearAlgebra
import Foundation

/// The last step of a language model: final norm, logits over the vocabulary, and the loss of the next token.
///
/// Logits exist for a few rows at a time, and only for tokens with a target. The loss's gradient is formed at once, so the
/// logits are never needed again.
extension SlicePass {
  /// The summed cross-entropy of all targets of the slice, in nats; with a `scale` other than `.none` the gradient of the
  /// scaled loss with respect to the last layer's output is left in `buffers.gradient`.
  func languageLoss(_ input: Input, _ buffers: PassBuffers, scale: LossScale) -> LossSummary {
    let hidden = model.base.spec.hiddenSize
    let rows = input.tokenCount
    let targets = input.batch.targets
    normLastLayer(input, buffers)
    let needsGradient = scale != .none
    if needsGradient { buffers.gradient.update(repeating: 0, count: rows * hidden) }
    var summary = LossSummary()
    func flush() {
      languageChunk(input, buffers, needsGradient: needsGradient, &summary)
      languagePlaces.removeAll(keepingCapacity: true)
      languageFactors.removeAll(keepingCapacity: true)
    }
    let chunk = PassBuffers.languageRows(model.base.spec.vocabularySize)
    for sequence in input.sequences {
      let tokens = input.batch.offsets[sequence]..<input.batch.offsets[sequence + 1]
      let factor = scale.factor(units: tokens.count { targets[$0] >= 0 })
      for token in tokens where targets[token] >= 0 {
        languagePlaces.append(token - input.firstToken)
        languageFactors.append(factor)
        if languagePlaces.count == chunk { flush() }
      }
    }
    flush()
    if needsGradient { backwardFinalNorm(input, buffers) }
    return summary
  }

  /// Logits of every token of the slice, tokens × vocabulary, into `target`.
  func languageLogits(_ input: Input, _ buffers: PassBuffers, to target: UnsafeMutablePointer<Float>) {
    normLastLayer(input, buffers)
    formLogits(buffers.finalNormed, rows: input.tokenCount, to: target, scratch: buffers.languageScratch)
  }

  private func lastOutput(_ buffers: PassBuffers) -> UnsafePointer<Float> {
    let last = model.base.spec.layerCount - 1
    return UnsafePointer(last < 0 ? buffers.embedded : buffers.layer(last).output)
  }

  /// Turns the gradient of the final norm's output, in `buffers.gradient`, into that of the last layer's output.
  func backwardFinalNorm(_ input: Input, _ buffers: PassBuffers) {
    guard let norm = model.base.finalNorm else { return }
    let rows = input.tokenCount
    backwardNorm(
      norm,
      buffers.gradient,
      input: lastOutput(buffers),
      buffers.statistics,
      buffers.statistics + rows,
      rows
    )
  }

  /// Leaves the last layer's output after the final norm in `buffers.finalNormed`.
  func normLastLayer(_ input: Input, _ buffers: PassBuffers) {
    let rows = input.tokenCount
    if let norm = model.base.finalNorm {
      forwardNorm(
        norm,
        lastOutput(buffers),
        to: buffers.finalNormed,
        buffers.statistics,
        buffers.statistics + rows,
        rows
      )
    } else {
      buffers.finalNormed.update(from: lastOutput(buffers), count: rows * model.base.spec.hiddenSize)
    }
  }

  /// Logits, bounded where the model bounds them, of `rows` vectors after the final norm.
  func formLogits(
    _ x: UnsafePointer<Float>,
    rows: Int,
    to logits: UnsafeMutablePointer<Float>,
    scratch: UnsafeMutablePointer<Float>
  ) {
    guard let head = model.base.languageHead else {
      preconditionFailure("a bare encoder was asked for what only a language model has")
    }
    let vocabulary = model.base.spec.vocabularySize
    head.multiply(x, rows: rows, transposed: true, into: logits, accumulates: false, scratch: scratch)
    if let cap = model.base.spec.logitCap { fl_soft_cap(logits, rows * vocabulary, 1, cap) }
  }

  /// Loss, and gradient with respect to the normed vectors, of the tokens at `languagePlaces`.
  private func languageChunk(
    _ input: Input,
    _ buffers: PassBuffers,
    needsGradient: Bool,
    _ summary: inout LossSummary
  ) {
    let (places, factors) = (languagePlaces, languageFactors)
    guard !places.isEmpty, let head = model.base.languageHead else { return }
    let (hidden, vocabulary) = (model.base.spec.hiddenSize, model.base.spec.vocabularySize)
    let logits = buffers.languageLogits
    for (row, place) in places.enumerated() {
      (buffers.languageRows + row * hidden).update(from: buffers.finalNormed + place * hidden, count: hidden)
    }
    formLogits(buffers.languageRows, rows: places.count, to: logits, scratch: buffers.languageScratch)
    for (row, place) in places.enumerated() {
      let values = logits + row * vocabulary
      let target = Int(input.batch.targets[input.firstToken + place])
      let found = values[target]
      if needsGradient, let cap = model.base.spec.logitCap {
        fl_soft_cap_slope(values, buffers.logitSlopes, vocabulary, 1, cap)
      }
      var largest: Float = 0
      let logSumExp = fl_softmax_scaled(values, vocabulary, needsGradient ? factors[row] : 0, &largest)
      if found == largest { summary.correct += 1 }
      summary.lossSum += Double(logSumExp) - Double(found)
      summary.count += 1
      guard needsGradient else { continue }
      values[target] -= factors[row]
      if model.base.spec.logitCap != nil { fl_multiply(values, buffers.logitSlopes, vocabulary) }
    }
    guard needsGradient else { return }
    head.multiply(
      logits,
      rows: places.count,
      transposed: false,
      into: buffers.languageRows,
      accumulates: false,
      scratch: buffers.languageScratch
    )
    for (row, place) in places.enumerated() {
      (buffers.gradient + place * hidden).update(from: buffers.languageRows + row * hidden, count: hidden)
    }
  }
}
