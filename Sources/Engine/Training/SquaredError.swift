/// The squared error of a regression's one output: transformers' MSE loss for one label.
enum SquaredError {
  /// Sums (output − number)² in Double and turns the outputs into `factor` · 2 (output − number), the gradient of the
  /// mean loss when `factor` is one over the batch size. With `factor` 0 the outputs stay as they are.
  static func apply(_ outputs: UnsafeMutablePointer<Float>, input: SlicePass.Input, factor: Float) -> LossSummary {
    var summary = LossSummary()
    for (index, sequence) in input.sequences.enumerated() {
      guard input.batch.labels[sequence] >= 0 else {
        if factor != 0 { outputs[index] = 0 }
        continue
      }
      let difference = Double(outputs[index]) - Double(input.batch.values[sequence])
      summary.lossSum += difference * difference
      summary.count += 1
      if factor != 0 { outputs[index] = factor * Float(2 * difference) }
    }
    return summary
  }
}
