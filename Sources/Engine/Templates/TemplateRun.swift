/// One run of a template: names, output, and what has been spent. Statements are here, expressions in `TemplateRun+Expressions`.
///
/// It belongs to one call and is never shared.
final class TemplateRun {
  /// How a body ended.
  private enum Flow { case done, leave, next }

  private let limits: TemplateLimits
  private var stepsLeft: Int
  private var bytesLeft: Int
  private var output = String.UnicodeScalarView()
  /// Names by scope, the outermost first.
  private var scopes: [[String: TemplateValue]]
  private var macroDepth = 0
  /// Places of what `{% generation %}` printed, in Unicode scalars of the text.
  private(set) var marks: [Range<Int>] = []
  /// Whether such a block stood where its place in the text is not known: in a macro, or a block that is kept.
  private(set) var hidesMarks = false
  private var captureDepth = 0
  /// What `strftime_now` gives; nil leaves it undefined.
  let clock: ((String) -> String?)?

  init(_ values: [String: TemplateValue], limits: TemplateLimits, clock: ((String) -> String?)?) {
    self.limits = limits
    (stepsLeft, bytesLeft) = (limits.steps, limits.bytes)
    scopes = [values, [:]]
    for function in TemplateFunction.allCases where function != .now || clock != nil {
      scopes[0][function.rawValue] = .function(function)
    }
    self.clock = clock
  }

  func run(_ body: [TemplateStatement]) throws(TemplateError) -> String {
    _ = try execute(body)
    return String(output)
  }

  // MARK: What it costs

  func spend(_ steps: Int = 1, at place: TemplatePlace) throws(TemplateError) {
    stepsLeft -= steps
    if stepsLeft < 0 { throw TemplateError(.limit, "it takes more than \(limits.steps) steps", at: place) }
  }

  /// To be asked before something of `bytes` is made.
  func reserve(_ bytes: Int, at place: TemplatePlace) throws(TemplateError) {
    guard bytes >= 0, bytes <= bytesLeft else {
      throw TemplateError(.limit, "it makes more than \(limits.bytes) bytes of text and lists", at: place)
    }
    bytesLeft -= bytes
  }

  /// A text that was made of parts that were paid for, paid for itself.
  func string(_ text: String, at place: TemplatePlace) throws(TemplateError) -> TemplateValue {
    try reserve(text.utf8.count, at: place)
    return .string(text)
  }

  func list(_ items: [TemplateValue], isTuple: Bool = false, at place: TemplatePlace) throws(TemplateError)
    -> TemplateValue
  {
    try reserve(items.count * MemoryLayout<TemplateValue>.stride, at: place)
    try spend(items.count, at: place)
    let list = TemplateList(items, isTuple: isTuple)
    try checkDepth(list.depth, at: place)
    for item in items { try checkStorable(item, at: place) }
    return .list(list)
  }

  func map(_ pairs: [(key: String, value: TemplateValue)], at place: TemplatePlace) throws(TemplateError)
    -> TemplateValue
  {
    try reserve(pairs.reduce(0) { $0 + 64 + $1.key.utf8.count }, at: place)
    try spend(pairs.count, at: place)
    let map = TemplateMap(pairs)
    try checkDepth(map.depth, at: place)
    for pair in pairs { try checkStorable(pair.value, at: place) }
    return .map(map)
  }

  private func checkDepth(_ depth: Int, at place: TemplatePlace) throws(TemplateError) {
    guard depth <= TemplateLimits.valueDepth else {
      throw TemplateError(.limit, "more than \(TemplateLimits.valueDepth) lists lie inside each other", at: place)
    }
  }

  /// A namespace inside a value could hold itself.
  private func checkStorable(_ value: TemplateValue, at place: TemplatePlace) throws(TemplateError) {
    switch value {
    case .namespace, .loop, .method:
      throw TemplateError(.unsupported, "\(value.kind) inside another value is not built", at: place)
    default: break
    }
  }

  // MARK: Names

  func value(of name: String) -> TemplateValue {
    for scope in scopes.reversed() { if let value = scope[name] { return value } }
    return .undefined(name)
  }

  func assign(_ value: TemplateValue, to target: TemplateTarget, at place: TemplatePlace) throws(TemplateError) {
    switch target {
    case .name(let name): scopes[scopes.count - 1][name] = value
    case .attribute(let name, let attribute):
      guard case .namespace(let namespace) = self.value(of: name) else {
        throw TemplateError(.type, "'\(name)' is \(self.value(of: name).kind), expected a namespace", at: place)
      }
      try store(value, in: namespace, as: attribute, at: place)
    case .tuple(let targets):
      let items = try elements(of: value, at: place)
      guard items.count == targets.count else {
        throw TemplateError(.type, "\(items.count) values stand for \(targets.count) names", at: place)
      }
      for (item, target) in zip(items, targets) { try assign(item, to: target, at: place) }
    }
  }

  func store(
    _ value: TemplateValue,
    in namespace: TemplateNamespace,
    as name: String,
    at place: TemplatePlace
  ) throws(TemplateError) {
    guard !name.hasPrefix("_") else {
      throw TemplateError(
        .unsupported,
        "a namespace has no '\(name)': names with an underscore in front are refused",
        at: place
      )
    }
    try checkStorable(value, at: place)
    namespace.values[name] = value
  }

  // MARK: Statements

  private func write(_ text: String, at place: TemplatePlace) throws(TemplateError) {
    try reserve(text.utf8.count, at: place)
    output.append(contentsOf: text.unicodeScalars)
  }

