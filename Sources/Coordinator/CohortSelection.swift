/// Who is preferred when a cohort is drawn with the run's seed.
public enum SelectionRule: String, Sendable, CaseIterable {
  /// Every candidate alike.
  case random
  /// Those who were asked in the fewest rounds first, at random among equals.
  case balanced
}

/// Draws the cohort of a round: a function of the run's seed, the round, the attempt, the candidates and, where the draw
/// is balanced, their participations.
///
/// The seed is in the manifest, so everybody can know these cohorts beforehand. They give no credit to the privacy of
/// records: what a client releases in a round is charged in full, however seldom it is asked. Where clients are the unit
/// of privacy the driver draws from secret randomness instead (`RunEffect.drawCohort`).
///
/// Generator, bounded draw and shuffle are written out here, so that the same seed gives the same cohort with every
/// version of the standard library.
public enum CohortSelection {
  /// `count` of `candidates`, or all where there are fewer, in ascending order of names.
  ///
  /// The candidates are sorted by their UTF-8 bytes first; then a partial Fisher–Yates shuffle picks without
  /// replacement, every subset with the same probability. Under `.balanced` all are shuffled, and of that order the
  /// first with the fewest participations are taken; where all have as many, this is the choice of `.random`.
  /// - Parameter participations: in how many rounds a client was asked; 0 where it has no entry.
  public static func select(
    _ count: Int,
    from candidates: [String],
    seed: UInt64,
    round: Int,
    attempt: Int,
    rule: SelectionRule = .random,
    participations: [String: Int] = [:]
  ) -> [String] {
    var names = candidates.sorted(by: precedes)
    guard count < names.count else { return names }
    var generator = SplitMix64(seed: seed)
    generator.absorb(UInt64(bitPattern: Int64(round)))
    generator.absorb(UInt64(bitPattern: Int64(attempt)))
    let shuffled = rule == .random ? max(0, count) : names.count - 1
    for index in 0..<shuffled {
      let other = index + Int(generator.next(below: UInt64(names.count - index)))
      names.swapAt(index, other)
    }
    if rule == .balanced {
      // The position in the shuffled order decides among equals.
      names = names.enumerated().sorted { left, right in
        let (first, second) = (participations[left.element] ?? 0, participations[right.element] ?? 0)
        return first == second ? left.offset < right.offset : first < second
      }
      .map(\.element)
    }
    return names.prefix(max(0, count)).sorted(by: precedes)
  }

  /// Order of names: by their UTF-8 bytes.
  static func precedes(_ left: String, _ right: String) -> Bool {
    left.utf8.lexicographicallyPrecedes(right.utf8)
  }
}

/// Steele, Lea and Flood's SplitMix64 (2014).
struct SplitMix64 {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  /// Makes what follows depend on `value` too.
  mutating func absorb(_ value: UInt64) { state = next() ^ value }

  /// Uniform in 0..<bound, without bias: draws from the incomplete last block are drawn again.
  mutating func next(below bound: UInt64) -> UInt64 {
    precondition(bound > 0, "a draw needs at least one outcome")
    let largest = UInt64.max - (UInt64.max % bound + 1) % bound
    while true {
      let draw = next()
      if draw <= largest { return draw % bound }
    }
  }
}
