import Foundation

/// Expressions, with Python's meaning of operators, indices and slices.
extension TemplateRun {
  func evaluate(_ arguments: TemplateArguments) throws(TemplateError) -> TemplateGiven {
    var given = TemplateGiven()
    for argument in arguments.positional { given.positional.append(try evaluate(argument)) }
    for argument in arguments.named { given.named.append((argument.name, try evaluate(argument.value))) }
    return given
  }

  func evaluate(_ expression: TemplateExpression) throws(TemplateError) -> TemplateValue {
    let place = expression.place
    try spend(at: place)
    switch expression.kind {
    case .null: return .null
    case .bool(let value): return .bool(value)
    case .integer(let value): return .integer(value)
    case .double(let value): return .double(value)
    case .string(let text): return .string(text)
    case .name(let name): return value(of: name)
    case .list(let items, let isTuple): return try list(try evaluate(items), isTuple: isTuple, at: place)
    case .map(let pairs): return try evaluate(pairs, at: place)
    case .attribute(let value, let name): return try attribute(name, of: try evaluate(value), at: place)
    case .item(let value, let key): return try item(try evaluate(key), of: try evaluate(value), at: place)
    case .slice(let value, let start, let end, let step):
      return try slice(try evaluate(value), try bound(start), try bound(end), try bound(step), at: place)
    case .call(let callee, let arguments):
      let function = try evaluate(callee)
      return try call(function, try evaluate(arguments), at: place)
    case .filter(let value, let name, let arguments):
      return try apply(filter: name, to: try evaluate(value), try evaluate(arguments), at: place)
    case .test(let value, let name, let arguments):
      return .bool(try holds(name, of: try evaluate(value), try evaluate(arguments), at: place))
    case .not(let value): return .bool(!(try evaluate(value).isTrue))
    case .sign(let value, let isNegative): return try signed(try evaluate(value), isNegative: isNegative, at: place)
    case .binary(let operation, let left, let right):
      return try calculate(operation, try evaluate(left), try evaluate(right), at: place)
    case .concatenation(let parts):
      var text = ""
      for part in parts {
        let own = try evaluate(part).text(at: part.place)
        try reserve(text.utf8.count + own.utf8.count, at: place)
        text.unicodeScalars.append(contentsOf: own.unicodeScalars)
      }
      return .string(text)
    case .comparison(let first, let parts):
      var left = try evaluate(first)
      for (operation, expression) in parts {
        let right = try evaluate(expression)
        guard try compare(operation, left, right, at: place) else { return .bool(false) }
        left = right
      }
      return .bool(true)
    case .and(let left, let right):
      let value = try evaluate(left)
      return value.isTrue ? try evaluate(right) : value
    case .or(let left, let right):
      let value = try evaluate(left)
      return value.isTrue ? value : try evaluate(right)
    case .conditional(let value, let test, let otherwise):
      if try evaluate(test).isTrue { return try evaluate(value) }
      return try otherwise.map { (each) throws(TemplateError) in try evaluate(each) } ?? .undefined("else")
    }
  }

  private func evaluate(_ items: [TemplateExpression]) throws(TemplateError) -> [TemplateValue] {
    var values: [TemplateValue] = []
    for item in items { values.append(try evaluate(item)) }
    return values
  }

  private func evaluate(
    _ pairs: [(key: TemplateExpression, value: TemplateExpression)],
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    var result: [(key: String, value: TemplateValue)] = []
    for (key, value) in pairs {
      let found = try evaluate(key)
      guard case .string(let text) = found else {
        throw TemplateError(.unsupported, "\(found.kind) as a key is not built; texts are", at: key.place)
      }
      result.append((text, try evaluate(value)))
    }
    return try map(result, at: place)
  }

  func undefined(_ value: TemplateValue, at place: TemplatePlace) -> TemplateError {
    TemplateError(.undefined, "\(value.kind), is used", at: place)
  }

