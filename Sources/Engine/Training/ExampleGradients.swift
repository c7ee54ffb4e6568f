import CKernels

/// One thread's per-example gradients of a slice, and its running integer sum.
///
/// `@unchecked Sendable`: each instance belongs to one worker thread of a `ModelRunner`.
final class ExampleGradients: @unchecked Sendable {
  /// Bytes of per-example gradients that one thread may hold; a slice has fewer sequences where they are larger.
  static let byteLimit = 128 << 20

  private let stride: Int
  private let ranges: [Range<Int>]
  let trainedCount: Int
  private let sum: UnsafeMutablePointer<Int32>
  /// The sum of a whole call, into which the narrower one is moved before it can overflow; `trainedCount` elements.
  private let total: UnsafeMutablePointer<Int64>
  private(set) var summary = ClippedSummary()
  private var gradients: UnsafeMutablePointer<Float>?
  private var squares: UnsafeMutablePointer<Double>?
  private var capacity = 0
  private var examplesInSum = 0

  /// - Parameters:
  ///   - stride: elements of the model's layout.
  ///   - ranges: the trained elements of it, in ascending order.
  init(stride: Int, ranges: [Range<Int>]) {
    self.stride = stride
    self.ranges = ranges
    trainedCount = ranges.reduce(0) { $0 + $1.count }
    sum = .allocate(capacity: max(trainedCount, 1))
    sum.initialize(repeating: 0, count: trainedCount)
    total = .allocate(capacity: max(trainedCount, 1))
    total.initialize(repeating: 0, count: trainedCount)
  }

  deinit {
    sum.deallocate()
    total.deallocate()
    gradients?.deallocate()
    squares?.deallocate()
  }

  /// Most sequences of a slice.
  static func sequencesPerSlice(stride: Int) -> Int {
    max(1, min(ExampleClipping.examplesPerSum, byteLimit / (4 * max(stride, 1))))
  }

  /// Room for the gradients of `count` sequences, with their square sums at 0.
  func prepare(_ count: Int) -> GradientTarget {
    if count > capacity || gradients == nil {
      gradients?.deallocate()
      squares?.deallocate()
      gradients = .allocate(capacity: max(count * stride, 1))
      squares = .allocate(capacity: max(count, 1))
      capacity = count
    }
    guard let gradients, let squares else { preconditionFailure("the buffers were made above") }
    squares.update(repeating: 0, count: count)
    return .sequences(gradients, stride: stride, squares: squares)
  }

  /// Forgets what was summed.
  func begin() {
    summary = ClippedSummary()
    total.update(repeating: 0, count: trainedCount)
  }

  /// Clips the gradients that a backward pass left in `prepare`'s target and adds them to the integer sum.
  func clip(_ count: Int, _ clipping: ExampleClipping) {
    guard let gradients, let squares else { return }
    if examplesInSum + count > ExampleClipping.examplesPerSum { flush() }
    summary.examples += count
    for sequence in 0..<count {
      let norm = squares[sequence].squareRoot()
      guard norm.isFinite else {
        summary.notFinite += 1
        continue
      }
      summary.normSum += norm
      if norm > clipping.bound { summary.aboveBound += 1 }
      let factor = Float(clipping.factor(norm: norm) / clipping.step)
      // A factor beyond a Float's range belongs to a gradient so small that it rounds to nothing sensible.
      guard factor > 0, factor.isFinite else { continue }
      var place = 0
      for range in ranges {
        fl_quantise_add(gradients + sequence * stride + range.lowerBound, factor, sum + place, range.count)
        place += range.count
      }
    }
    examplesInSum += count
  }

  /// Adds all that was summed since `begin`.
  func addTotal(to sums: inout [Int64]) {
    flush()
    for index in 0..<trainedCount { sums[index] &+= total[index] }
  }

  /// Adds the gradients as they are.
  func add(_ count: Int, into total: UnsafeMutablePointer<Float>) {
    guard let gradients else { return }
    for sequence in 0..<count {
      var place = 0
      for range in ranges {
        fl_axpy(1, gradients + sequence * stride + range.lowerBound, total + place, range.count)
        place += range.count
      }
    }
  }

  /// Moves the 32-bit sum into the 64-bit one.
  private func flush() {
    guard examplesInSum > 0 else { return }
    fl_add_int32(total, sum, trainedCount)
    sum.update(repeating: 0, count: trainedCount)
    examplesInSum = 0
  }

  /// The gradient of one sequence, trained elements only.
  func gradient(of sequence: Int) -> [Float] {
    guard let gradients else { return [] }
    return ranges.flatMap {
      Array(UnsafeBufferPointer(start: gradients + sequence * stride + $0.lowerBound, count: $0.count))
    }
  }
}
