/// Reads the regular expressions of `tokenizer.json`, in the syntax of Oniguruma: alternation, groups, `(?i:)`, classes
/// with nested classes and `&&`, categories, quantifiers, and looks at one neighbouring scalar. What is not built is
/// refused.
struct PatternParser {
  private let scalars: [Unicode.Scalar]
  private var position = 0
  private var depth = 0
  private var ignoresCase = false
  private var categories: [UInt32: ScalarSet] = [:]

  private static let mostScalars = 4096
  private static let deepest = 32
  private static let mostRepeats = 1000

  static func parse(_ pattern: String) throws(PatternError) -> PatternNode {
    var parser = PatternParser(scalars: Array(pattern.unicodeScalars))
    guard parser.scalars.count <= mostScalars else {
      throw parser.refused("a pattern of more than \(mostScalars) characters")
    }
    let node = try parser.parseChoice()
    guard parser.position == parser.scalars.count else { throw parser.malformed("a ) without (") }
    return node
  }

  private init(scalars: [Unicode.Scalar]) { self.scalars = scalars }

  private func refused(_ construct: String, at place: Int? = nil) -> PatternError {
    PatternError(construct: construct, position: place ?? position, isMalformed: false)
  }

  private func malformed(_ what: String) -> PatternError {
    PatternError(construct: what, position: position, isMalformed: true)
  }

  private var next: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

  private func continues(with text: String) -> Bool { scalars[position...].starts(with: text.unicodeScalars) }

  private mutating func take(_ text: String) -> Bool {
    guard continues(with: text) else { return false }
    position += text.unicodeScalars.count
    return true
  }

  // MARK: Structure

  private mutating func parseChoice() throws(PatternError) -> PatternNode {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.deepest else { throw refused("groups nested deeper than \(Self.deepest)") }
    var parts = [try parseSequence()]
    while take("|") { parts.append(try parseSequence()) }
    return parts.count == 1 ? parts[0] : .choice(parts)
  }

  private mutating func parseSequence() throws(PatternError) -> PatternNode {
    var parts: [PatternNode] = []
    var previous: Unicode.Scalar?
    while let scalar = next, scalar != "|", scalar != ")" {
      if ignoresCase, let previous, Self.foldsToOne(previous, scalar) {
        throw refused("\(previous)\(scalar) without regard to case, which is one character in some words")
      }
      previous = scalar
      parts.append(try parseQuantified())
    }
    return parts.count == 1 ? parts[0] : .sequence(parts)
  }

  private mutating func parseQuantified() throws(PatternError) -> PatternNode {
    let start = position
    let atom = try parseAtom()
    let (least, most, isBraced): (Int, Int?, Bool)
    if take("*") {
      (least, most, isBraced) = (0, nil, false)
    } else if take("+") {
      (least, most, isBraced) = (1, nil, false)
    } else if take("?") {
      (least, most, isBraced) = (0, 1, false)
    } else if let counts = try parseCounts() {
      (least, most, isBraced) = (counts.0, counts.1, true)
    } else {
      return atom
    }
    if case .look = atom { throw refused("a quantifier behind a look", at: start) }
    var greed = PatternNode.Greed.greedy
    if isBraced, next == "+" || next == "?" && least == most { throw refused("{}\(next == "?" ? "?" : "+")") }
    if take("?") {
      greed = .lazy
    } else if take("+") {
      greed = .possessive
      guard case .one = atom else { throw refused("a possessive group", at: start) }
    }
    if next == "*" || next == "+" || next == "?" { throw refused("a quantifier behind a quantifier") }
    // Oniguruma leaves a loop whose body took nothing, which changes what is tried next.
    if most != 1, atom.first.isOptional { throw refused("a repeated group that can be empty", at: start) }
    return .repeated(atom, least: least, most: most, greed)
  }

  /// `{n}`, `{n,}`, `{,m}` or `{n,m}`; nil, and nothing taken, where the brace is a brace.
  private mutating func parseCounts() throws(PatternError) -> (Int, Int?)? {
    guard next == "{" else { return nil }
    var end = position + 1
    while end < scalars.count, scalars[end] != "}" { end += 1 }
    guard end < scalars.count else { return nil }
    let parts = scalars[position + 1..<end].split(separator: ",", omittingEmptySubsequences: false)
    let digits = parts.map { String(String.UnicodeScalarView($0)) }
    guard (1...2).contains(parts.count), digits.contains(where: { !$0.isEmpty }),
      digits.allSatisfy({ $0.utf8.allSatisfy { (0x30...0x39).contains($0) } })
    else { return nil }
    let counts = digits.map { Int($0) ?? (($0.isEmpty) ? -1 : .max) }
    guard counts.allSatisfy({ $0 <= Self.mostRepeats }) else {
      throw refused("more than \(Self.mostRepeats) repetitions")
    }
    position = end + 1
    let least = max(counts[0], 0)
    let most = counts.count == 1 ? counts[0] : counts[1] < 0 ? nil : counts[1]
    if let most, most < least { throw malformed("a quantifier whose limits are the wrong way round") }
    return (least, most)
  }

