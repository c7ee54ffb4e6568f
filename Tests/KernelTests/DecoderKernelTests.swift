import CKernels
import Foundation
import Testing

/// The kernels that only decoders use, in every variant that the processor has, against plain loops in Double.
@Suite struct DecoderKernelTests {
  private let sizes = [1, 3, 8, 15, 16, 17, 64, 127]

  private func values(_ count: Int, seed: Int, spread: Double = 3) -> [Float] {
    (0..<count).map { Float(sin(Double($0 * 7 + seed) * 1.7) * spread) }
  }

  /// (f(x + h·d) − f(x − h·d)) / 2h for the weighted sum f of a function's outputs: the gradient along d.
  private func slope(_ direction: [Double], _ x: [Double], _ f: ([Double]) -> Double) -> Double {
    let h = 1e-5
    let ahead = zip(x, direction).map { $0 + h * $1 }
    let behind = zip(x, direction).map { $0 - h * $1 }
    return (f(ahead) - f(behind)) / (2 * h)
  }

  @Test(arguments: KernelTests.variants)
  func rmsNormAndItsGradientMatchTheFormula(_ variant: Int32) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    for columns in sizes {
      let rows = 2
      let x = values(rows * columns, seed: 2)
      let gamma = values(columns, seed: 3, spread: 1.5)
      let upstream = values(rows * columns, seed: 5)
      var y = x
      var scale = [Float](repeating: 0, count: rows)
      fl_rmsnorm_forward(x, gamma, 1e-6, &y, &scale, rows, columns)
      var dx = upstream
      fl_rmsnorm_backward(dx, x, scale, gamma, &dx, rows, columns)
      for row in 0..<rows {
        let range = row * columns..<(row + 1) * columns
        let own = x[range].map(Double.init)
        func normed(_ x: [Double]) -> [Double] {
          let inverse = 1 / (x.reduce(0) { $0 + $1 * $1 } / Double(columns) + 1e-6).squareRoot()
          return zip(x, gamma).map { $0 * inverse * Double($1) }
        }
        for (found, wanted) in zip(y[range], normed(own)) { #expect(abs(Double(found) - wanted) < 1e-5) }
        for place in 0..<columns {
          let direction = (0..<columns).map { $0 == place ? 1.0 : 0.0 }
          let wanted = slope(direction, own) { x in
            zip(normed(x), upstream[range]).reduce(0) { $0 + $1.0 * Double($1.1) }
          }
          #expect(abs(Double(dx[range][range.lowerBound + place]) - wanted) < 2e-4)
        }
      }
    }
  }

  @Test(arguments: KernelTests.variants)
  func rotationTurnsPairsAndBackAgain(_ variant: Int32) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    for (size, rotary) in [(2, 2), (6, 6), (8, 4), (64, 64), (80, 20)] {
      let (rows, heads, half) = (3, 2, rotary / 2)
      let angles = values(rows * half, seed: 1)
      let (cosine, sine) = (angles.map { Float(cos(Double($0))) }, angles.map { Float(sin(Double($0))) })
      let x = values(rows * heads * size, seed: 7)
      var turned = x
      fl_rotate(&turned, cosine, sine, rows, heads, size, rotary, 1)
      for row in 0..<rows {
        for head in 0..<heads {
          let start = (row * heads + head) * size
          for j in 0..<size {
            let found = Double(turned[start + j])
            guard j < rotary else {
              #expect(turned[start + j] == x[start + j])
              continue
            }
            let angle = Double(angles[row * half + j % half])
            let (a, b) = (Double(x[start + j % half]), Double(x[start + j % half + half]))
            let wanted = j < half ? a * cos(angle) - b * sin(angle) : b * cos(angle) + a * sin(angle)
            #expect(abs(found - wanted) < 1e-5)
          }
        }
      }
      fl_rotate(&turned, cosine, sine, rows, heads, size, rotary, -1)
      for (found, wanted) in zip(turned, x) { #expect(abs(found - wanted) < 1e-5) }
    }
  }

