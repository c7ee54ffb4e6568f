import FedLoRALinearAlgebra
import FedLoRAEngine
import Foundation

/// Multinomial logistic regression on fixed feature vectors: what a frozen encoder gives without adaptation.
///
/// Features are standardised with the training set's means and deviations; the loss is the mean cross-entropy plus
/// 0.5 · 10⁻³ ‖W‖², minimised by full-batch gradient descent with Nesterov's momentum.
package struct LinearProbe: Sendable {
  private let width: Int
  private let labelCount: Int
  private let mean: [Double]
  private let scale: [Double]
  /// labels × (width + 1), the bias last.
  private let weights: [Double]

  package static func fit(features: [Float], width: Int, labels: [Int], labelCount: Int, iterations: Int = 600)
    -> LinearProbe
  {
    let count = labels.count
    var mean = [Double](repeating: 0, count: width)
    var scale = mean
    for row in 0..<count { for column in 0..<width { mean[column] += Double(features[row * width + column]) } }
    for column in 0..<width { mean[column] /= Double(max(1, count)) }
    for row in 0..<count {
      for column in 0..<width { scale[column] += pow(Double(features[row * width + column]) - mean[column], 2) }
    }
    for column in 0..<width { scale[column] = 1 / max((scale[column] / Double(max(1, count))).squareRoot(), 1e-6) }
    let columns = width + 1
    let design = standardise(features, width: width, count: count, mean: mean, scale: scale)
    var weights = [Float](repeating: 0, count: labelCount * columns)
    var velocity = weights
    var logits = [Float](repeating: 0, count: count * labelCount)
    var gradient = weights
    // The Hessian of the mean cross-entropy is at most half the largest eigenvalue of XᵀX/n, itself at most its trace.
    let rate = Float(1 / (0.5 * Double(columns)))
    for _ in 0..<iterations {
      let ahead = zip(weights, velocity).map { $0 + 0.9 * $1 }
      BLAS.sgemm(
        transA: false,
        transB: true,
        m: count,
        n: labelCount,
        k: columns,
        a: design,
        lda: columns,
        b: ahead,
        ldb: columns,
        c: &logits,
        ldc: labelCount
      )
      for row in 0..<count {
        let range = row * labelCount..<(row + 1) * labelCount
        let top = logits[range].max() ?? 0
        let sum = logits[range].reduce(Float(0)) { $0 + expf($1 - top) }
        for (label, index) in range.enumerated() {
          logits[index] = (expf(logits[index] - top) / sum - (label == labels[row] ? 1 : 0)) / Float(count)
        }
      }
      BLAS.sgemm(
        transA: true,
        transB: false,
        m: labelCount,
        n: columns,
        k: count,
        a: logits,
        lda: labelCount,
        b: design,
        ldb: columns,
        c: &gradient,
        ldc: columns
      )
      for index in weights.indices {
        velocity[index] = 0.9 * velocity[index] - rate * (gradient[index] + 1e-3 * ahead[index])
        weights[index] += velocity[index]
      }
    }
    return LinearProbe(
      width: width,
      labelCount: labelCount,
      mean: mean,
      scale: scale,
      weights: weights.map(Double.init)
    )
  }

  /// Accuracy on other vectors; the loss is left at 0.
  package func score(_ features: [Float], labels: [Int]) -> LossSummary {
    var summary = LossSummary(count: labels.count)
    let columns = width + 1
    let design = LinearProbe.standardise(features, width: width, count: labels.count, mean: mean, scale: scale)
    for row in labels.indices {
      let logits = (0..<labelCount).map { label in
        (0..<columns).reduce(0.0) { $0 + weights[label * columns + $1] * Double(design[row * columns + $1]) }
      }
      let best = logits.indices.max { logits[$0] < logits[$1] } ?? 0
      summary.correct += best == labels[row] ? 1 : 0
    }
    return summary
  }

  private static func standardise(
    _ features: [Float],
    width: Int,
    count: Int,
    mean: [Double],
    scale: [Double]
  ) -> [Float] {
    var design = [Float](repeating: 1, count: count * (width + 1))
    for row in 0..<count {
      for column in 0..<width {
        design[row * (width + 1) + column] = Float(
          (Double(features[row * width + column]) - mean[column]) * scale[column]
        )
      }
    }
    return design
  }
}
