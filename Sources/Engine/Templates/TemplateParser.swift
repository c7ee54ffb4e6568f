/// Recursive descent over the tokens of a template: its statements. Expressions are in `TemplateParser+Expressions`.
struct TemplateParser {
  /// Most expressions or blocks inside each other: deeper ones would need too much of a thread's stack.
  static let maximumDepth = 60

  private let tokens: [TemplateToken]
  private var index = 0
  var depth = 0
  private var loopDepth = 0

  /// Parses a whole template.
  static func parse(_ text: String) throws(TemplateError) -> [TemplateStatement] {
    var parser = TemplateParser(tokens: try TemplateLexer.tokens(of: text))
    let (body, _) = try parser.body(until: [])
    return body
  }

  private init(tokens: [TemplateToken]) { self.tokens = tokens }

  // MARK: Tokens

  var current: TemplateToken { tokens[min(index, tokens.count - 1)] }
  var following: TemplateToken { tokens[min(index + 1, tokens.count - 1)] }

  mutating func advance() { index += 1 }

  func isSymbol(_ symbol: String) -> Bool { current.kind == .symbol(symbol) }
  func isName(_ name: String) -> Bool { current.kind == .name(name) }

  mutating func take(symbol: String) -> Bool {
    guard isSymbol(symbol) else { return false }
    advance()
    return true
  }

  mutating func take(name: String) -> Bool {
    guard isName(name) else { return false }
    advance()
    return true
  }

  func unexpected(_ expected: String) -> TemplateError {
    TemplateError(.syntax, "found \(current.words), expected \(expected)", at: current.place)
  }

  mutating func expect(symbol: String) throws(TemplateError) {
    guard take(symbol: symbol) else { throw unexpected("'\(symbol)'") }
  }

  mutating func expectName(_ what: String = "a name") throws(TemplateError) -> String {
    guard case .name(let name) = current.kind else { throw unexpected(what) }
    advance()
    return name
  }

  mutating func nested<T>(
    _ parse: (inout TemplateParser) throws(TemplateError) -> T
  ) throws(TemplateError) -> T {
    guard depth < Self.maximumDepth else {
      throw TemplateError(.limit, "more than \(Self.maximumDepth) things stand inside each other", at: current.place)
    }
    depth += 1
    defer { depth -= 1 }
    return try parse(&self)
  }

  // MARK: Statements

  /// Statements up to a block with one of these names, which is taken together with its `{%`.
  private mutating func body(
    until ends: Set<String>
  ) throws(TemplateError) -> (body: [TemplateStatement], end: String) {
    var result: [TemplateStatement] = []
    while true {
      let place = current.place
      switch current.kind {
      case .end:
        guard ends.isEmpty else { throw unexpected("a block with \(ends.sorted().joined(separator: " or "))") }
        return (result, "")
      case .text(let text):
        advance()
        result.append(TemplateStatement(kind: .text(text), place: place))
      case .variableBegin:
        advance()
        let value = try tuple()
        guard current.kind == .variableEnd else { throw unexpected("'}}'") }
        advance()
        result.append(TemplateStatement(kind: .output(value), place: place))
      case .blockBegin:
        advance()
        if case .name(let name) = current.kind, ends.contains(name) {
          advance()
          return (result, name)
        }
        let kind = try nested { (parser) throws(TemplateError) in try parser.statement() }
        result.append(TemplateStatement(kind: kind, place: place))
      default: throw unexpected("text or a tag")
      }
    }
  }

  private mutating func endBlock() throws(TemplateError) {
    guard current.kind == .blockEnd else { throw unexpected("'%}'") }
    advance()
  }

  /// The statement whose `{%` was just read, its `%}` included.
  private mutating func statement() throws(TemplateError) -> TemplateStatement.Kind {
    let place = current.place
    let name = try expectName("a statement")
    switch name {
    case "if": return try condition()
    case "for": return try loop()
    case "set": return try assignment()
    case "macro": return try macro()
    case "generation":
      try endBlock()
      let (body, _) = try body(until: ["endgeneration"])
      try endBlock()
      return .generation(body)
    case "break", "continue":
      guard loopDepth > 0 else { throw TemplateError(.syntax, "'\(name)' stands outside a loop", at: place) }
      try endBlock()
      return name == "break" ? .leave : .next
    case "elif", "else", "endif", "endfor", "endset", "endmacro", "endgeneration":
      throw TemplateError(.syntax, "'\(name)' ends nothing that is open", at: place)
    default:
      throw TemplateError(
        .unsupported,
        "the statement '\(name)' is not built; for, if, set, macro, generation, break and continue are",
        at: place
      )
    }
  }

