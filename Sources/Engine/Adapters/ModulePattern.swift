/// A regular expression for whole module paths, as PEFT's `target_modules` may be one.
///
/// It is matched by following all ways at once (Thompson 1968, "Regular Expression Search Algorithm"), so the time is the
/// product of the lengths of path and pattern: a pattern comes with an adapter from elsewhere, and one such as `(.|.)*x`
/// would keep a matcher that tries one way after the other busy for years.
///
/// What is understood is what Python's `re` and module paths have in common: characters, `.`, `\` before a character that
/// means itself, `\d \w \s` and their opposites, sets `[a-z]` and `[^…]`, groups `(…)` and `(?:…)`, `|`, `* + ? {m} {m,} {m,n}`
/// (also with `?` behind: which match is preferred makes no difference to whether there is one), and `^` and `$` at the ends.
struct ModulePattern {
  /// One step of the machine.
  private enum Step {
    case take(Set)
    /// Goes on at both places.
    case split(Int, Int)
    case jump(Int)
    case end
  }

  /// A set of characters.
  private struct Set {
    var ranges: [ClosedRange<Unicode.Scalar>]
    var isOpposite = false

    func contains(_ scalar: Unicode.Scalar) -> Bool { ranges.contains { $0.contains(scalar) } != isOpposite }
  }

  /// What a pattern says, before its repetitions are written out.
  private indirect enum Tree {
    case set(Set)
    case sequence([Tree])
    case choice([Tree])
    case repeated(Tree, least: Int, most: Int?)
  }

  /// Most steps of a machine, and most parts that are visited to make it: repetitions of repetitions multiply.
  private static let mostSteps = 10_000
  private static let mostVisits = 50_000
  private static let deepest = 64

  private var steps: [Step] = []
  private var visits = 0

  /// Reads a pattern; nil where it is none, uses something that is not understood, or is too large.
  init?(_ text: String) {
    var reader = Reader(rest: Array(text.unicodeScalars)[...])
    if reader.rest.first == "^" { reader.rest.removeFirst() }
    guard let tree = reader.choice(), reader.rest.isEmpty || Array(reader.rest) == ["$"] else { return nil }
    guard compile(tree) else { return nil }
    steps.append(.end)
  }

  /// Whether the whole of `path` matches.
  func matches(_ path: String) -> Bool {
    var places = closure([0])
    for scalar in path.unicodeScalars {
      places = closure(
        places.compactMap { place in
          if case .take(let set) = steps[place], set.contains(scalar) { place + 1 } else { nil }
        }
      )
      if places.isEmpty { return false }
    }
    return places.contains(steps.count - 1)
  }

  /// The places that are reached without taking a character.
  private func closure(_ starts: [Int]) -> [Int] {
    var seen = [Bool](repeating: false, count: steps.count)
    var open = starts
    var result: [Int] = []
    while let place = open.popLast() {
      if seen[place] { continue }
      seen[place] = true
      switch steps[place] {
      case .take, .end: result.append(place)
      case .jump(let target): open.append(target)
      case .split(let one, let other): open += [one, other]
      }
    }
    return result
  }

  // MARK: Steps

  private mutating func compile(_ tree: Tree) -> Bool {
    visits += 1
    guard steps.count < Self.mostSteps, visits < Self.mostVisits else { return false }
    switch tree {
    case .set(let set): steps.append(.take(set))
    case .sequence(let parts):
      for part in parts where !compile(part) { return false }
    case .choice(let parts):
      var ends: [Int] = []
      for part in parts.dropLast() {
        let split = append(.jump(0))
        guard compile(part) else { return false }
        ends.append(append(.jump(0)))
        steps[split] = .split(split + 1, steps.count)
      }
      if let last = parts.last, !compile(last) { return false }
      for end in ends { steps[end] = .jump(steps.count) }
    case .repeated(let part, let least, let most):
      for _ in 0..<least where !compile(part) { return false }
      guard let most else {
        let split = append(.jump(0))
        guard compile(part) else { return false }
        steps.append(.jump(split))
        steps[split] = .split(split + 1, steps.count)
        return true
      }
      var splits: [Int] = []
      for _ in least..<max(least, most) {
        splits.append(append(.jump(0)))
        guard compile(part) else { return false }
      }
      for split in splits { steps[split] = .split(split + 1, steps.count) }
    }
    return steps.count < Self.mostSteps
  }

