import Foundation

/// Exact draws of ⌊2ᵐ·z⌋ for standard normal z, from secret bits and integer arithmetic alone.
///
/// z is a real number of which only as many binary digits are drawn as are needed. |z| = (i + f)/16 with a cell i and a
/// uniform f in [0, 1): the cell is proposed with a probability proportional to the density at its left edge
/// (`NormalCellTable`), and the proposal kept with probability
///
///     φ((i + f)/16) / φ(i/16) = exp(−t),  t = f·(i + f/2)/256 < 1,
///
/// that is when a uniform u is below exp(−t) (von Neumann 1951). One word of 64 bits makes a proposal:
///
///     bit 0: the sign | 18 bits: the first digits of u | 31 bits: the first digits of f | 14 bits: of the cell's uniform
///
/// and as exp(−t) > 1 − t it is kept at once when even the largest u and f with these digits satisfy u ≤ 1 − t, in integers
/// without rounding. In 97 of 100 words this decides. Otherwise the numbers are drawn further, to 64 digits and, if that is
/// not enough either (probability below 2⁻⁵⁶), to 128 (`AcceptanceTest`). All of it is the same real u, f and cell with more
/// digits, so nothing is approximated but what `distancePerDraw` bounds.
///
/// The time of a draw depends on its word, so the total time says a little about the noise, but nothing about the sums: no
/// branch and no address depends on them.
package enum RoundedGaussian {
  /// The largest m: so many binary digits of z the first word of a draw holds.
  package static let maximumExponent = 35

  /// Bound on the total variation distance between a draw and ⌊2ᵐ·z⌋.
  ///
  /// A proposal's cell is off by at most 210 · 2⁻¹²⁸ for the rounded table and 2⁻¹²⁸ for the cells that it leaves out, and with
  /// probability at most 2⁻¹²⁰ 128 digits leave open whether to keep it. A share of 0.975 is kept, so the distance is below
  /// (2⁻¹²⁰ + 2⁻¹²⁰)·2/0.975 < 2⁻¹¹⁷.
  package static let distancePerDraw = 0x1p-117

  /// How soon digits may be taken as enough: tests force the later decisions, which all must have the same distribution.
  package enum Effort: Int, CaseIterable, Sendable {
    case asNeeded, always64, always128
  }

  /// Adds a draw for exponent m to each of `count` sums. About 6 ns a draw and 8.3 bytes of key stream.
  package static func add(
    to sums: UnsafeMutablePointer<Int64>,
    count: Int,
    exponent: Int,
    stream: inout KeyStream,
    effort: Effort = .asNeeded
  ) {
    precondition(exponent <= maximumExponent, "noise of more digits than a word holds")
    // More than 39 places leave nothing but the sign.
    let shift = Int64(min(maximumExponent - exponent, 63))
    let words = UnsafeMutablePointer<UInt64>.allocate(capacity: batch)
    let open = UnsafeMutablePointer<Int32>.allocate(capacity: batch)
    defer {
      explicit_bzero(words, batch * 8)
      words.deallocate()
      open.deallocate()
    }
    quickCells.withUnsafeBufferPointer { cells in
      var start = 0
      while start < count {
        let size = min(batch, count - start)
        stream.fill(UnsafeMutableBufferPointer(start: words, count: size))
        var openCount = 0
        if effort == .asNeeded {
          for index in 0..<size {
            let word = words[index]
            let cell = UInt64(cells[Int(word >> 50)])
            // Nothing is added where the word did not decide.
            let isKept = isKeptAtOnce(word, cell: cell)
            let magnitude = Int64(bitPattern: cell << 31 | fraction(word)) &>> shift
            let value = magnitude ^ (0 &- Int64(bitPattern: word & 1))
            sums[start + index] &+= isKept ? value : 0
            open[openCount] = Int32(truncatingIfNeeded: index)
            openCount &+= isKept ? 0 : 1
          }
        } else {
          for index in 0..<size { open[index] = Int32(index) }
          openCount = size
        }
        for position in 0..<openCount {
          let index = Int(open[position])
          sums[start + index] &+= finish(words[index], shift: shift, cells: cells, stream: &stream, effort: effort)
        }
        start += size
      }
    }
  }

  // MARK: One proposal

  private static let batch = 2048
  /// Marks first digits of the cell's uniform that belong to more than one cell.
  private static let undecided: UInt64 = 255

  @inline(__always) private static func fraction(_ word: UInt64) -> UInt64 { word >> 19 & 0x7FFF_FFFF }
  @inline(__always) private static func level(_ word: UInt64) -> UInt64 { word >> 1 & 0x3FFFF }

  /// Whether u < 1 − t for every u and f that begin with the word's digits: u ≤ (level + 1)·2⁻¹⁸ and f ≤ F·2⁻¹⁶, so
  /// t ≤ F·(2¹⁷·i + F)·2⁻⁴¹.
  @inline(__always) private static func isKeptAtOnce(_ word: UInt64, cell: UInt64) -> Bool {
    let f = fraction(word) >> 15 &+ 1
    let t = f &* (cell << 17 &+ f)
    return (level(word) &+ 1) << 23 &+ t <= 1 << 41 && cell != undecided
  }

  /// A draw whose first word did not decide, with as many further words as it needs.
  @inline(never) private static func finish(
    _ first: UInt64,
    shift: Int64,
    cells: UnsafeBufferPointer<UInt8>,
    stream: inout KeyStream,
    effort: Effort
  ) -> Int64 {
    var word = first
    while true {
      var cell = UInt64(cells[Int(word >> 50)])
      if cell == undecided || effort == .always128 {
        let digits = UInt128(word >> 50) << 114 | UInt128(stream.next()) << 50 | UInt128(stream.next() >> 14)
        cell = UInt64(Self.cell(at: digits))
      }
      if effort == .asNeeded && isKeptAtOnce(word, cell: cell) || isKeptLate(word, cell, &stream, effort) {
        let magnitude = Int64(bitPattern: cell << 31 | fraction(word)) >> shift
        return word & 1 == 0 ? magnitude : ~magnitude
      }
      word = stream.next()
    }
  }

  private static func isKeptLate(_ word: UInt64, _ cell: UInt64, _ stream: inout KeyStream, _ effort: Effort) -> Bool {
    let f = fraction(word) << 33 | stream.next() >> 31
    let u = level(word) << 46 | stream.next() >> 18
    if effort != .always128, let answer = AcceptanceTest.keeps(cell: cell, fraction: f, level: u) { return answer }
    let longF = UInt128(f) << 64 | UInt128(stream.next())
    let longU = UInt128(u) << 64 | UInt128(stream.next())
    // What even 128 digits leave open is part of `distancePerDraw`.
    return AcceptanceTest.keeps(cell: UInt128(cell), fraction: longF, level: longU) ?? false
  }

  // MARK: Cells

  /// The cell of a uniform with 128 digits: the number of bounds at or below it.
  package static func cell(at uniform: UInt128) -> Int {
    var low = 0
    var high = NormalCellTable.cells - 1
    while low < high {
      let middle = (low + high) / 2
      if uniform < bound(middle) { high = middle } else { low = middle + 1 }
    }
    return low
  }

  /// 2¹²⁸ · P(cell ≤ index).
  package static func bound(_ index: Int) -> UInt128 {
    UInt128(NormalCellTable.bounds[2 * index]) << 64 | UInt128(NormalCellTable.bounds[2 * index + 1])
  }

  /// The cell by the first 14 digits of its uniform, where they decide it.
  private static let quickCells: [UInt8] = (0..<1 << 14).map { prefix in
    let first = UInt128(prefix) << 114
    let cell = cell(at: first)
    return UInt8(cell == Self.cell(at: first | ((1 << 114) - 1)) ? UInt64(cell) : undecided)
  }
}
