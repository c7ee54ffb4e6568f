/// Which of the two sequences is cut when they are too long together. Cutting is always at the end.
public enum TruncationStrategy: String, Codable, CaseIterable, Sendable {
  /// The longer one first.
  case longestFirst = "longest_first"
  /// Only the text.
  case onlyFirst = "only_first"
  /// Only the second text of the pair.
  case onlySecond = "only_second"

  /// How many tokens of each sequence are kept so that together they have at most `room`.
  /// - Throws: `TokenizerError.cannotTruncate` where the one to cut is not long enough, or missing.
  func kept(first: Int, second: Int?, room: Int, maximumLength: Int) throws(TokenizerError) -> (
    first: Int, second: Int?
  ) {
    let total = first + (second ?? 0)
    if room == 0 { return (0, second.map { _ in 0 }) }
    if total <= room { return (first, second) }
    let excess = total - room
    switch self {
    case .longestFirst:
      guard let second else { return (room, nil) }
      let (shorter, _) = first <= second ? (first, second) : (second, first)
      var (keptShorter, keptLonger) = (shorter, shorter > room ? shorter : max(shorter, room - shorter))
      if keptShorter + keptLonger > room { (keptShorter, keptLonger) = (room / 2, room / 2 + room % 2) }
      return first <= second ? (keptShorter, keptLonger) : (keptLonger, keptShorter)
    case .onlyFirst:
      guard first > excess else { break }
      return (first - excess, second)
    case .onlySecond:
      guard let second, second > excess else { break }
      return (first, second - excess)
    }
    throw .cannotTruncate(strategy: self, maximumLength: maximumLength)
  }
}