  private mutating func append(_ step: Step) -> Int {
    steps.append(step)
    return steps.count - 1
  }

  // MARK: Reading

  private struct Reader {
    var rest: ArraySlice<Unicode.Scalar>
    var depth = 0

    mutating func take(_ scalar: Unicode.Scalar) -> Bool {
      guard rest.first == scalar else { return false }
      rest.removeFirst()
      return true
    }

    mutating func choice() -> Tree? {
      depth += 1
      defer { depth -= 1 }
      guard depth <= ModulePattern.deepest, let first = sequence() else { return nil }
      var parts = [first]
      while take("|") {
        guard let part = sequence() else { return nil }
        parts.append(part)
      }
      return parts.count == 1 ? first : .choice(parts)
    }

    private mutating func sequence() -> Tree? {
      var parts: [Tree] = []
      while let next = rest.first, next != "|", next != ")", !(next == "$" && rest.count == 1) {
        guard let part = atom(), let repeated = repetition(of: part) else { return nil }
        parts.append(repeated)
      }
      return .sequence(parts)
    }

    private mutating func atom() -> Tree? {
      let scalar = rest.removeFirst()
      switch scalar {
      case "(":
        if take("?"), !take(":") { return nil }
        guard let inner = choice(), take(")") else { return nil }
        return inner
      case "[": return set().map { .set($0) }
      case ".": return .set(Set(ranges: ["\n"..."\n"], isOpposite: true))
      case "\\": return escape().map { .set($0) }
      case "*", "+", "?", "{", "^", "$": return nil
      default: return .set(Set(ranges: [scalar...scalar]))
      }
    }

    private mutating func repetition(of part: Tree) -> Tree? {
      let bounds: (Int, Int?)
      if take("*") {
        bounds = (0, nil)
      } else if take("+") {
        bounds = (1, nil)
      } else if take("?") {
        bounds = (0, 1)
      } else if take("{") {
        guard let least = number() else { return nil }
        let most = take(",") ? number() : least
        guard take("}"), most ?? least >= least else { return nil }
        bounds = (least, most)
      } else {
        return part
      }
      _ = take("?")
      // Two repetitions in a row are an error in Python too.
      if let next = rest.first, ["*", "+", "?", "{"].contains(next) { return nil }
      return .repeated(part, least: bounds.0, most: bounds.1)
    }

    private mutating func number() -> Int? {
      let digits = rest.prefix { ("0"..."9").contains($0) }
      rest = rest.dropFirst(digits.count)
      guard let value = Int(String(String.UnicodeScalarView(digits))), value <= 1000 else { return nil }
      return value
    }

    private mutating func escape() -> Set? {
      guard let scalar = rest.popFirst() else { return nil }
      switch scalar {
      case "d", "D": return Set(ranges: ["0"..."9"], isOpposite: scalar == "D")
      case "w", "W": return Set(ranges: ["0"..."9", "A"..."Z", "_"..."_", "a"..."z"], isOpposite: scalar == "W")
      case "s", "S": return Set(ranges: ["\t"..."\r", " "..." "], isOpposite: scalar == "S")
      case "0"..."9", "A"..."Z", "a"..."z": return nil
      default: return Set(ranges: [scalar...scalar])
      }
    }

    /// A set, behind its opening bracket.
    private mutating func set() -> Set? {
      var result = Set(ranges: [], isOpposite: take("^"))
      var isFirst = true
      while let next = rest.popFirst() {
        if next == "]", !isFirst { return result }
        isFirst = false
        var low = next
        if next == "\\" {
          guard let escaped = escape(), !escaped.isOpposite else { return nil }
          guard escaped.ranges.count == 1, let only = escaped.ranges.first, only.lowerBound == only.upperBound else {
            result.ranges += escaped.ranges
            continue
          }
          low = only.lowerBound
        }
        guard rest.first == "-", rest.dropFirst().first != "]", rest.count > 2 else {
          result.ranges.append(low...low)
          continue
        }
        rest.removeFirst()
        guard let high = rest.popFirst(), high != "\\", low <= high else { return nil }
        result.ranges.append(low...high)
      }
      return nil
    }
  }
}
