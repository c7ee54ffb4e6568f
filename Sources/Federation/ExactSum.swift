import FedLoRACheckpoint

/// A weighted sum of updates that has the same bits whatever order, batching or tree of partial sums it came by.
///
/// Floating-point addition is not associative, so a mean of floats depends on who answered first. Here each term w·x is
/// put on a fixed grid and added in integers, which commute and associate.
///
/// **Grid.** The product w·x of a 24-bit float and a weight of at most 29 bits is exact in a `Double`. It is rounded
/// to the nearest multiple of 2⁻⁶⁶ (ties to even). So a value of magnitude 2⁻⁴² ≈ 2.3e-13 or more enters without any
/// rounding, and a smaller one with an error of at most 2⁻⁶⁷ ≈ 6.8e-21 per update.
///
/// **Lanes.** A sum is hi·2⁻¹⁶ + lo·2⁻⁶⁶ with two `Int64` for each element. Both parts come from two floating-point
/// additions of a constant whose ulp is the lane's grid, which compilers turn into vector code on any x86-64; `Int128`
/// would need a scalar shift and an add with carry for each element. Carries from lo to hi are not taken at each
/// addition: a term is at most 2⁴⁹ in the lo lane, so 4096 terms fit without, and then one pass carries all.
///
/// **Range and overflow.** A term must satisfy w·|x| ≤ 2³⁴ (a weight of 10⁶ leaves |x| up to 17 179), else the update is
/// refused by tensor and index. The sum keeps a bound Σ w·max|x| over its updates; an update that would bring it above
/// 2⁴⁶ is refused too, so no lane can overflow. NaN and infinity are refused. A refused update leaves the sum as it was.
///
/// **Cost.** 16 bytes of state for each element, whatever the number of updates. `fold(batch:)` walks the state once
/// for several updates, which saves memory traffic and changes no bit.
public struct ExactSum: Sendable {
  /// The largest weight of one update.
  public static let largestWeight = 1 << 29
  /// The largest w·|x| of one term.
  public static let largestTerm = 0x1p34
  /// The largest Σ w·max|x|, in units of 2⁻¹⁶.
  static let largestBound: Int64 = 1 << 62
  /// Terms that the lo lane takes between two carries.
  static let termsBetweenCarries = 4096
  /// Bits by which the lo grid is finer than the hi grid.
  static let laneRatioBits: Int64 = 50

  /// What each update must consist of.
  public let layout: TensorLayout
  /// The sum of the weights so far.
  public private(set) var totalWeight: Int
  /// How many updates are in the sum.
  public private(set) var updateCount: Int
  /// Σ w·max|x| in units of 2⁻¹⁶, each term rounded up.
  private(set) var bound: Int64
  private(set) var high: [Int64]
  private(set) var low: [Int64]
  private var termsSinceCarry = 0

  /// An empty sum of updates of this layout.
  public init(layout: TensorLayout) {
    self.init(
      layout: layout,
      totalWeight: 0,
      updateCount: 0,
      bound: 0,
      high: [Int64](repeating: 0, count: layout.elementCount),
      low: [Int64](repeating: 0, count: layout.elementCount)
    )
  }

  init(layout: TensorLayout, totalWeight: Int, updateCount: Int, bound: Int64, high: [Int64], low: [Int64]) {
    self.layout = layout
    self.totalWeight = totalWeight
    self.updateCount = updateCount
    self.bound = bound
    self.high = high
    self.low = low
  }

  /// Adds `update` with this weight.
  /// - Throws: `LayoutError` or `SumError`; the sum is then unchanged.
  public mutating func fold(_ update: TensorSet, weight: Int) throws {
    try fold(batch: [(update, weight)])
  }

  /// Adds several updates in one walk over the state: the same bits as one after the other.
  /// - Throws: `LayoutError` or `SumError`; the sum is then unchanged, also by the updates before the refused one.
  public mutating func fold(batch: [(update: TensorSet, weight: Int)]) throws {
    var newBound = bound
    var newWeight = totalWeight
    for (update, weight) in batch {
      let largest = try Self.check(update, weight: weight, layout: layout)
      newBound += Int64((Double(weight) * Double(largest) * 0x1p16).rounded(.up)) + 1
      let (sum, overflow) = newWeight.addingReportingOverflow(weight)
      guard newBound <= Self.largestBound, !overflow else { throw SumError.full(updates: updateCount) }
      newWeight = sum
    }
    var remaining = batch[...]
    while !remaining.isEmpty {
      if termsSinceCarry == Self.termsBetweenCarries { carry() }
      let part = remaining.prefix(Self.termsBetweenCarries - termsSinceCarry)
      accumulate(part)
      termsSinceCarry += part.count
      remaining = remaining.dropFirst(part.count)
    }
    bound = newBound
    totalWeight = newWeight
    updateCount += batch.count
  }

  /// Adds another partial sum: the same bits as if its updates had been folded here.
  /// - Throws: `SumError` when the layouts differ or the total does not fit.
  public mutating func merge(_ other: ExactSum) throws {
    guard layout == other.layout else { throw SumError.differentLayouts }
    let (newWeight, overflow) = totalWeight.addingReportingOverflow(other.totalWeight)
    guard !overflow, bound <= Self.largestBound - other.bound else { throw SumError.full(updates: updateCount) }
    carry()
    let carried = other.carried()
    for index in high.indices {
      high[index] &+= carried.high[index]
      low[index] &+= carried.low[index]
    }
    carry()
    totalWeight = newWeight
    bound += other.bound
    updateCount += other.updateCount
  }

