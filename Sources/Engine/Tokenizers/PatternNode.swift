/// A regular expression as a tree.
indirect enum PatternNode {
  /// One scalar of a set.
  case one(ScalarSet)
  case sequence([PatternNode])
  /// The first that leads to a match.
  case choice([PatternNode])
  case repeated(PatternNode, least: Int, most: Int?, Greed)
  /// Whether the next scalar (or the one before) is in the set; takes nothing.
  case look(ScalarSet, behind: Bool, negated: Bool)

  enum Greed { case greedy, lazy, possessive }

  /// Whether it can match without taking a scalar, and with which scalars it can begin.
  var first: (set: ScalarSet, isOptional: Bool) {
    switch self {
    case .one(let set): return (set, false)
    case .look: return (ScalarSet(), true)
    case .repeated(let body, let least, let most, _):
      if most == 0 { return (ScalarSet(), true) }
      let first = body.first
      return (first.set, first.isOptional || least == 0)
    case .choice(let parts):
      let firsts = parts.map(\.first)
      return (ScalarSet.union(firsts.map(\.set)), firsts.contains(where: \.isOptional))
    case .sequence(let parts):
      var sets: [ScalarSet] = []
      for part in parts {
        let first = part.first
        sets.append(first.set)
        if !first.isOptional { return (ScalarSet.union(sets), false) }
      }
      return (ScalarSet.union(sets), true)
    }
  }
}

/// A pattern that cannot be used: what stands where.
struct PatternError: Error, Equatable {
  /// What is wrong, or the construct that is not built.
  let construct: String
  /// Number of scalars before it.
  let position: Int
  /// Whether the pattern is no regular expression at all, rather than one with a part that is not built.
  let isMalformed: Bool
}