  /// The elements that a loop over `value` has.
  func elements(of value: TemplateValue, at place: TemplatePlace) throws(TemplateError) -> [TemplateValue] {
    switch value {
    case .undefined: return []
    case .list(let list): return list.items
    case .map(let map):
      try reserve(map.pairs.count * MemoryLayout<TemplateValue>.stride, at: place)
      return map.pairs.map { .string($0.key) }
    case .string(let text):
      try reserve(text.utf8.count * MemoryLayout<TemplateValue>.stride, at: place)
      return text.unicodeScalars.map { .string(String($0)) }
    default: throw TemplateError(.type, "\(value.kind) has no elements", at: place)
    }
  }

  // MARK: Parts

  /// `value.name`: a method or attribute, or else the item of this key.
  private func attribute(_ name: String, of value: TemplateValue, at place: TemplatePlace) throws(TemplateError)
    -> TemplateValue
  {
    if name.hasPrefix("__") {
      throw TemplateError(.unsupported, "the attribute '\(name)' is the host's business", at: place)
    }
    switch value {
    case .undefined: throw undefined(value, at: place)
    case .namespace(let namespace): return namespace.values[name] ?? .undefined(name)
    case .loop(let state): return try attribute(name, of: state, at: place)
    case .map(let map):
      if Self.hasMethod(name, value) { return .method(of: value, name) }
      return map[name] ?? .undefined(name)
    default: return Self.hasMethod(name, value) ? .method(of: value, name) : .undefined(name)
    }
  }

  private func attribute(_ name: String, of state: LoopState, at place: TemplatePlace) throws(TemplateError)
    -> TemplateValue
  {
    let (index, count) = (state.index, state.items.count)
    switch name {
    case "index": return .integer(index + 1)
    case "index0": return .integer(index)
    case "revindex": return .integer(count - index)
    case "revindex0": return .integer(count - index - 1)
    case "first": return .bool(index == 0)
    case "last": return .bool(index == count - 1)
    case "length": return .integer(count)
    case "depth": return .integer(1)
    case "depth0": return .integer(0)
    case "previtem": return index > 0 ? state.items[index - 1] : .undefined("loop.previtem")
    case "nextitem": return index + 1 < count ? state.items[index + 1] : .undefined("loop.nextitem")
    case "cycle", "changed": return .method(of: .loop(state), name)
    default: return .undefined("loop.\(name)")
    }
  }

  /// `value[key]`.
  func item(_ key: TemplateValue, of value: TemplateValue, at place: TemplatePlace) throws(TemplateError)
    -> TemplateValue
  {
    switch (value, key) {
    case (.undefined, _): throw undefined(value, at: place)
    case (.map(let map), .string(let name)):
      try spend(map.pairs.count / 16, at: place)
      return map[name] ?? (Self.hasMethod(name, value) ? .method(of: value, name) : .undefined(name))
    case (.list(let list), _):
      guard let index = key.integer else { break }
      let found = index < 0 ? index + list.items.count : index
      return list.items.indices.contains(found) ? list.items[found] : .undefined("[\(index)]")
    case (.string(let text), _):
      guard let index = key.integer else { break }
      let scalars = text.unicodeScalars
      try spend(text.utf8.count / 16, at: place)
      let count = scalars.count
      let found = index < 0 ? index + count : index
      guard found >= 0, found < count else { return .undefined("[\(index)]") }
      return .string(String(scalars[scalars.index(scalars.startIndex, offsetBy: found)]))
    case (_, .string(let name)): return try attribute(name, of: value, at: place)
    default: break
    }
    return .undefined("[\((try? key.text(at: place)) ?? "?")]")
  }

  private func bound(_ expression: TemplateExpression?) throws(TemplateError) -> Int? {
    guard let expression else { return nil }
    let value = try evaluate(expression)
    if case .null = value { return nil }
    guard let integer = value.integer else {
      throw TemplateError(.type, "\(value.kind) bounds a slice, expected a whole number", at: expression.place)
    }
    return integer
  }

