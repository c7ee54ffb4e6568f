/// Expressions, by Jinja's precedence: conditional, or, and, not, comparison, + −, ~, * / // %, **, sign, postfix, filter and test.
extension TemplateParser {
  private func node(
    _ kind: TemplateExpression.Kind,
    at place: TemplatePlace,
    over parts: [TemplateExpression?] = [],
    _ arguments: TemplateArguments = TemplateArguments()
  ) throws(TemplateError) -> TemplateExpression {
    let below = max(parts.reduce(0) { max($0, $1?.depth ?? 0) }, arguments.depth)
    // A chain such as a + b + … goes as deep as it is long.
    guard below < 2 * Self.maximumDepth else {
      throw TemplateError(.limit, "an expression of more than \(2 * Self.maximumDepth) steps in a row", at: place)
    }
    return TemplateExpression(kind, at: place, depth: below + 1)
  }

  /// One expression, or several with commas between as a tuple.
  mutating func tuple(allowsConditional: Bool = true) throws(TemplateError) -> TemplateExpression {
    let place = current.place
    let first = try expression(allowsConditional: allowsConditional)
    guard isSymbol(",") else { return first }
    var items = [first]
    while take(symbol: ",") {
      switch current.kind {
      case .variableEnd, .blockEnd, .symbol(")"): break
      default:
        items.append(try expression(allowsConditional: allowsConditional))
        continue
      }
      break
    }
    return try node(.list(items, isTuple: true), at: place, over: items)
  }

  mutating func expression(allowsConditional: Bool = true) throws(TemplateError) -> TemplateExpression {
    try nested { (parser) throws(TemplateError) in
      allowsConditional ? try parser.conditional() : try parser.disjunction()
    }
  }

  private mutating func conditional() throws(TemplateError) -> TemplateExpression {
    var result = try disjunction()
    while isName("if") {
      let place = current.place
      advance()
      let test = try disjunction()
      var otherwise: TemplateExpression?
      if take(name: "else") { otherwise = try nested { (parser) throws(TemplateError) in try parser.conditional() } }
      result = try node(
        .conditional(result, test: test, otherwise: otherwise),
        at: place,
        over: [result, test, otherwise]
      )
    }
    return result
  }

  private mutating func disjunction() throws(TemplateError) -> TemplateExpression {
    var left = try conjunction()
    while isName("or") {
      let place = current.place
      advance()
      let right = try conjunction()
      left = try node(.or(left, right), at: place, over: [left, right])
    }
    return left
  }

  private mutating func conjunction() throws(TemplateError) -> TemplateExpression {
    var left = try negation()
    while isName("and") {
      let place = current.place
      advance()
      let right = try negation()
      left = try node(.and(left, right), at: place, over: [left, right])
    }
    return left
  }

  private mutating func negation() throws(TemplateError) -> TemplateExpression {
    let place = current.place
    guard take(name: "not") else { return try comparison() }
    let value = try nested { (parser) throws(TemplateError) in try parser.negation() }
    return try node(.not(value), at: place, over: [value])
  }

  private mutating func comparison() throws(TemplateError) -> TemplateExpression {
    let left = try sum()
    let place = current.place
    var parts: [(String, TemplateExpression)] = []
    while true {
      var operation: String?
      if case .symbol(let symbol) = current.kind, ["==", "!=", "<", "<=", ">", ">="].contains(symbol) {
        operation = symbol
        advance()
      } else if take(name: "in") {
        operation = "in"
      } else if isName("not"), following.kind == .name("in") {
        advance()
        advance()
        operation = "not in"
      }
      guard let operation else { break }
      parts.append((operation, try sum()))
    }
    return parts.isEmpty ? left : try node(.comparison(left, parts), at: place, over: [left] + parts.map(\.1))
  }

  private mutating func binary(
    _ symbols: Set<String>,
    _ operand: (inout TemplateParser) throws(TemplateError) -> TemplateExpression
  ) throws(TemplateError) -> TemplateExpression {
    var left = try operand(&self)
    while case .symbol(let symbol) = current.kind, symbols.contains(symbol) {
      let place = current.place
      advance()
      let right = try operand(&self)
      left = try node(.binary(symbol, left, right), at: place, over: [left, right])
    }
    return left
  }

  private mutating func sum() throws(TemplateError) -> TemplateExpression {
    try binary(["+", "-"]) { (parser) throws(TemplateError) in try parser.concatenation() }
  }

  private mutating func concatenation() throws(TemplateError) -> TemplateExpression {
    let place = current.place
    var parts = [try product()]
    while take(symbol: "~") { parts.append(try product()) }
    return parts.count == 1 ? parts[0] : try node(.concatenation(parts), at: place, over: parts)
  }

  private mutating func product() throws(TemplateError) -> TemplateExpression {
    try binary(["*", "/", "//", "%"]) { (parser) throws(TemplateError) in
      try parser.binary(["**"]) { (parser) throws(TemplateError) in try parser.unary() }
    }
  }

  private mutating func unary(allowsFilters: Bool = true) throws(TemplateError) -> TemplateExpression {
    let place = current.place
    var value: TemplateExpression
    if isSymbol("-") || isSymbol("+") {
      let isNegative = isSymbol("-")
      advance()
      let inner = try nested { (parser) throws(TemplateError) in try parser.unary(allowsFilters: false) }
      value = try node(.sign(inner, isNegative: isNegative), at: place, over: [inner])
    } else {
      value = try primary()
    }
    value = try postfix(value)
    return allowsFilters ? try filters(value) : value
  }

