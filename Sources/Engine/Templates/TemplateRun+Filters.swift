/// Filters and tests.
extension TemplateRun {
  func apply(
    filter name: String,
    to value: TemplateValue,
    _ given: TemplateGiven,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    try spend(at: place)
    func check(_ names: String...) throws(TemplateError) {
      try given.check(names, of: "the filter '\(name)'", at: place)
    }
    /// The value as text, paid for.
    func words() throws(TemplateError) -> String {
      let text = try value.text(at: place)
      try reserve(4 * text.utf8.count, at: place)
      return text
    }
    switch name {
    case "trim":
      try check("chars")
      var characters: String?
      if let given = given.value(0, "chars") { characters = try text(given, "trim", at: place) }
      return .string(TemplateStrings.stripped(try words(), characters))
    case "length", "count":
      try check()
      return .integer(try length(of: value, at: place))
    case "upper": return .string(try words().uppercased())
    case "lower": return .string(try words().lowercased())
    case "capitalize": return .string(TemplateStrings.capitalised(try words()))
    case "title": return .string(TemplateStrings.headline(try words()))
    case "string", "safe": return .string(try words())
    case "default", "d":
      try check("default_value", "boolean")
      let replaces = value.isUndefined || (given.value(1, "boolean")?.isTrue == true && !value.isTrue)
      return replaces ? given.value(0, "default_value") ?? .string("") : value
    case "tojson": return try json(value, given, at: place)
    case "join":
      try check("d", "attribute")
      var items = try elements(of: value, at: place)
      if let attribute = given.value(1, "attribute") { items = try attributes(attribute, of: items, at: place) }
      let separator = try given.value(0, "d")?.text(at: place) ?? ""
      return try join(items, by: separator, isStrict: false, at: place)
    case "first", "last":
      try check()
      let items = try elements(of: value, at: place)
      return (name == "first" ? items.first : items.last) ?? .undefined("\(name) of nothing")
    case "list":
      try check()
      return try list(try elements(of: value, at: place), at: place)
    case "reverse":
      if case .string(let text) = value {
        return try string(String(String.UnicodeScalarView(text.unicodeScalars.reversed())), at: place)
      }
      return try list(try elements(of: value, at: place).reversed(), at: place)
    case "items":
      if value.isUndefined { return try list([], at: place) }
      guard case .map(let map) = value else { throw TemplateError(.type, "\(value.kind) has no pairs", at: place) }
      return try items(of: map, at: place)
    case "replace":
      try check("old", "new", "count")
      let old = try given.value(0, "old")?.text(at: place) ?? ""
      let new = try given.value(1, "new")?.text(at: place) ?? ""
      var limit: Int?
      if let count = given.value(2, "count") { limit = try integer(count, "replace", at: place) }
      return try replace(try words(), old, new, limit: limit, at: place)
    case "int", "float": return try number(value, given, isInteger: name == "int", at: place)
    case "abs":
      if let integer = value.integer, integer != .min { return .integer(abs(integer)) }
      guard case .double(let number) = value else {
        throw TemplateError(.type, "\(value.kind) has no magnitude", at: place)
      }
      return .double(abs(number))
    case "indent": return try indent(try words(), given, at: place)
    case "map": return try map(value, given, at: place)
    case "select", "reject", "selectattr", "rejectattr": return try select(name, value, given, at: place)
    default:
      throw TemplateError(
        .unsupported,
        "the filter '\(name)' is not built; \(Self.filters.joined(separator: ", ")) are",
        at: place
      )
    }
  }

  private static let filters = [
    "abs", "capitalize", "count", "d", "default", "first", "float", "indent", "int", "items", "join", "last", "length",
    "list",
    "lower", "map", "reject", "rejectattr", "replace", "reverse", "safe", "select", "selectattr", "string", "title",
    "tojson",
    "trim", "upper",
  ]

  private func length(of value: TemplateValue, at place: TemplatePlace) throws(TemplateError) -> Int {
    switch value {
    case .undefined: return 0
    case .string(let text):
      try spend(text.utf8.count / 16, at: place)
      return text.unicodeScalars.count
    case .list(let list): return list.items.count
    case .map(let map): return map.pairs.count
    default: throw TemplateError(.type, "\(value.kind) has no length", at: place)
    }
  }

