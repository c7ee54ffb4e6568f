import Foundation

extension Evaluation {
  /// Evaluates `parameters` on all `examples`: losses, and the counts or sums that measures follow from. Must run on
  /// the runner's pool (`pool.perform`).
  /// - Throws: `ModelError` for examples that do not fit the model.
  public static func score(_ runner: ModelRunner, parameters: [Float], examples: [EncodedExample]) throws -> TaskScore {
    guard let head = runner.model.head else {
      return TaskScore(losses: try run(runner, parameters: parameters, examples: examples))
    }
    let outputs = try batches(of: examples).flatMap { try runner.logits($0, parameters: parameters) }
    if head.isRegression {
      return try TaskScore(found: outputs.map(Double.init), expected: examples.map { Double($0.value) })
    }
    var decisions: [Int] = []
    var lossSum = 0.0
    for (index, example) in examples.enumerated() {
      let row = outputs[index * head.labelCount..<(index + 1) * head.labelCount]
      // The first of equals, as in training.
      let best = row.indices.reduce(row.startIndex) { row[$1] > row[$0] ? $1 : $0 }
      let top = Double(row[best])
      let sum = row.reduce(0.0) { $0 + exp(Double($1) - top) }
      lossSum += log(sum) + top - Double(row[row.startIndex + example.label])
      decisions.append(best - row.startIndex)
    }
    var score = TaskScore(labels: examples.map(\.label), decisions: decisions, classCount: head.labelCount)
    score.losses.lossSum = lossSum
    return score
  }
}
