import CKernels
import Foundation
import Testing

/// Matrices in few bits: what is stored, and products against sums in double precision of the widened values.
@Suite("Frozen matrices in few bits")
struct FrozenMatrixTests {
  /// A matrix in one of the three forms, with the memory that it points into.
  private final class Narrow {
    let values: UnsafeMutableRawPointer
    let scales: UnsafeMutablePointer<Float>
    var frozen: fl_frozen

    init(_ kind: Int, _ x: [Float], rows: Int, columns: Int) {
      let blocks = (columns + 63) / 64
      let values = UnsafeMutableRawPointer.allocate(byteCount: 2 * rows * columns + 64, alignment: 64)
      let scales = UnsafeMutablePointer<Float>.allocate(capacity: max(rows * blocks, 1))
      x.withUnsafeBufferPointer { x in
        guard let x = x.baseAddress else { return }
        for row in 0..<rows {
          let (from, scale) = (x + row * columns, scales + row * blocks)
          switch kind {
          case 0: fl_to_bf16(from, values.assumingMemoryBound(to: UInt16.self) + row * columns, columns)
          case 1: fl_to_int8(from, values.assumingMemoryBound(to: Int8.self) + row * columns, scale, columns)
          default:
            fl_to_nf4(from, values.assumingMemoryBound(to: UInt8.self) + row * ((columns + 1) / 2), scale, columns)
          }
        }
      }
      (self.values, self.scales) = (values, scales)
      frozen = fl_frozen(
        kind: Int32(kind),
        rows: rows,
        columns: columns,
        values: values,
        scales: kind == 0 ? nil : UnsafePointer(scales)
      )
    }

    deinit {
      values.deallocate()
      scales.deallocate()
    }

    var widened: [Float] {
      var out = [Float](repeating: .nan, count: frozen.rows * frozen.columns)
      fl_frozen_widen(&frozen, 0, frozen.rows, &out)
      return out
    }
  }

