/// A regular expression, compiled into steps that a backtracking matcher takes: alternatives are tried in their order,
/// and quantifiers take as much as they can, as in Oniguruma.
struct Pattern: Sendable {
  enum Step: Sendable {
    /// A scalar of a set.
    case one(set: Int32)
    /// As many scalars of a set as there are, then fewer.
    case run(set: Int32, slot: Int32)
    /// As many scalars of a set as there are, up to a number; never fewer.
    case possessive(set: Int32, most: Int32)
    /// One branch after the other.
    case choice(table: Int32, slot: Int32)
    case jump(to: Int32)
    case look(set: Int32, behind: Bool, negated: Bool)
    case accept
  }

  /// Where each branch of a choice goes on, and which branches can begin with what: a bit for each branch, by ASCII
  /// scalar, then for any other scalar, then for the end of the text.
  struct Choice: Sendable {
    var branches: [Int32]
    var viable: [UInt64]
  }

  private(set) var steps: [Step] = []
  private(set) var choices: [Choice] = []
  /// How many steps may be known to fail at a place.
  private(set) var slots = 0
  /// The sets, one after the other, and where each starts; for ASCII two words of bits for each.
  private(set) var bounds: [UInt32] = []
  private(set) var setStarts: [Int32] = [0]
  private(set) var asciiBits: [UInt64] = []
  /// With what a match can begin.
  private(set) var start: Choice

  private var known: [ScalarSet] = []
  private static let mostSteps = 2048
  private static let mostBranches = 60

  /// - Throws: `PatternError` for what is no pattern or not built.
  init(_ text: String) throws(PatternError) {
    let node = try PatternParser.parse(text)
    start = Self.choice([(0, node.first)])
    try emit(node)
    steps.append(.accept)
    known = []
  }

  /// Whether it can match without taking a scalar.
  var matchesEmpty: Bool { start.viable[129] != 0 }

  // MARK: Compilation

  private mutating func emit(_ node: PatternNode) throws(PatternError) {
    guard steps.count < Self.mostSteps else {
      throw PatternError(construct: "more than \(Self.mostSteps) steps", position: 0, isMalformed: false)
    }
    switch node {
    case .one(let set): steps.append(.one(set: index(of: set)))
    case .sequence(let parts): for part in parts { try emit(part) }
    case .look(let set, let behind, let negated):
      steps.append(.look(set: index(of: set), behind: behind, negated: negated))
    case .choice(let parts): try emitChoice(parts[...])
    case .repeated(let body, let least, let most, let greed): try emitRepeated(body, least, most, greed)
    }
  }

  private mutating func emitChoice(_ parts: ArraySlice<PatternNode>) throws(PatternError) {
    let own = parts.count <= Self.mostBranches ? parts : parts.prefix(Self.mostBranches)
    let rest = parts.dropFirst(own.count)
    var branches: [Branch] = []
    let place = reserve()
    var jumps: [Int] = []
    for part in own {
      branches.append((Int32(steps.count), part.first))
      try emit(part)
      jumps.append(reserve())
    }
    if !rest.isEmpty {
      branches.append((Int32(steps.count), (ScalarSet(), true)))
      try emitChoice(rest)
    }
    for jump in jumps { steps[jump] = .jump(to: Int32(steps.count)) }
    fill(place, Self.choice(branches))
  }

  private mutating func emitRepeated(_ body: PatternNode, _ least: Int, _ most: Int?, _ greed: PatternNode.Greed)
    throws(PatternError)
  {
    for _ in 0..<least { try emit(body) }
    if case .one(let set) = body {
      switch (greed, most) {
      case (.greedy, nil):
        steps.append(.run(set: index(of: set), slot: Int32(slots)))
        slots += 1
        return
      case (.possessive, _):
        steps.append(.possessive(set: index(of: set), most: most.map { Int32($0 - least) } ?? .max))
        return
      default: break
      }
    }
    let loop = Self.loop(body.first, greed)
    guard let most else {
      let place = reserve()
      let inside = Int32(steps.count)
      try emit(body)
      steps.append(.jump(to: Int32(place)))
      fill(place, loop, again: inside, leave: Int32(steps.count), greed)
      return
    }
    var places: [(place: Int, inside: Int32)] = []
    for _ in least..<most {
      places.append((reserve(), Int32(steps.count)))
      try emit(body)
    }
    for (place, inside) in places { fill(place, loop, again: inside, leave: Int32(steps.count), greed) }
  }

  private mutating func reserve() -> Int {
    steps.append(.accept)
    return steps.count - 1
  }

  private mutating func fill(_ place: Int, _ choice: Choice) {
    steps[place] = .choice(table: Int32(choices.count), slot: Int32(slots))
    choices.append(choice)
    slots += 1
  }

  /// A branch of a choice: where it goes on, with what it can begin, and whether it may take nothing.
  private typealias Branch = (step: Int32, first: (set: ScalarSet, isOptional: Bool))

  /// The choice between going through a body and leaving; nothing is known about what follows.
  private static func loop(_ body: (set: ScalarSet, isOptional: Bool), _ greed: PatternNode.Greed) -> Choice {
    let again: Branch = (0, body)
    let out: Branch = (0, (ScalarSet(), true))
    return choice(greed == .lazy ? [out, again] : [again, out])
  }

  private mutating func fill(_ place: Int, _ loop: Choice, again: Int32, leave: Int32, _ greed: PatternNode.Greed) {
    var choice = loop
    choice.branches = greed == .lazy ? [leave, again] : [again, leave]
    fill(place, choice)
  }

  private static func choice(_ branches: [Branch]) -> Choice {
    var viable = [UInt64](repeating: 0, count: 130)
    for (index, branch) in branches.enumerated() {
      let bit: UInt64 = 1 << UInt64(index)
      let (set, isOptional) = branch.first
      for scalar in 0..<128 where isOptional || set.contains(UInt32(scalar)) { viable[scalar] |= bit }
      if isOptional || set.bounds.last ?? 0 >= 128 { viable[128] |= bit }
      if isOptional { viable[129] |= bit }
    }
    return Choice(branches: branches.map(\.step), viable: viable)
  }

  private mutating func index(of set: ScalarSet) -> Int32 {
    if let index = known.firstIndex(of: set) { return Int32(index) }
    known.append(set)
    bounds += set.bounds
    setStarts.append(Int32(bounds.count))
    for word: UInt32 in 0..<2 {
      asciiBits.append((0..<64).reduce(0) { set.contains(word * 64 + $1) ? $0 | 1 << UInt64($1) : $0 })
    }
    return Int32(known.count - 1)
  }
}