  private mutating func condition() throws(TemplateError) -> TemplateStatement.Kind {
    var branches: [(TemplateExpression, [TemplateStatement])] = []
    while true {
      let test = try tuple(allowsConditional: false)
      try endBlock()
      let (body, end) = try body(until: ["elif", "else", "endif"])
      branches.append((test, body))
      if end == "elif" { continue }
      try endBlock()
      guard end == "else" else { return .condition(branches, otherwise: []) }
      let (otherwise, _) = try self.body(until: ["endif"])
      try endBlock()
      return .condition(branches, otherwise: otherwise)
    }
  }

  private mutating func loop() throws(TemplateError) -> TemplateStatement.Kind {
    let target = try target(allowsAttributes: false)
    guard take(name: "in") else { throw unexpected("'in'") }
    let items = try tuple(allowsConditional: false)
    var condition: TemplateExpression?
    if take(name: "if") { condition = try expression() }
    if isName("recursive") { throw TemplateError(.unsupported, "'recursive' loops are not built", at: current.place) }
    try endBlock()
    loopDepth += 1
    let (body, end) = try body(until: ["else", "endfor"])
    loopDepth -= 1
    try endBlock()
    var otherwise: [TemplateStatement] = []
    if end == "else" {
      otherwise = try self.body(until: ["endfor"]).body
      try endBlock()
    }
    return .loop(
      TemplateLoop(target: target, items: items, condition: condition, body: body, otherwise: otherwise)
    )
  }

  private mutating func assignment() throws(TemplateError) -> TemplateStatement.Kind {
    let target = try target(allowsAttributes: true)
    if take(symbol: "=") {
      let value = try tuple()
      try endBlock()
      return .set(target, value)
    }
    var filters: [(String, TemplateArguments)] = []
    while take(symbol: "|") { filters.append((try expectName("a filter"), try optionalArguments())) }
    try endBlock()
    let (body, _) = try body(until: ["endset"])
    try endBlock()
    return .capture(target, filters: filters, body: body)
  }

  private mutating func macro() throws(TemplateError) -> TemplateStatement.Kind {
    let name = try expectName()
    try expect(symbol: "(")
    var parameters: [(String, TemplateExpression?)] = []
    while !isSymbol(")") {
      if !parameters.isEmpty { try expect(symbol: ",") }
      let parameter = try expectName("a parameter")
      parameters.append((parameter, take(symbol: "=") ? try expression() : nil))
    }
    advance()
    try endBlock()
    // A loop around a macro is none of its own.
    let outer = loopDepth
    loopDepth = 0
    let (body, _) = try body(until: ["endmacro"])
    loopDepth = outer
    try endBlock()
    return .macro(TemplateMacro(name: name, parameters: parameters, body: body))
  }

  private mutating func target(allowsAttributes: Bool) throws(TemplateError) -> TemplateTarget {
    var parts = [try singleTarget(allowsAttributes)]
    var isTuple = false
    while take(symbol: ",") {
      isTuple = true
      guard current.kind != .name("in"), current.kind != .symbol("="), current.kind != .symbol(")") else { break }
      parts.append(try singleTarget(allowsAttributes))
    }
    return isTuple ? .tuple(parts) : parts[0]
  }

  private mutating func singleTarget(_ allowsAttributes: Bool) throws(TemplateError) -> TemplateTarget {
    if isSymbol("(") {
      return try nested { (parser) throws(TemplateError) in
        parser.advance()
        let inner = try parser.target(allowsAttributes: allowsAttributes)
        try parser.expect(symbol: ")")
        return inner
      }
    }
    let place = current.place
    let name = try expectName()
    guard !Self.constants.contains(name) else { throw TemplateError(.syntax, "'\(name)' cannot be set", at: place) }
    guard allowsAttributes, take(symbol: ".") else { return .name(name) }
    return .attribute(of: name, try expectName("an attribute"))
  }

  static let constants: Set = ["true", "false", "none", "True", "False", "None"]
}