  private mutating func postfix(_ value: TemplateExpression) throws(TemplateError) -> TemplateExpression {
    var value = value
    while true {
      let place = current.place
      if take(symbol: ".") {
        if case .integer(let index) = current.kind {
          advance()
          value = try node(.item(value, try node(.integer(index), at: place)), at: place, over: [value])
        } else {
          value = try node(.attribute(value, try expectName("an attribute")), at: place, over: [value])
        }
      } else if take(symbol: "[") {
        value = try subscripted(value, place)
      } else if isSymbol("(") {
        let arguments = try arguments()
        value = try node(.call(value, arguments), at: place, over: [value], arguments)
      } else {
        return value
      }
    }
  }

  private mutating func subscripted(
    _ value: TemplateExpression,
    _ place: TemplatePlace
  ) throws(TemplateError) -> TemplateExpression {
    var parts: [TemplateExpression?] = [nil, nil, nil]
    var count = 0
    for part in 0..<3 {
      if !isSymbol(":"), !isSymbol("]") { parts[part] = try expression() }
      count = part
      guard part < 2, take(symbol: ":") else { break }
      count += 1
    }
    if isSymbol(",") { throw TemplateError(.unsupported, "a tuple as a subscript is not built", at: current.place) }
    try expect(symbol: "]")
    if count == 0 {
      guard let key = parts[0] else { throw TemplateError(.syntax, "a subscript is empty", at: place) }
      return try node(.item(value, key), at: place, over: [value, key])
    }
    return try node(.slice(value, parts[0], parts[1], parts[2]), at: place, over: [value] + parts)
  }

  private mutating func filters(_ value: TemplateExpression) throws(TemplateError) -> TemplateExpression {
    var value = value
    while true {
      let place = current.place
      if take(symbol: "|") {
        let name = try expectName("a filter")
        let arguments = try optionalArguments()
        value = try node(.filter(value, name, arguments), at: place, over: [value], arguments)
      } else if take(name: "is") {
        let isNegated = take(name: "not")
        let name = try expectName("a test")
        let arguments = try testArguments()
        value = try node(.test(value, name, arguments), at: place, over: [value], arguments)
        if isNegated { value = try node(.not(value), at: place, over: [value]) }
      } else if isSymbol("(") {
        let arguments = try arguments()
        value = try node(.call(value, arguments), at: place, over: [value], arguments)
      } else {
        return value
      }
    }
  }

  /// A test may take one argument without brackets.
  private mutating func testArguments() throws(TemplateError) -> TemplateArguments {
    switch current.kind {
    case .symbol("("): return try arguments()
    case .name("else"), .name("or"), .name("and"): return TemplateArguments()
    case .name("is"): throw TemplateError(.syntax, "tests cannot be chained with 'is'", at: current.place)
    case .name("if"), .name("in"), .name("not"): return TemplateArguments()
    case .name, .string, .integer, .double, .symbol("["), .symbol("{"):
      return TemplateArguments(positional: [try postfix(try primary())])
    default: return TemplateArguments()
    }
  }

  mutating func optionalArguments() throws(TemplateError) -> TemplateArguments {
    isSymbol("(") ? try arguments() : TemplateArguments()
  }

  private mutating func arguments() throws(TemplateError) -> TemplateArguments {
    try expect(symbol: "(")
    var result = TemplateArguments()
    while !isSymbol(")") {
      if isSymbol("*") || isSymbol("**") {
        throw TemplateError(.unsupported, "arguments from a list ('*') are not built", at: current.place)
      }
      if case .name(let name) = current.kind, following.kind == .symbol("=") {
        advance()
        advance()
        result.named.append((name, try expression()))
      } else {
        guard result.named.isEmpty else { throw unexpected("a named argument, as the one before is named") }
        result.positional.append(try expression())
      }
      guard take(symbol: ",") else { break }
    }
    try expect(symbol: ")")
    return result
  }

  private mutating func primary() throws(TemplateError) -> TemplateExpression {
    let place = current.place
    switch current.kind {
    case .name(let name):
      advance()
      switch name {
      case "true", "True": return try node(.bool(true), at: place)
      case "false", "False": return try node(.bool(false), at: place)
      case "none", "None": return try node(.null, at: place)
      default: return try node(.name(name), at: place)
      }
    case .string(let first):
      advance()
      var text = first
      while case .string(let more) = current.kind {
        text += more
        advance()
      }
      return try node(.string(text), at: place)
    case .integer(let value):
      advance()
      return try node(.integer(value), at: place)
    case .double(let value):
      advance()
      return try node(.double(value), at: place)
    case .symbol("("):
      advance()
      if take(symbol: ")") { return try node(.list([], isTuple: true), at: place) }
      let value = try tuple()
      try expect(symbol: ")")
      return value
    case .symbol("["):
      advance()
      let items = try items(until: "]") { (parser) throws(TemplateError) in try parser.expression() }
      return try node(.list(items, isTuple: false), at: place, over: items)
    case .symbol("{"):
      advance()
      let pairs = try items(until: "}") { (parser) throws(TemplateError) in
        let key = try parser.expression()
        try parser.expect(symbol: ":")
        return (key: key, value: try parser.expression())
      }
      return try node(.map(pairs), at: place, over: pairs.map(\.key) + pairs.map(\.value))
    default: throw unexpected("an expression")
    }
  }

  private mutating func items<Item>(
    until end: String,
    _ item: (inout TemplateParser) throws(TemplateError) -> Item
  ) throws(TemplateError) -> [Item] {
    var result: [Item] = []
    while !isSymbol(end) {
      if !result.isEmpty { try expect(symbol: ",") }
      if isSymbol(end) { break }
      result.append(try item(&self))
    }
    advance()
    return result
  }
}