  private func json(_ value: TemplateValue, _ given: TemplateGiven, at place: TemplatePlace) throws(TemplateError)
    -> TemplateValue
  {
    // In the order of transformers' own filter.
    try given.check(["ensure_ascii", "indent", "separators", "sort_keys"], of: "the filter 'tojson'", at: place)
    var layout = TemplateValue.JSONLayout()
    layout.isASCII = given.value(0, "ensure_ascii")?.isTrue ?? false
    switch given.value(1, "indent") {
    case nil, .some(.null): break
    case .string(let text): layout.indent = text
    case .some(let width):
      let spaces = max(0, try integer(width, "tojson", at: place))
      guard spaces <= 64 else { throw TemplateError(.limit, "tojson is to indent by \(spaces)", at: place) }
      layout.indent = String(repeating: " ", count: spaces)
    }
    if layout.indent != nil { layout.itemSeparator = "," }
    if case .list(let separators) = given.value(2, "separators"), separators.items.count == 2 {
      layout.itemSeparator = try text(separators.items[0], "tojson", at: place)
      layout.keySeparator = try text(separators.items[1], "tojson", at: place)
    }
    layout.sortsKeys = given.value(3, "sort_keys")?.isTrue ?? false
    // A level deeper is an indent more: bounded before it is made.
    let extra =
      (layout.indent?.utf8.count ?? 0) * value.depth + layout.itemSeparator.utf8.count + layout.keySeparator.utf8.count
    try reserve(weight(of: value, extra + 16), at: place)
    return try string(try value.json(layout, at: place), at: place)
  }

  /// Bytes that a value's JSON takes at the most, `each` for every value in it.
  private func weight(of value: TemplateValue, _ each: Int) -> Int {
    switch value {
    case .string(let text): each + 6 * text.utf8.count
    case .list(let list): list.items.reduce(each) { $0 + weight(of: $1, each) }
    case .map(let map): map.pairs.reduce(each) { $0 + each + 6 * $1.key.utf8.count + weight(of: $1.value, each) }
    default: each + 16
    }
  }

  private func number(
    _ value: TemplateValue,
    _ given: TemplateGiven,
    isInteger: Bool,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    try given.check(["default"], of: "the filter '\(isInteger ? "int" : "float")'", at: place)
    let fallback = given.value(0, "default") ?? (isInteger ? .integer(0) : .double(0))
    if value.isUndefined { throw undefined(value, at: place) }
    var number = value.number
    if case .string(let text) = value {
      let plain = TemplateStrings.stripped(text, nil)
      if isInteger, let integer = Int(plain) { return .integer(integer) }
      number = Double(plain)
    }
    if isInteger, let integer = value.integer { return .integer(integer) }
    guard let number, number.isFinite else { return fallback }
    if !isInteger { return .double(number) }
    return Int(exactly: number.rounded(.towardZero)).map { .integer($0) } ?? fallback
  }

  private func indent(_ text: String, _ given: TemplateGiven, at place: TemplatePlace) throws(TemplateError)
    -> TemplateValue
  {
    try given.check(["width", "first", "blank"], of: "the filter 'indent'", at: place)
    var blanks = "    "
    switch given.value(0, "width") {
    case nil: break
    case .string(let given): blanks = given
    case .some(let width): blanks = try blank(repeating: " ", try integer(width, "indent", at: place), at: place)
    }
    let (first, blank) = (given.value(1, "first")?.isTrue ?? false, given.value(2, "blank")?.isTrue ?? false)
    let lines = TemplateStrings.lines(text + "\n")
    let size = lines.count.multipliedReportingOverflow(by: blanks.utf8.count + 1)
    try reserve(size.overflow ? .max : size.partialValue, at: place)
    var result = ""
    for (index, line) in lines.enumerated() {
      let isIndented = index == 0 ? first : blank || !line.unicodeScalars.isEmpty
      if index > 0 { result.unicodeScalars.append("\n") }
      if isIndented { result.unicodeScalars.append(contentsOf: blanks.unicodeScalars) }
      result.unicodeScalars.append(contentsOf: line.unicodeScalars)
    }
    return .string(result)
  }

  private func blank(repeating text: String, _ count: Int, at place: TemplatePlace) throws(TemplateError) -> String {
    try reserve(max(0, count), at: place)
    return String(repeating: text, count: max(0, count))
  }

  // MARK: Over elements

  /// `a.b` of an element, steps by dots, numbers as indices.
  private func attributes(
    _ attribute: TemplateValue,
    of items: [TemplateValue],
    at place: TemplatePlace
  ) throws(TemplateError) -> [TemplateValue] {
    let path: [TemplateValue]
    switch attribute {
    case .integer: path = [attribute]
    case .string(let text):
      path = TemplateStrings.split(text, ".", limit: nil).map { part in Int(part).map { .integer($0) } ?? .string(part)
      }
    default: throw TemplateError(.type, "an attribute is \(attribute.kind), expected a name", at: place)
    }
    var result: [TemplateValue] = []
    for item in items {
      var value = item
      for step in path {
        try spend(at: place)
        value = try self.item(step, of: value, at: place)
      }
      result.append(value)
    }
    return result
  }