  /// Sum divided by total weight, each element rounded to a `Double` and then to a float.
  /// - Throws: `SumError.empty` when nothing was folded.
  public func mean() throws -> TensorSet {
    guard updateCount > 0 else { throw SumError.empty }
    let carried = self.carried()
    let divisor = Double(totalWeight)
    var pairs: [(String, Tensor)] = []
    pairs.reserveCapacity(layout.entries.count)
    for entry in layout.entries {
      let values = [Float](unsafeUninitializedCapacity: entry.count) { target, count in
        for index in 0..<entry.count {
          let (high, low) = (carried.high[entry.offset + index], carried.low[entry.offset + index])
          let sum = Double(high) * 0x1p-16 + Double(low) * 0x1p-66
          target[index] = Float(sum / divisor)
        }
        count = entry.count
      }
      pairs.append((entry.name, try Tensor(shape: entry.shape, values: values)))
    }
    return try TensorSet(pairs)
  }

  /// The sum with every carry taken: the one form that equal sums share.
  func carried() -> ExactSum {
    var result = self
    result.carry()
    return result
  }

  private mutating func carry() {
    let count = high.count
    let highOffset = Int64(termsSinceCarry) &* highMagicBits
    let lowOffset = Int64(termsSinceCarry) &* lowMagicBits
    high.withUnsafeMutableBufferPointer { high in
      low.withUnsafeMutableBufferPointer { low in
        for index in 0..<count {
          let rest = low[index] &- lowOffset
          high[index] = high[index] &- highOffset &+ (rest >> Self.laneRatioBits)
          low[index] = rest & ((1 << Self.laneRatioBits) - 1)
        }
      }
    }
    termsSinceCarry = 0
  }

  /// The largest magnitude in `update`, once everything about it is found in order.
  private static func check(_ update: TensorSet, weight: Int, layout: TensorLayout) throws -> Float {
    guard weight >= 1, weight <= largestWeight else { throw SumError.weightOutOfRange(weight) }
    try layout.check(update)
    var largest: Float = 0
    for entry in update.entries {
      let values = entry.tensor.values
      // The bits of a float without its sign order as the magnitudes do, with infinity and NaN above all others.
      let bits = values.withUnsafeBufferPointer { values in
        var bits: Int32 = 0
        for value in values { bits = max(bits, Int32(bitPattern: value.bitPattern & 0x7fff_ffff)) }
        return bits
      }
      let magnitude = Float(bitPattern: UInt32(bitPattern: bits))
      guard magnitude.isFinite else {
        let index = values.firstIndex { !$0.isFinite } ?? 0
        throw SumError.notFinite(tensor: entry.name, index: index, value: values[index])
      }
      guard Double(magnitude) * Double(weight) <= largestTerm else {
        let index = values.firstIndex { abs($0) == magnitude } ?? 0
        throw SumError.outOfRange(tensor: entry.name, index: index, value: values[index], weight: weight)
      }
      largest = max(largest, magnitude)
    }
    return largest
  }

  private mutating func accumulate(_ batch: ArraySlice<(update: TensorSet, weight: Int)>) {
    // Both lanes of a tile stay in the first-level cache while the updates go over it.
    let tile = 1024
    high.withUnsafeMutableBufferPointer { high in
      low.withUnsafeMutableBufferPointer { low in
        guard let high = high.baseAddress, let low = low.baseAddress else { return }
        for (position, entry) in layout.entries.enumerated() {
          for start in stride(from: 0, to: entry.count, by: tile) {
            let count = min(tile, entry.count - start)
            for (update, weight) in batch {
              update.entries[position].tensor.values.withUnsafeBufferPointer { values in
                guard let values = values.baseAddress else { return }
                addTerms(
                  values + start,
                  weight: Double(weight),
                  count: count,
                  high: high + (entry.offset + start),
                  low: low + (entry.offset + start)
                )
              }
            }
          }
        }
      }
    }
  }
}

/// 1.5·2³⁶ has an ulp of 2⁻¹⁶: adding a term of at most 2³⁴ to it rounds the term to the hi lane's grid.
private let highMagicBits = Int64(bitPattern: 0x1.8p36.bitPattern)
/// 1.5·2⁻¹⁴ has an ulp of 2⁻⁶⁶, for the rest of at most 2⁻¹⁷.
private let lowMagicBits = Int64(bitPattern: 0x1.8p-14.bitPattern)

/// Adds w·x to the lanes of `count` elements; about 15 vector instructions for two elements with SSE2.
///
/// The bit pattern of term plus magic is the bit pattern of the magic plus the term as a multiple of the grid. The whole
/// pattern is added, modulo 2⁶⁴; `carry` takes the magic's share of all terms off again at once.
@inline(__always)
private func addTerms(
  _ values: UnsafePointer<Float>,
  weight: Double,
  count: Int,
  high: UnsafeMutablePointer<Int64>,
  low: UnsafeMutablePointer<Int64>
) {
  for index in 0..<count {
    let term = Double(values[index]) * weight
    let shifted = term + 0x1.8p36
    let rest = (term - (shifted - 0x1.8p36)) + 0x1.8p-14
    high[index] &+= Int64(bitPattern: shifted.bitPattern)
    low[index] &+= Int64(bitPattern: rest.bitPattern)
  }
}

extension ExactSum: Equatable {
  /// Whether both hold the same sum of the same number of updates and weights, bit for bit.
  public static func == (left: ExactSum, right: ExactSum) -> Bool {
    guard left.layout == right.layout, left.totalWeight == right.totalWeight, left.updateCount == right.updateCount
    else { return false }
    let (left, right) = (left.carried(), right.carried())
    return left.high == right.high && left.low == right.low
  }
}