  private func slice(
    _ value: TemplateValue,
    _ start: Int?,
    _ end: Int?,
    _ step: Int?,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    let step = step ?? 1
    guard step != 0 else { throw TemplateError(.type, "a slice's step is 0", at: place) }
    switch value {
    case .undefined: throw undefined(value, at: place)
    case .list(let given):
      let picked = Self.indices(given.items.count, start, end, step).map { given.items[$0] }
      return try list(picked, isTuple: given.isTuple, at: place)
    case .string(let text):
      try reserve(4 * text.utf8.count, at: place)
      let scalars = Array(text.unicodeScalars)
      let picked = Self.indices(scalars.count, start, end, step).map { scalars[$0] }
      return .string(String(String.UnicodeScalarView(picked)))
    default: throw TemplateError(.type, "\(value.kind) cannot be sliced", at: place)
    }
  }

  /// The places that Python's slice takes of `count`.
  private static func indices(_ count: Int, _ start: Int?, _ end: Int?, _ step: Int) -> StrideTo<Int> {
    let (lowest, highest) = step > 0 ? (0, count) : (-1, count - 1)
    func clamped(_ bound: Int) -> Int { max(lowest, min(bound < 0 ? max(bound + count, lowest) : bound, highest)) }
    let first = start.map(clamped) ?? (step > 0 ? lowest : highest)
    let last = end.map(clamped) ?? (step > 0 ? highest : lowest)
    return stride(from: first, to: last, by: max(-count - 1, min(step, count + 1)))
  }

  // MARK: Operators

  private func signed(_ value: TemplateValue, isNegative: Bool, at place: TemplatePlace) throws(TemplateError)
    -> TemplateValue
  {
    if let integer = value.integer, integer != .min { return .integer(isNegative ? -integer : integer) }
    if case .double(let number) = value { return .double(isNegative ? -number : number) }
    throw value.isUndefined ? undefined(value, at: place) : TemplateError(.type, "\(value.kind) has no sign", at: place)
  }

  private func calculate(
    _ operation: String,
    _ left: TemplateValue,
    _ right: TemplateValue,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    if left.isUndefined { throw undefined(left, at: place) }
    if right.isUndefined { throw undefined(right, at: place) }
    switch (operation, left, right) {
    case ("+", .string(let first), .string(let second)):
      try reserve(first.utf8.count + second.utf8.count, at: place)
      var text = first
      text.unicodeScalars.append(contentsOf: second.unicodeScalars)
      return .string(text)
    case ("+", .list(let first), .list(let second)):
      guard first.isTuple == second.isTuple else { break }
      return try list(first.items + second.items, isTuple: first.isTuple, at: place)
    case ("*", .string(let text), _):
      guard let count = right.integer else { break }
      return try repeated(text, count, at: place)
    case ("*", _, .string(let text)):
      guard let count = left.integer else { break }
      return try repeated(text, count, at: place)
    case ("%", .string, _):
      throw TemplateError(.unsupported, "formatting a string by '%' is not built", at: place)
    default:
      if let result = try number(operation, left, right, at: place) { return result }
    }
    throw TemplateError(.type, "'\(operation)' does not go with \(left.kind) and \(right.kind)", at: place)
  }

  private func repeated(_ text: String, _ count: Int, at place: TemplatePlace) throws(TemplateError) -> TemplateValue {
    let size = text.utf8.count.multipliedReportingOverflow(by: max(0, count))
    try reserve(size.overflow ? .max : size.partialValue, at: place)
    return .string(String(repeating: text, count: max(0, count)))
  }

