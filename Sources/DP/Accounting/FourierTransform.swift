import Foundation

/// The discrete Fourier transform of 2ⁿ complex numbers, in place.
struct FourierTransform {
  /// The number of points, a power of two.
  let count: Int
  private let cosines: [Double]
  private let sines: [Double]

  init(count: Int) {
    precondition(count > 1 && count & (count - 1) == 0, "a transform has a power of two points")
    self.count = count
    // Each factor from its own sine: recurrences would lose digits.
    cosines = (0..<count / 2).map { cos(2 * Double.pi * Double($0) / Double(count)) }
    sines = (0..<count / 2).map { -sin(2 * Double.pi * Double($0) / Double(count)) }
  }

  /// Σ over j of (real + i·imaginary)[j] · exp(−2πi·jk/count) for each k; the inverse, not divided by `count`, when
  /// the two arrays are swapped.
  func transform(_ real: inout [Double], _ imaginary: inout [Double]) {
    reverseBits(&real, &imaginary)
    real.withUnsafeMutableBufferPointer { real in
      imaginary.withUnsafeMutableBufferPointer { imaginary in
        var half = 1
        while half < count {
          let stride = count / (2 * half)
          for start in Swift.stride(from: 0, to: count, by: 2 * half) {
            for k in 0..<half {
              let (cosine, sine) = (cosines[k * stride], sines[k * stride])
              let (top, bottom) = (start + k, start + k + half)
              let turnedReal = real[bottom] * cosine - imaginary[bottom] * sine
              let turnedImaginary = real[bottom] * sine + imaginary[bottom] * cosine
              real[bottom] = real[top] - turnedReal
              imaginary[bottom] = imaginary[top] - turnedImaginary
              real[top] += turnedReal
              imaginary[top] += turnedImaginary
            }
          }
          half *= 2
        }
      }
    }
  }

  private func reverseBits(_ real: inout [Double], _ imaginary: inout [Double]) {
    var reversed = 0
    for index in 1..<count {
      var bit = count >> 1
      while reversed & bit != 0 {
        reversed ^= bit
        bit >>= 1
      }
      reversed |= bit
      if index < reversed {
        real.swapAt(index, reversed)
        imaginary.swapAt(index, reversed)
      }
    }
  }
}
