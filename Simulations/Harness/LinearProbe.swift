import FedLoRALinearAlgebra
import FedLoRAEngine
import Foundation

/// Multinomial logistic regression, or linear regression, on fixed feature vectors: what a frozen encoder gives without
/// adaptation.
///
/// Features, and numbers, are standardised with the training set's means and deviations; the loss is the mean
/// cross-entropy, or half the mean squared error, plus 0.5 · 10⁻³ ‖W‖², minimised by full-batch gradient descent with
/// Nesterov's momentum.
package struct LinearProbe: Sendable {
  private let width: Int
  private let labelCount: Int
  private let mean: [Double]
  private let scale: [Double]
  /// labels × (width + 1), the bias last.
  private let weights: [Double]
  /// Mean and deviation of the numbers of a regression.
  private let valueMean: Double
  private let valueScale: Double

  package static func fit(features: [Float], width: Int, labels: [Int], labelCount: Int, iterations: Int = 600)
    -> LinearProbe
  {
    fit(features, width, count: labels.count, outputs: labelCount, iterations) { logits in
      for row in labels.indices {
        let range = row * labelCount..<(row + 1) * labelCount
        let top = logits[range].max() ?? 0
        let sum = logits[range].reduce(Float(0)) { $0 + expf($1 - top) }
        for (label, index) in range.enumerated() {
          logits[index] = (expf(logits[index] - top) / sum - (label == labels[row] ? 1 : 0)) / Float(labels.count)
        }
      }
    }
  }

  /// Fits numbers.
  package static func fit(features: [Float], width: Int, values: [Double], iterations: Int = 600) -> LinearProbe {
    let count = Double(max(1, values.count))
    let mean = values.reduce(0, +) / count
    let deviation = max((values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / count).squareRoot(), 1e-6)
    let wanted = values.map { Float(($0 - mean) / deviation) }
    return fit(
      features,
      width,
      count: values.count,
      outputs: 1,
      iterations,
      valueMean: mean,
      valueScale: deviation
    ) { outputs in
      for row in wanted.indices { outputs[row] = (outputs[row] - wanted[row]) / Float(count) }
    }
  }

  /// - Parameter residuals: turns the outputs into the gradient of the mean loss by them.
  private static func fit(
    _ features: [Float],
    _ width: Int,
    count: Int,
    outputs labelCount: Int,
    _ iterations: Int,
    valueMean: Double = 0,
    valueScale: Double = 1,
    residuals: (inout [Float]) -> Void
  ) -> LinearProbe {
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
    // The Hessian of the mean cross-entropy is at most half the largest eigenvalue of XᵀX/n, itself at most its trace;
    // that of half the mean squared error is XᵀX/n.
    let rate = Float(1 / ((labelCount == 1 ? 1 : 0.5) * Double(columns)))
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
      residuals(&logits)
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
      weights: weights.map(Double.init),
      valueMean: valueMean,
      valueScale: valueScale
    )
  }

  /// The likeliest class of each of other vectors; the first of equals.
  package func decisions(_ features: [Float]) -> [Int] {
    outputs(features).map { row in row.indices.reduce(0) { row[$1] > row[$0] ? $1 : $0 } }
  }

  /// The number of each of other vectors.
  package func values(_ features: [Float]) -> [Double] { outputs(features).map { $0[0] * valueScale + valueMean } }

  private func outputs(_ features: [Float]) -> [[Double]] {
    let (columns, count) = (width + 1, features.count / max(1, width))
    let design = LinearProbe.standardise(features, width: width, count: count, mean: mean, scale: scale)
    return (0..<count).map { row in
      (0..<labelCount).map { label in
        (0..<columns).reduce(0.0) { $0 + weights[label * columns + $1] * Double(design[row * columns + $1]) }
      }
    }
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