  /// What `body` prints, rather than printing it.
  private func captured(_ body: () throws(TemplateError) -> Void) throws(TemplateError) -> String {
    let outer = output
    output = String.UnicodeScalarView()
    captureDepth += 1
    defer {
      output = outer
      captureDepth -= 1
    }
    try body()
    return String(output)
  }

  private func execute(_ body: [TemplateStatement]) throws(TemplateError) -> Flow {
    for statement in body {
      let flow = try execute(statement)
      if flow != .done { return flow }
    }
    return .done
  }

  private func execute(_ statement: TemplateStatement) throws(TemplateError) -> Flow {
    let place = statement.place
    try spend(at: place)
    switch statement.kind {
    case .text(let text): try write(text, at: place)
    case .output(let expression): try write(try evaluate(expression).text(at: expression.place), at: place)
    case .condition(let branches, let otherwise):
      for (test, body) in branches where try evaluate(test).isTrue { return try execute(body) }
      return try execute(otherwise)
    case .loop(let loop): try execute(loop, at: place)
    case .set(let target, let expression): try assign(try evaluate(expression), to: target, at: place)
    case .capture(let target, let filters, let body):
      var flow = Flow.done
      let text = try captured { () throws(TemplateError) in
        flow = try scoped([:]) { () throws(TemplateError) in try execute(body) }
      }
      var value = TemplateValue.string(text)
      for (name, arguments) in filters {
        value = try apply(filter: name, to: value, try evaluate(arguments), at: place)
      }
      try assign(value, to: target, at: place)
      return flow
    case .macro(let macro): try assign(.macro(macro), to: .name(macro.name), at: place)
    case .generation(let body):
      let start = output.count
      let flow = try scoped([:]) { () throws(TemplateError) in try execute(body) }
      if captureDepth == 0 { marks.append(start..<output.count) } else { hidesMarks = true }
      return flow
    case .leave: return .leave
    case .next: return .next
    }
    return .done
  }

  private func scoped(
    _ names: [String: TemplateValue],
    _ body: () throws(TemplateError) -> Flow
  ) throws(TemplateError) -> Flow {
    scopes.append(names)
    defer { scopes.removeLast() }
    return try body()
  }

  private func execute(_ loop: TemplateLoop, at place: TemplatePlace) throws(TemplateError) {
    var items = try elements(of: try evaluate(loop.items), at: loop.items.place)
    try spend(items.count, at: place)
    if let condition = loop.condition {
      var kept: [TemplateValue] = []
      for item in items {
        var isKept = false
        _ = try scoped([:]) { () throws(TemplateError) in
          try assign(item, to: loop.target, at: place)
          isKept = try evaluate(condition).isTrue
          return .done
        }
        if isKept { kept.append(item) }
      }
      items = kept
    }
    guard !items.isEmpty else {
      _ = try scoped([:]) { () throws(TemplateError) in try execute(loop.otherwise) }
      return
    }
    let state = LoopState(items)
    for (index, item) in items.enumerated() {
      state.index = index
      let flow = try scoped(["loop": .loop(state)]) { () throws(TemplateError) in
        try assign(item, to: loop.target, at: place)
        return try execute(loop.body)
      }
      if flow == .leave { break }
    }
  }

  // MARK: Macros

  /// Prints a macro's body with its own names and the outermost ones.
  func call(_ macro: TemplateMacro, _ arguments: TemplateGiven, at place: TemplatePlace) throws(TemplateError)
    -> TemplateValue
  {
    guard macroDepth < TemplateLimits.macroDepth else {
      throw TemplateError(.limit, "more than \(TemplateLimits.macroDepth) macros call each other", at: place)
    }
    guard arguments.positional.count <= macro.parameters.count else {
      throw TemplateError(.type, "the macro '\(macro.name)' takes \(macro.parameters.count) arguments", at: place)
    }
    if let stranger = arguments.named.first(where: { given in !macro.parameters.contains { $0.name == given.name } }) {
      throw TemplateError(.type, "the macro '\(macro.name)' has no parameter '\(stranger.name)'", at: place)
    }
    let outer = scopes
    scopes = Array(scopes.prefix(2)) + [[:]]
    macroDepth += 1
    defer {
      // What the macro sets in the outermost scope is nothing: it has its own.
      scopes = outer
      macroDepth -= 1
    }
    for (index, parameter) in macro.parameters.enumerated() {
      let value: TemplateValue
      if index < arguments.positional.count {
        value = arguments.positional[index]
      } else if let named = arguments.named.first(where: { $0.name == parameter.name }) {
        value = named.value
      } else if let standard = parameter.standard {
        value = try evaluate(standard)
      } else {
        value = .undefined(parameter.name)
      }
      try assign(value, to: .name(parameter.name), at: place)
    }
    let text = try captured { () throws(TemplateError) in _ = try execute(macro.body) }
    return .string(text)
  }
}

/// Arguments with their values.
struct TemplateGiven {
  var positional: [TemplateValue] = []
  var named: [(name: String, value: TemplateValue)] = []

  /// The argument at this place or of this name.
  func value(_ index: Int, _ name: String) -> TemplateValue? {
    index < positional.count ? positional[index] : named.first { $0.name == name }?.value
  }

  /// - Throws: `.type` for more arguments than these, or others.
  func check(_ names: [String], of what: String, at place: TemplatePlace) throws(TemplateError) {
    guard positional.count <= names.count else {
      throw TemplateError(.type, "\(what) takes \(names.count) arguments at most", at: place)
    }
    if let stranger = named.first(where: { !names.contains($0.name) }) {
      throw TemplateError(.unsupported, "\(what) has no argument '\(stranger.name)' here", at: place)
    }
  }
}