  private func numbers(_ count: Int, seed: UInt64, scale: Float = 1) -> [Float] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    return (0..<count).map { _ in
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return scale * (Float(state >> 40) / Float(1 << 23) - 1)
    }
  }

  private static func bf16(_ x: Float) -> Float {
    let bits = x.bitPattern
    return Float(bitPattern: (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) & 0xFFFF_0000)
  }

  @Test("bf16 rounds to the nearest, ties to even, and keeps infinities and NaN")
  func rounding() {
    let inputs: [Float] = [
      0, -0, 1, 1.00390625, 1.01171875, 1 + 1 / 512, -3.1415927, .infinity, -.infinity, .nan, Float(bitPattern: 71_362),
      .greatestFiniteMagnitude,
    ]
    var found = [UInt16](repeating: 0, count: inputs.count)
    fl_to_bf16(inputs, &found, inputs.count)
    for (input, bits) in zip(inputs, found) {
      let value = Float(bitPattern: UInt32(bits) << 16)
      #expect(input.isNaN ? value.isNaN : value == Self.bf16(input), "\(input)")
    }
    // Halfway between 1 and the next value goes to the even one, halfway above it up.
    #expect(found[3] == 0x3F80 && found[4] == 0x3F82)
  }

  @Test("8 bits are off by at most half a step of their block, and the largest magnitude is exact")
  func eightBits() {
    let columns = 150
    let x = numbers(columns, seed: 3, scale: 2)
    let matrix = Narrow(1, x, rows: 1, columns: columns)
    let widened = matrix.widened
    for block in 0..<3 {
      let range = (64 * block)..<min(64 * block + 64, columns)
      let top = range.map { abs(x[$0]) }.max() ?? 0
      #expect(matrix.scales[block] == top / 127)
      for index in range { #expect(abs(widened[index] - x[index]) <= 0.5001 * top / 127) }
      #expect(range.contains { abs(abs(widened[$0]) - top) <= 1e-6 * top })
    }
  }

  @Test("4 bits are the nearest of sixteen quantiles of a normal distribution")
  func fourBits() {
    // QLoRA's recipe: the quantiles of eight probabilities above zero and seven below, at even distances from 0.9677083 to a
    // half, scaled to 1, and zero. The tail is the complementary error function, turned round by bisection.
    func quantile(_ p: Double) -> Double {
      var (low, high) = (-10.0, 10.0)
      for _ in 0..<200 {
        let middle = (low + high) / 2
        if 0.5 * erfc(-middle / 2.0.squareRoot()) < p { low = middle } else { high = middle }
      }
      return (low + high) / 2
    }
    func even(_ count: Int) -> [Double] {
      (0..<count).map { 0.9677083 + (0.5 - 0.9677083) * Double($0) / Double(count) }
    }
    let all = (even(8).map(quantile) + [0] + even(7).map { -quantile($0) }).sorted()
    let top = all.map(abs).max() ?? 1
    withUnsafePointer(to: fl_nf4_values) { table in
      table.withMemoryRebound(to: Float.self, capacity: 16) { table in
        for (index, value) in all.enumerated() {
          #expect(abs(Double(table[index]) - value / top) < 2e-6, "entry \(index)")
        }
        let x = numbers(150, seed: 5, scale: 0.3)
        let matrix = Narrow(2, x, rows: 1, columns: 150)
        for (index, value) in matrix.widened.enumerated() {
          let scale = matrix.scales[index / 64]
          let nearest = (0..<16).map { abs(scale * table[$0] - x[index]) }.min() ?? 0
          #expect(abs(value - x[index]) <= nearest + 1e-7)
        }
      }
    }
  }

  /// Kind, rows, columns, rows of x: whole and ragged panels, tiles, blocks, and a reduction that is cut in two.
  private static let shapes: [(Int, Int, Int)] = [
    (64, 64, 28), (33, 70, 5), (48, 129, 15), (31, 16, 1), (96, 2100, 17), (2070, 40, 6), (1, 1, 3), (17, 47, 14),
  ]

  @Test("products with the processor's own instructions are those of rounded factors", arguments: 0..<3)
  func wide(_ kind: Int) {
    guard fl_has_bf16() != 0 else { return }
    for (rows, columns, m) in Self.shapes {
      let matrix = Narrow(kind, numbers(rows * columns, seed: 7), rows: rows, columns: columns)
      let w = matrix.widened.map(Self.bf16)
      for transposes in [true, false] {
        let (depth, width) = transposes ? (columns, rows) : (rows, columns)
        let x = numbers(m * depth, seed: 11)
        let start = numbers(m * width, seed: 13)
        let size = fl_frozen_scratch(&matrix.frozen, transposes ? 1 : 0, m)
        // A guard behind the scratch memory: nothing may be written there.
        let scratch = UnsafeMutableRawPointer.allocate(byteCount: size + 64, alignment: 64)
        defer { scratch.deallocate() }
        scratch.initializeMemory(as: UInt8.self, repeating: 0xA5, count: size + 64)
        for accumulates in [false, true] {
          var y = accumulates ? start : [Float](repeating: .nan, count: m * width)
          fl_frozen_multiply(&matrix.frozen, transposes ? 1 : 0, x, m, &y, accumulates ? 1 : 0, scratch)
          for row in 0..<m {
            for column in 0..<width {
              var (sum, size) = (0.0, 0.0)
              for place in 0..<depth {
                let weight = transposes ? w[column * columns + place] : w[place * columns + column]
                let term = Double(Self.bf16(x[row * depth + place])) * Double(weight)
                sum += term
                size += abs(term)
              }
              if accumulates { sum += Double(start[row * width + column]) }
              #expect(
                abs(Double(y[row * width + column]) - sum) <= 2e-6 * (size + 1),
                "\(kind) \(rows)×\(columns) \(m) \(transposes)"
              )
            }
          }
        }
        let tail = (0..<64).allSatisfy { scratch.load(fromByteOffset: size + $0, as: UInt8.self) == 0xA5 }
        #expect(tail)
      }
    }
  }

  @Test("products of few rows are those of the widened matrix, with wide instructions and without", arguments: 0..<3)
  func few(_ kind: Int) {
    defer { fl_forbid_bf16(0) }
    for (rows, columns, m) in Self.shapes {
      let matrix = Narrow(kind, numbers(rows * columns, seed: 17), rows: rows, columns: columns)
      let w = matrix.widened
      fl_forbid_bf16(1)
      #expect(matrix.widened == w)
      let x = numbers(m * columns, seed: 19)
      let start = numbers(m * rows, seed: 23)
      for forbids in [Int32(0), 1] {
        fl_forbid_bf16(forbids)
        var y = start
        fl_frozen_dot(&matrix.frozen, x, m, &y, 1)
        for row in 0..<m {
          for column in 0..<rows {
            var (sum, size) = (Double(start[row * rows + column]), 1.0)
            for place in 0..<columns {
              let term = Double(x[row * columns + place]) * Double(w[column * columns + place])
              sum += term
              size += abs(term)
            }
            #expect(abs(Double(y[row * rows + column]) - sum) <= 2e-6 * size, "\(kind) \(rows)×\(columns) \(m)")
          }
        }
      }
    }
  }
}