  private mutating func parseAtom() throws(PatternError) -> PatternNode {
    guard let scalar = next else { throw malformed("an end where something was to follow") }
    switch scalar {
    case "(": return try parseGroup()
    case "[": return .one(try parseClass())
    case ".":
      position += 1
      return .one(ScalarSet(0x0A).inverted)
    case "*", "+", "?": throw malformed("a quantifier with nothing to repeat")
    case "^", "$": throw refused(String(scalar))
    case "\\": return .one(try parseEscape(inClass: false))
    default:
      position += 1
      return .one(try literal(scalar, at: position - 1))
    }
  }

  private mutating func parseGroup() throws(PatternError) -> PatternNode {
    let start = position
    let outer = ignoresCase
    defer { ignoresCase = outer }
    position += 1
    for (opening, behind, negated) in [
      ("?=", false, false), ("?!", false, true), ("?<=", true, false), ("?<!", true, true),
    ] where take(opening) {
      let body = try parseChoice()
      guard take(")") else { throw malformed("a ( without )") }
      guard case .one(let set) = body else { throw refused("(\(opening) with more than one character", at: start) }
      return .look(set, behind: behind, negated: negated)
    }
    if take("?i)") || take("?-i)") {
      // The option holds for the rest of the group around it, alternatives included.
      ignoresCase = scalars[position - 3] == "?"
      return try parseChoice()
    }
    if take("?i:") {
      ignoresCase = true
    } else if take("?-i:") {
      ignoresCase = false
    } else if !take("?:"), next == "?" {
      let shown = scalars[start..<min(start + 4, scalars.count)]
      throw refused(String(String.UnicodeScalarView(shown)), at: start)
    }
    let body = try parseChoice()
    guard take(")") else { throw malformed("a ( without )") }
    return body
  }

  // MARK: Classes

  private mutating func parseClass() throws(PatternError) -> ScalarSet {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.deepest else { throw refused("classes nested deeper than \(Self.deepest)") }
    if continues(with: "[:") { throw refused("[:") }
    position += 1
    let isNegated = take("^")
    if next == "]" { throw refused("a class that starts with ]") }
    var whole: ScalarSet?
    var ranges: [ClosedRange<UInt32>] = []
    var sets: [ScalarSet] = []
    func union() -> ScalarSet { ScalarSet.union(sets + [ScalarSet(ranges: ranges)]) }
    while true {
      guard let scalar = next else { throw malformed("a [ without ]") }
      if scalar == "]" {
        position += 1
        break
      }
      // Oniguruma folds the whole class at its end, which differs where a class within is negated.
      if ignoresCase, scalar == "[" || continues(with: "&&") {
        throw refused("a class in a class without regard to case")
      }
      if take("&&") {
        let part = union()
        whole = whole?.intersection(part) ?? part
        (ranges, sets) = ([], [])
        continue
      }
      if scalar == "[" {
        sets.append(try parseClass())
        continue
      }
      let start = position
      guard let low = try classScalar(into: &sets) else { continue }
      guard next == "-", position + 1 < scalars.count, scalars[position + 1] != "]" else {
        sets.append(try literal(low, at: start))
        continue
      }
      position += 1
      if next == "[" { throw refused("a range up to a class") }
      let setsBefore = sets.count
      guard let high = try classScalar(into: &sets), sets.count == setsBefore else {
        throw refused("a range up to a class")
      }
      guard low.value <= high.value else { throw malformed("a range whose ends are the wrong way round") }
      ranges.append(low.value...high.value)
      if ignoresCase { sets.append(try folded(low.value...high.value, at: start)) }
    }
    let part = union()
    let set = whole?.intersection(part) ?? part
    return isNegated ? set.inverted : set
  }

  /// The next scalar of a class; nil where it was an escape for many, which is added to `sets`.
  private mutating func classScalar(into sets: inout [ScalarSet]) throws(PatternError) -> Unicode.Scalar? {
    guard let scalar = next else { throw malformed("a [ without ]") }
    if scalar == "\\" {
      let outer = ignoresCase
      // Folding is the caller's, who knows whether the scalar starts a range.
      ignoresCase = false
      defer { ignoresCase = outer }
      let start = position
      let set = try parseEscape(inClass: true)
      if set.bounds.count == 2, set.bounds[0] == set.bounds[1] { return Unicode.Scalar(set.bounds[0]) }
      if outer, scalars[start + 1] == "p" || scalars[start + 1] == "P" {
        throw refused("a category in a class without regard to case", at: start)
      }
      sets.append(set)
      return nil
    }
    position += 1
    return scalar
  }

