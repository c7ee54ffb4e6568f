import CKernels
import Foundation
import Testing

/// Every kernel in every variant that the processor has, against a plain loop in Double.
@Suite struct KernelTests {
  static let variants: [Int32] = (0...2).filter { fl_select_variant($0) == $0 }

  private let sizes = [1, 3, 8, 15, 16, 17, 64, 127, 384]

  private func values(_ count: Int, seed: Int, spread: Double = 3) -> [Float] {
    (0..<count).map { Float(sin(Double($0 * 7 + seed) * 1.7) * spread) }
  }

  private func phi(_ x: Double) -> Double { 0.5 * erfc(-x / 2.0.squareRoot()) }

  @Test(arguments: variants)
  func geluAndItsDerivativeAreExactToSinglePrecision(_ variant: Int32) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    let x = (-4000...4000).map { Float($0) * 0.005 }
    var y = x
    fl_gelu_forward(x, &y, x.count)
    var dx = x
    fl_gelu_backward(x, [Float](repeating: 1, count: x.count), &dx, x.count)
    for (index, value) in x.enumerated() {
      let v = Double(value)
      #expect(abs(Double(y[index]) - v * phi(v)) < 2e-6, "gelu(\(v))")
      let derivative = phi(v) + v * exp(-v * v / 2) / (2 * Double.pi).squareRoot()
      #expect(abs(Double(dx[index]) - derivative) < 2e-6, "gelu'(\(v))")
    }
  }

  @Test(arguments: variants)
  func softmaxSumsToOneAndIsRestoredFromItsLogSumExp(_ variant: Int32) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    for columns in sizes {
      let rows = 3
      let scale: Float = 0.37
      let scores = values(rows * columns, seed: columns, spread: 40)
      var soft = scores
      var lse = [Float](repeating: 0, count: rows)
      fl_softmax_rows(&soft, &lse, rows, columns, scale)
      var again = scores
      fl_softmax_restore(&again, lse, rows, columns, scale)
      for row in 0..<rows {
        let range = row * columns..<(row + 1) * columns
        let scaled = scores[range].map { Double($0) * Double(scale) }
        let top = scaled.max() ?? 0
        let sum = scaled.reduce(0) { $0 + exp($1 - top) }
        #expect(abs(Double(lse[row]) - (top + log(sum))) < 1e-4)
        for (offset, index) in range.enumerated() {
          let expected = exp(scaled[offset] - top) / sum
          #expect(abs(Double(soft[index]) - expected) < 1e-6)
          #expect(abs(Double(again[index]) - expected) < 1e-5)
        }
      }
    }
  }

  @Test(arguments: variants)
  func softmaxBackwardIsTheJacobianProduct(_ variant: Int32) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    for columns in sizes {
      var p = values(columns, seed: 1)
      var lse: Float = 0
      fl_softmax_rows(&p, &lse, 1, columns, 1)
      let upstream = values(columns, seed: 5)
      var found = upstream
      fl_softmax_backward(p, &found, 1, columns, 0.5)
      let dot = zip(p, upstream).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
      for index in 0..<columns {
        let expected = 0.5 * Double(p[index]) * (Double(upstream[index]) - dot)
        #expect(abs(Double(found[index]) - expected) < 1e-5)
      }
    }
  }

  @Test(arguments: variants)
  func layerNormAndItsGradientMatchTheFormula(_ variant: Int32) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    for columns in sizes where columns > 1 {
      let rows = 2
      let x = values(rows * columns, seed: 2)
      let residual = values(rows * columns, seed: 9)
      let gamma = values(columns, seed: 3, spread: 1.5)
      let beta = values(columns, seed: 4, spread: 0.5)
      let upstream = values(rows * columns, seed: 6)
      var sum = x
      var y = x
      var mean = [Float](repeating: 0, count: rows)
      var rstd = mean
      fl_add_layernorm_forward(x, residual, gamma, beta, 1e-5, &sum, &y, &mean, &rstd, rows, columns)
      var dx = x
      fl_layernorm_backward(upstream, sum, mean, rstd, gamma, &dx, rows, columns)
      for row in 0..<rows {
        let range = row * columns..<(row + 1) * columns
        let z = range.map { Double(x[$0]) + Double(residual[$0]) }
        let m = z.reduce(0, +) / Double(columns)
        let s = 1 / (z.reduce(0) { $0 + ($1 - m) * ($1 - m) } / Double(columns) + 1e-5).squareRoot()
        let g = (0..<columns).map { Double(upstream[row * columns + $0]) * Double(gamma[$0]) }
        let meanG = g.reduce(0, +) / Double(columns)
        let meanGX = zip(g, z).reduce(0.0) { $0 + $1.0 * ($1.1 - m) * s } / Double(columns)
        for column in 0..<columns {
          let hat = (z[column] - m) * s
          #expect(abs(Double(y[row * columns + column]) - (hat * Double(gamma[column]) + Double(beta[column]))) < 3e-5)
          #expect(abs(Double(dx[row * columns + column]) - s * (g[column] - meanG - hat * meanGX)) < 2e-4)
        }
      }
    }
  }

  @Test(arguments: variants)
  func dropoutDropsTheStatedShareAndRepeatsItself(_ variant: Int32) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    let count = 200_000
    let ones = [Float](repeating: 1, count: count)
    var first = ones
    fl_dropout(ones, &first, count, 0xDEAD_BEEF_1234_5678, 0, UInt32(0.1 * 4_294_967_296), 1 / 0.9)
    let dropped = first.filter { $0 == 0 }.count
    // Standard deviation of the share is 0.00067; six of them.
    #expect(abs(Double(dropped) / Double(count) - 0.1) < 0.004)
    #expect(first.allSatisfy { $0 == 0 || abs($0 - 1 / 0.9) < 1e-6 })
    // The mask of a part is the part of the mask.
    var tail = [Float](repeating: 1, count: 1000)
    fl_dropout(tail, &tail, 1000, 0xDEAD_BEEF_1234_5678, 5000, UInt32(0.1 * 4_294_967_296), 1 / 0.9)
    #expect(tail == Array(first[5000..<6000]))
    var other = ones
    fl_dropout(ones, &other, count, 0xDEAD_BEEF_1234_5679, 0, UInt32(0.1 * 4_294_967_296), 1 / 0.9)
    let both = zip(first, other).filter { $0 == 0 && $1 == 0 }.count
    #expect(abs(Double(both) / Double(count) - 0.01) < 0.002, "masks of two keys are independent")
  }

  @Test(arguments: variants)
  func sumsScalesAndFillsMatchPlainLoops(_ variant: Int32) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    for count in sizes {
      let x = values(count, seed: 1)
      var y = values(count, seed: 2)
      let start = y
      fl_add(&y, x, count)
      fl_axpy(0.5, x, &y, count)
      fl_scale(2, &y, count)
      for index in 0..<count { #expect(abs(y[index] - 2 * (start[index] + 1.5 * x[index])) < 1e-5) }
      let squares = x.reduce(0.0) { $0 + Double($1) * Double($1) }
      #expect(abs(fl_sum_squares(x, count) - squares) <= 1e-12 * max(1, squares))
      var filled = [Float](repeating: 0, count: 3 * count)
      fl_fill_rows(&filled, x, 3, count)
      #expect(filled == x + x + x)
      var sums = [Float](repeating: 1, count: count)
      fl_add_column_sums(filled, &sums, 3, count)
      for index in 0..<count { #expect(abs(sums[index] - (1 + 3 * x[index])) < 1e-5) }
    }
  }
}