  @Test(arguments: KernelTests.variants)
  func gatedSiluAndItsGradientsMatchTheFormula(_ variant: Int32) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    let gate = (-1500...1500).map { Float($0) * 0.02 }
    let up = values(gate.count, seed: 4)
    let upstream = values(gate.count, seed: 8)
    var y = gate
    fl_silu_gate_forward(gate, up, &y, gate.count)
    var (dgate, dup) = (gate, upstream)
    fl_silu_gate_backward(gate, up, dup, &dgate, &dup, gate.count)
    for index in gate.indices {
      let (g, u, d) = (Double(gate[index]), Double(up[index]), Double(upstream[index]))
      let logistic = 1 / (1 + exp(-g))
      #expect(abs(Double(y[index]) - g * logistic * u) < 1e-5 * max(1, abs(g * u)))
      #expect(abs(Double(dup[index]) - d * g * logistic) < 1e-5 * max(1, abs(g * d)))
      let slope = logistic + g * logistic * (1 - logistic)
      #expect(abs(Double(dgate[index]) - d * u * slope) < 1e-5 * max(1, abs(d * u)))
    }
  }

  @Test(arguments: KernelTests.variants, [(1, 0), (4, 0), (4, 2), (4, 9), (Int.max, 0), (Int.max, 5)])
  func causalSoftmaxSeesTheWindowBeforeItAndNoMore(_ variant: Int32, mask: (window: Int, past: Int)) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    for rows in sizes {
      let scale: Float = 0.37
      let (window, past) = mask
      let columns = past + rows + 2
      let scores = values(rows * columns, seed: rows, spread: 40)
      var soft = scores
      var lse = [Float](repeating: 0, count: rows)
      fl_softmax_causal(&soft, &lse, rows, columns, past, scale, window)
      var again = scores
      fl_softmax_causal_restore(&again, lse, rows, columns, past, scale, window)
      for row in 0..<rows {
        let place = past + row
        let seen = (window > place ? 0 : place + 1 - window)...place
        let scaled = seen.map { Double(scores[row * columns + $0]) * Double(scale) }
        let top = scaled.max() ?? 0
        let sum = scaled.reduce(0) { $0 + exp($1 - top) }
        #expect(abs(Double(lse[row]) - (top + log(sum))) < 1e-4)
        for column in 0..<columns {
          let index = row * columns + column
          guard seen.contains(column) else {
            #expect(soft[index] == 0 && again[index] == 0)
            continue
          }
          let expected = exp(scaled[column - seen.lowerBound] - top) / sum
          #expect(abs(Double(soft[index]) - expected) < 1e-6)
          #expect(abs(Double(again[index]) - expected) < 1e-5)
        }
      }
    }
  }

  @Test(arguments: KernelTests.variants, [0, 0.25])
  func scaledSoftmaxTellsLogSumExpAndLargest(_ variant: Int32, factor: Float) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    for count in sizes where count > 0 {
      let x = values(count, seed: count, spread: 40)
      var (y, largest) = (x, Float.nan)
      let found = fl_softmax_scaled(&y, count, factor, &largest)
      #expect(largest == x.max())
      let top = Double(largest)
      let sum = x.reduce(0) { $0 + exp(Double($1) - top) }
      #expect(abs(Double(found) - (top + log(sum))) < 1e-5 * max(1, abs(top)))
      for index in x.indices {
        let expected = factor == 0 ? Double(x[index]) : Double(factor) * exp(Double(x[index]) - top) / sum
        #expect(abs(Double(y[index]) - expected) < 1e-6 * max(1, abs(expected)))
      }
    }
  }

  /// The functions of feed-forward blocks by their formulas, with forward and backward kernels, plain and gated.
  private struct Function: CustomTestStringConvertible, Sendable {
    typealias Plain = @Sendable (UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int) -> Void
    typealias Slope = @Sendable (UnsafePointer<Float>, UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int) -> Void
    typealias Gated = Slope
    typealias GatedSlope =
      @Sendable (
        UnsafePointer<Float>, UnsafePointer<Float>, UnsafePointer<Float>, UnsafeMutablePointer<Float>,
        UnsafeMutablePointer<Float>, Int
      ) -> Void
    let testDescription: String
    let formula: @Sendable (Double) -> Double
    let plain: Plain?
    let slope: Slope?
    let gated: Gated?
    let gatedSlope: GatedSlope?
  }

  private static let functions = [
    Function(
      testDescription: "gelu",
      formula: { 0.5 * $0 * erfc(-$0 / 2.0.squareRoot()) },
      plain: nil,
      slope: nil,
      gated: { fl_gelu_gate_forward($0, $1, $2, $3) },
      gatedSlope: { fl_gelu_gate_backward($0, $1, $2, $3, $4, $5) }
    ),
    Function(
      testDescription: "gelu-tanh",
      formula: { 0.5 * $0 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) },
      plain: { fl_gelu_tanh_forward($0, $1, $2) },
      slope: { fl_gelu_tanh_backward($0, $1, $2, $3) },
      gated: { fl_gelu_tanh_gate_forward($0, $1, $2, $3) },
      gatedSlope: { fl_gelu_tanh_gate_backward($0, $1, $2, $3, $4, $5) }
    ),
    Function(
      testDescription: "silu",
      formula: { $0 / (1 + exp(-$0)) },
      plain: { fl_silu_forward($0, $1, $2) },
      slope: { fl_silu_backward($0, $1, $2, $3) },
      gated: nil,
      gatedSlope: nil
    ),
    Function(
      testDescription: "relu",
      formula: { max($0, 0) },
      plain: { fl_relu_forward($0, $1, $2) },
      slope: { fl_relu_backward($0, $1, $2, $3) },
      gated: { fl_relu_gate_forward($0, $1, $2, $3) },
      gatedSlope: { fl_relu_gate_backward($0, $1, $2, $3, $4, $5) }
    ),
  ]

  @Test(arguments: KernelTests.variants, functions)
  private func activationsAndTheirGradientsMatchTheFormulas(_ variant: Int32, _ function: Function) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    // Odd steps, so that no value is relu's corner.
    let x = (-1500..<1500).map { (Float($0) + 0.5) * 0.02 }
    let (up, upstream) = (values(x.count, seed: 4), values(x.count, seed: 8))
    func derivative(_ x: Double) -> Double { (function.formula(x + 1e-5) - function.formula(x - 1e-5)) / 2e-5 }
    // Backward kernels are called in place, as the passes do.
    var (y, dx, gated, dgate, dup) = (x, upstream, x, x, upstream)
    function.plain?(x, &y, x.count)
    dx.withUnsafeMutableBufferPointer { function.slope?(x, $0.baseAddress!, $0.baseAddress!, x.count) }
    function.gated?(x, up, &gated, x.count)
    dup.withUnsafeMutableBufferPointer {
      function.gatedSlope?(x, up, $0.baseAddress!, &dgate, $0.baseAddress!, x.count)
    }
    for index in x.indices {
      let (g, u, d) = (Double(x[index]), Double(up[index]), Double(upstream[index]))
      let (value, slope) = (function.formula(g), derivative(g))
      if function.plain != nil {
        #expect(abs(Double(y[index]) - value) < 3e-6 * max(1, abs(g)), "f(\(g))")
        #expect(abs(Double(dx[index]) - d * slope) < 1e-5 * max(1, abs(d)), "f'(\(g))")
      }
      if function.gated != nil {
        #expect(abs(Double(gated[index]) - value * u) < 1e-5 * max(1, abs(g * u)), "f(\(g)) u")
        #expect(abs(Double(dup[index]) - d * value) < 1e-5 * max(1, abs(g * d)), "up's gradient at \(g)")
        #expect(abs(Double(dgate[index]) - d * u * slope) < 1e-5 * max(1, abs(d * u)), "the gate's gradient at \(g)")
      }
    }
  }

  @Test(arguments: KernelTests.variants, [(Float(1), Float(30)), (0.25, 2), (3, 0.5)])
  func theSoftCapAndItsSlopeMatchTheFormula(_ variant: Int32, _ numbers: (scale: Float, cap: Float)) {
    fl_select_variant(variant)
    defer { fl_select_variant(-1) }
    let (scale, cap) = (Double(numbers.scale), Double(numbers.cap))
    let x = (-2000...2000).map { Float($0) * 0.01 * numbers.cap / numbers.scale / 4 }
    var y = x
    fl_soft_cap(&y, x.count, numbers.scale, numbers.cap)
    var slope = x
    fl_soft_cap_slope(y, &slope, x.count, numbers.scale, numbers.cap)
    for (index, value) in x.enumerated() {
      let t = tanh(scale * Double(value) / cap)
      // Relative: small scores must not be lost beside the bound.
      #expect(abs(Double(y[index]) - cap * t) <= 5e-7 * abs(cap * t), "cap(\(value))")
      #expect(abs(Double(slope[index]) - scale * (1 - t * t)) < 1e-6 * scale, "slope at \(value)")
    }
  }

  @Test func rowsAreCopiedFromOneStepToAnother() {
    let x = values(3 * 7, seed: 1)
    var y = [Float](repeating: 9, count: 3 * 4)
    fl_copy_rows(&y, 4, x, 7, 3, 2)
    for row in 0..<3 { #expect(y[row * 4..<row * 4 + 4].elementsEqual([x[row * 7], x[row * 7 + 1], 9, 9])) }
    var product = x
    fl_multiply(&product, x, x.count)
    #expect(zip(product, x).allSatisfy { $0 == $1 * $1 })
  }
}
