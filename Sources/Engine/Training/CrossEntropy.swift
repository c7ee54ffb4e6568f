import Foundation

/// Softmax cross-entropy over class logits.
enum CrossEntropy {
  /// Sums the losses in Double and turns the logits into `factor` · (softmax − one-hot), the gradient of the mean
  /// loss when `factor` is one over the batch size. With `factor` 0 the logits stay as they are.
  static func apply(
    _ logits: UnsafeMutablePointer<Float>,
    input: SlicePass.Input,
    labelCount: Int,
    factor: Float
  ) -> LossSummary {
    var summary = LossSummary()
    for (index, sequence) in input.sequences.enumerated() {
      let row = UnsafeMutableBufferPointer(start: logits + index * labelCount, count: labelCount)
      let label = input.batch.labels[sequence]
      guard label >= 0 else {
        if factor != 0 { row.update(repeating: 0) }
        continue
      }
      var best = 0
      for candidate in 1..<labelCount where row[candidate] > row[best] { best = candidate }
      let top = Double(row[best])
      var sum = 0.0
      for value in row { sum += exp(Double(value) - top) }
      summary.lossSum += log(sum) + top - Double(row[label])
      summary.correct += best == label ? 1 : 0
      summary.count += 1
      guard factor != 0 else { continue }
      for candidate in 0..<labelCount {
        let probability = exp(Double(row[candidate]) - top) / sum
        row[candidate] = factor * Float(probability - (candidate == label ? 1 : 0))
      }
    }
    return summary
  }
}