  private func number(
    _ operation: String,
    _ left: TemplateValue,
    _ right: TemplateValue,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue? {
    guard let first = left.number, let second = right.number else { return nil }
    if second == 0, ["/", "//", "%"].contains(operation) {
      throw TemplateError(.type, "a number is divided by 0", at: place)
    }
    if let first = left.integer, let second = right.integer {
      let result: (partialValue: Int, overflow: Bool)?
      switch operation {
      case "+": result = first.addingReportingOverflow(second)
      case "-": result = first.subtractingReportingOverflow(second)
      case "*": result = first.multipliedReportingOverflow(by: second)
      case "//", "%":
        guard second != -1 else {
          return operation == "%" ? .integer(0) : try signed(left, isNegative: true, at: place)
        }
        // Python rounds down.
        let (quotient, rest) = first.quotientAndRemainder(dividingBy: second)
        let isBelow = rest != 0 && (rest < 0) != (second < 0)
        result = operation == "%" ? (isBelow ? rest + second : rest, false) : (isBelow ? quotient - 1 : quotient, false)
      case "**" where second >= 0: result = Self.power(first, second)
      default: result = nil
      }
      if let result {
        guard !result.overflow else { throw TemplateError(.limit, "a number grows beyond 64 bits", at: place) }
        return .integer(result.partialValue)
      }
    }
    let result: Double
    switch operation {
    case "+": result = first + second
    case "-": result = first - second
    case "*": result = first * second
    case "/": result = first / second
    case "//": result = (first / second).rounded(.down)
    case "%": result = first - (first / second).rounded(.down) * second
    case "**": result = pow(first, second)
    default: return nil
    }
    guard result.isFinite else { throw TemplateError(.limit, "a number is not finite", at: place) }
    return .double(result)
  }

  private static func power(_ base: Int, _ exponent: Int) -> (partialValue: Int, overflow: Bool) {
    var result = 1
    if base == 0 || base == 1 { return (exponent == 0 ? 1 : base, false) }
    if base == -1 { return (exponent % 2 == 0 ? 1 : -1, false) }
    // 2⁶³ is beyond.
    for _ in 0..<min(exponent, 64) {
      let next = result.multipliedReportingOverflow(by: base)
      if next.overflow { return next }
      result = next.partialValue
    }
    return (result, exponent > 64)
  }

  func compare(
    _ operation: String,
    _ left: TemplateValue,
    _ right: TemplateValue,
    at place: TemplatePlace
  ) throws(TemplateError) -> Bool {
    switch operation {
    case "==", "!=":
      try spend(size(of: left) / 16, at: place)
      return left.equals(right) == (operation == "==")
    case "in": return try contains(right, left, at: place)
    case "not in": return !(try contains(right, left, at: place))
    default: break
    }
    if left.isUndefined { throw undefined(left, at: place) }
    if right.isUndefined { throw undefined(right, at: place) }
    let order: (isLess: Bool, isEqual: Bool)
    if let first = left.number, let second = right.number {
      order = (first < second, first == second)
    } else if case .string(let first) = left, case .string(let second) = right {
      try spend(first.utf8.count / 16, at: place)
      // The order of bytes in UTF-8 is that of scalars.
      order = (first.utf8.lexicographicallyPrecedes(second.utf8), first.utf8.elementsEqual(second.utf8))
    } else {
      throw TemplateError(.type, "\(left.kind) and \(right.kind) have no order", at: place)
    }
    switch operation {
    case "<": return order.isLess
    case "<=": return order.isLess || order.isEqual
    case ">": return !order.isLess && !order.isEqual
    default: return !order.isLess
    }
  }

  /// Steps that looking through a value takes, at the least.
  private func size(of value: TemplateValue) -> Int {
    switch value {
    case .string(let text): text.utf8.count
    case .list(let list): list.items.reduce(0) { $0 + 16 + size(of: $1) }
    case .map(let map): map.pairs.reduce(0) { $0 + 16 + size(of: $1.value) }
    default: 0
    }
  }

  private func contains(_ whole: TemplateValue, _ part: TemplateValue, at place: TemplatePlace) throws(TemplateError)
    -> Bool
  {
    switch (whole, part) {
    case (.undefined, _): return false
    case (.string(let text), .string(let searched)):
      try spend((text.utf8.count + searched.utf8.count) / 16, at: place)
      return TemplateStrings.find(Array(searched.utf8), in: Array(text.utf8)) != nil
    case (.list(let list), _):
      for item in list.items {
        try spend(1 + size(of: part) / 16, at: place)
        if item.equals(part) { return true }
      }
      return false
    case (.map(let map), .string(let key)):
      try spend(map.pairs.count / 16, at: place)
      return map[key] != nil
    case (.map, _): return false
    default: throw TemplateError(.type, "\(part.kind) cannot be in \(whole.kind)", at: place)
    }
  }
}