  private mutating func parseEscape(inClass: Bool) throws(PatternError) -> ScalarSet {
    let start = position
    position += 1
    guard let scalar = next else { throw malformed("a \\ at the end") }
    position += 1
    switch scalar {
    case "s": return .whitespace
    case "S": return ScalarSet.whitespace.inverted
    case "d": return .digits
    case "D": return ScalarSet.digits.inverted
    case "w": return inClass ? .words : .wordsOutsideClass
    case "W": return (inClass ? ScalarSet.words : .wordsOutsideClass).inverted
    case "h": return Self.hexadecimal
    case "H": return Self.hexadecimal.inverted
    case "p", "P": return try parseCategory(isNegated: scalar == "P", at: start)
    case "t": return ScalarSet(0x09)
    case "n": return ScalarSet(0x0A)
    case "v": return ScalarSet(0x0B)
    case "f": return ScalarSet(0x0C)
    case "r": return ScalarSet(0x0D)
    case "a": return ScalarSet(0x07)
    case "e": return ScalarSet(0x1B)
    case "x": return try literal(parseHexadecimal(digits: take("{") ? nil : 2, at: start), at: start)
    case "u": return try literal(parseHexadecimal(digits: 4, at: start), at: start)
    default:
      let isLetterOrDigit = scalar.isASCII && (scalar.properties.isAlphabetic || scalar.properties.numericType != nil)
      if isLetterOrDigit { throw refused("\\\(scalar)", at: start) }
      return try literal(scalar, at: start)
    }
  }

  private static let hexadecimal = ScalarSet(ranges: [0x30...0x39, 0x41...0x46, 0x61...0x66])

  private mutating func parseHexadecimal(digits: Int?, at start: Int) throws(PatternError) -> Unicode.Scalar {
    var value: UInt32 = 0
    var count = 0
    while let scalar = next, scalar.isASCII, let digit = Character(scalar).hexDigitValue, count < digits ?? 6 {
      value = value << 4 | UInt32(digit)
      count += 1
      position += 1
    }
    let isWhole = digits == nil ? count > 0 && take("}") : count == digits
    guard isWhole, let scalar = Unicode.Scalar(value) else { throw malformed("an escape that names no character") }
    // Two digits name a byte, which is a character of its own only below 128.
    if digits == 2, value > 0x7F { throw refused("\\x above 7f", at: start) }
    return scalar
  }

  private mutating func parseCategory(isNegated: Bool, at start: Int) throws(PatternError) -> ScalarSet {
    guard take("{") else { throw refused("\\p without {", at: start) }
    let isInverted = take("^") != isNegated
    var name = ""
    while let scalar = next, scalar != "}" {
      name.unicodeScalars.append(scalar)
      position += 1
    }
    guard take("}") else { throw malformed("a { without }") }
    let mask = name.utf8.count <= 2 ? ScalarSet.mask(named: name) : 0
    guard mask != 0 else { throw refused("\\p{\(name)}", at: start) }
    let set = categories[mask] ?? ScalarSet(categories: mask)
    categories[mask] = set
    return isInverted ? set.inverted : set
  }

  // MARK: Case

  private func literal(_ scalar: Unicode.Scalar, at place: Int) throws(PatternError) -> ScalarSet {
    let set = ScalarSet(scalar.value)
    return ignoresCase ? set.union(try folded(scalar.value...scalar.value, at: place)) : set
  }

  /// The other cases of the ASCII letters in a range: beside upper and lower case the long s and the Kelvin sign.
  private func folded(_ range: ClosedRange<UInt32>, at place: Int) throws(PatternError) -> ScalarSet {
    if range.upperBound > 0x7F {
      let first = Unicode.Scalar(range.lowerBound)
      let isCased = range.count > 1 || first.map { $0.properties.isCased || $0.properties.isDiacritic } ?? true
      if isCased { throw refused("characters beyond ASCII without regard to case", at: place) }
    }
    var set: [ClosedRange<UInt32>] = []
    for code in range where code < 0x80 {
      let lower = code | 0x20
      guard (0x61...0x7A).contains(lower) else { continue }
      set.append(code ^ 0x20...code ^ 0x20)
      if lower == 0x73 { set.append(0x17F...0x17F) }
      if lower == 0x6B { set.append(0x212A...0x212A) }
    }
    return ScalarSet(ranges: set)
  }

  /// Whether two letters are, case aside, one scalar of Unicode as well (ß, ﬁ and the like).
  private static func foldsToOne(_ first: Unicode.Scalar, _ second: Unicode.Scalar) -> Bool {
    guard first.isASCII, second.isASCII else { return false }
    return ["ss", "st", "ff", "fi", "fl"].contains("\(first)\(second)".lowercased())
  }
}