  private func map(_ value: TemplateValue, _ given: TemplateGiven, at place: TemplatePlace) throws(TemplateError)
    -> TemplateValue
  {
    let items = try elements(of: value, at: place)
    if given.positional.isEmpty, let attribute = given.value(0, "attribute") {
      try given.check(["attribute", "default"], of: "the filter 'map'", at: place)
      let fallback = given.value(1, "default")
      let found = try attributes(attribute, of: items, at: place)
      return try list(found.map { $0.isUndefined ? fallback ?? $0 : $0 }, at: place)
    }
    let name = try text(given.positional.first, "map", at: place)
    let rest = TemplateGiven(positional: Array(given.positional.dropFirst()), named: given.named)
    guard name != "map" else { throw TemplateError(.unsupported, "'map' of 'map' is not built", at: place) }
    var result: [TemplateValue] = []
    for item in items { result.append(try apply(filter: name, to: item, rest, at: place)) }
    return try list(result, at: place)
  }

  private func select(
    _ filter: String,
    _ value: TemplateValue,
    _ given: TemplateGiven,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    let items = try elements(of: value, at: place)
    var (tested, rest) = (items, given.positional)
    if filter.hasSuffix("attr") {
      guard let attribute = rest.first else { throw TemplateError(.type, "'\(filter)' needs an attribute", at: place) }
      tested = try attributes(attribute, of: items, at: place)
      rest.removeFirst()
    }
    let test: String? = try rest.first.map { (name) throws(TemplateError) in try text(name, filter, at: place) }
    let arguments = TemplateGiven(positional: Array(rest.dropFirst()))
    var result: [TemplateValue] = []
    for (item, value) in zip(items, tested) {
      try spend(at: place)
      let isKept =
        try test.map { (name) throws(TemplateError) in try holds(name, of: value, arguments, at: place) }
        ?? value.isTrue
      if isKept == filter.hasPrefix("select") { result.append(item) }
    }
    return try list(result, at: place)
  }

  // MARK: Tests

  func holds(_ test: String, of value: TemplateValue, _ given: TemplateGiven, at place: TemplatePlace)
    throws(TemplateError) -> Bool
  {
    func argument() throws(TemplateError) -> TemplateValue {
      guard given.positional.count == 1, given.named.isEmpty else {
        throw TemplateError(.type, "the test '\(test)' takes one argument", at: place)
      }
      return given.positional[0]
    }
    switch test {
    case "defined": return !value.isUndefined
    case "undefined": return value.isUndefined
    case "none": if case .null = value { return true }
    case "string": if case .string = value { return true }
    case "mapping": if case .map = value { return true }
    case "boolean": if case .bool = value { return true }
    case "integer": if case .integer = value { return true }
    case "float": if case .double = value { return true }
    case "number": return value.number != nil
    case "true": if case .bool(true) = value { return true }
    case "false": if case .bool(false) = value { return true }
    case "iterable", "sequence":
      switch value {
      case .string, .list, .map, .undefined: return true
      default: return false
      }
    case "callable":
      switch value {
      case .macro, .function, .method: return true
      default: return false
      }
    case "odd", "even":
      let number = try integer(value, "the test '\(test)'", at: place)
      return (number % 2 != 0) == (test == "odd")
    case "divisibleby":
      let divisor = try integer(try argument(), "the test 'divisibleby'", at: place)
      guard divisor != 0 else { throw TemplateError(.type, "a number is divided by 0", at: place) }
      return divisor == -1 ? true : try integer(value, "the test 'divisibleby'", at: place) % divisor == 0
    case "in": return try compare("in", value, try argument(), at: place)
    case "==", "eq", "equalto": return try compare("==", value, try argument(), at: place)
    case "!=", "ne": return try compare("!=", value, try argument(), at: place)
    case ">", "gt", "greaterthan": return try compare(">", value, try argument(), at: place)
    case ">=", "ge": return try compare(">=", value, try argument(), at: place)
    case "<", "lt", "lessthan": return try compare("<", value, try argument(), at: place)
    case "<=", "le": return try compare("<=", value, try argument(), at: place)
    case "lower", "upper":
      let text = try value.text(at: place)
      try reserve(4 * text.utf8.count, at: place)
      let isCased = text.unicodeScalars.contains { $0.properties.isCased }
      return isCased && (test == "lower" ? text.lowercased() : text.uppercased()).utf8.elementsEqual(text.utf8)
    default: throw TemplateError(.unsupported, "the test '\(test)' is not built", at: place)
    }
    return false
  }
}
