import Foundation

/// Calls of functions, macros and methods, and what filters share with them. Methods are in `TemplateRun+Methods`.
extension TemplateRun {
  func call(_ function: TemplateValue, _ given: TemplateGiven, at place: TemplatePlace) throws(TemplateError)
    -> TemplateValue
  {
    try spend(at: place)
    switch function {
    case .function(let function): return try call(function, given, at: place)
    case .macro(let macro): return try call(macro, given, at: place)
    case .method(let value, let name):
      switch value {
      case .string(let text): return try call(name, of: text, given, at: place)
      case .map(let map): return try call(name, of: map, given, at: place)
      case .list(let list): return try call(name, of: list, given, at: place)
      case .loop(let state): return try call(name, of: state, given, at: place)
      default: throw TemplateError(.type, "\(function.kind) cannot be called", at: place)
      }
    case .undefined(TemplateFunction.now.rawValue) where clock == nil:
      throw TemplateError(.unsupported, "strftime_now asks for the date, and none was given", at: place)
    case .undefined: throw undefined(function, at: place)
    default: throw TemplateError(.type, "\(function.kind) cannot be called", at: place)
    }
  }

  private func call(
    _ function: TemplateFunction,
    _ given: TemplateGiven,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    switch function {
    case .range:
      try given.check(["start", "stop", "step"], of: "range", at: place)
      var bounds: [Int] = []
      for value in given.positional { bounds.append(try integer(value, "range", at: place)) }
      guard let first = bounds.first, given.named.isEmpty else {
        throw TemplateError(.type, "range needs whole numbers", at: place)
      }
      let (start, stop, step) = bounds.count == 1 ? (0, first, 1) : (first, bounds[1], bounds.count > 2 ? bounds[2] : 1)
      guard step != 0 else { throw TemplateError(.type, "range's step is 0", at: place) }
      // Paid for before it is made.
      let distance = Double(stop) - Double(start)
      let count = max(0, (distance / Double(step)).rounded(.up))
      guard count < 1e9 else { throw TemplateError(.limit, "a range has \(count) numbers", at: place) }
      try spend(Int(count), at: place)
      try reserve(Int(count) * MemoryLayout<TemplateValue>.stride, at: place)
      return .list(TemplateList(stride(from: start, to: stop, by: step).map { .integer($0) }))
    case .namespace:
      let namespace = TemplateNamespace()
      try reserve(64 * (1 + given.named.count), at: place)
      for value in given.positional {
        guard case .map(let map) = value else { throw TemplateError(.type, "\(value.kind) is no mapping", at: place) }
        for pair in map.pairs { try store(pair.value, in: namespace, as: pair.key, at: place) }
      }
      for (name, value) in given.named { try store(value, in: namespace, as: name, at: place) }
      return .namespace(namespace)
    case .dict:
      var pairs: [(key: String, value: TemplateValue)] = []
      for value in given.positional {
        guard case .map(let map) = value else {
          throw TemplateError(.unsupported, "dict of \(value.kind) is not built; of a mapping it is", at: place)
        }
        pairs += map.pairs
      }
      return try map(pairs + given.named.map { ($0.name, $0.value) }, at: place)
    case .raise:
      let message = try given.value(0, "message")?.text(at: place) ?? ""
      throw TemplateError(.raised, message, at: place)
    case .now:
      let format = try text(given.value(0, "format"), "strftime_now", at: place)
      guard let clock, format.utf8.count <= 200, let text = clock(format) else {
        throw TemplateError(
          .unsupported,
          "strftime_now has no format '\(format.prefix(40))'",
          at: place
        )
      }
      return try string(text, at: place)
    }
  }

  // MARK: Shared with filters

  func text(_ value: TemplateValue?, _ what: String, at place: TemplatePlace) throws(TemplateError) -> String {
    guard case .string(let text) = value else {
      let found = value?.kind ?? "nothing"
      throw TemplateError(.type, "\(what) is given \(found), expected a string", at: place)
    }
    return text
  }

  func integer(_ value: TemplateValue, _ what: String, at place: TemplatePlace) throws(TemplateError) -> Int {
    guard let integer = value.integer else {
      throw TemplateError(.type, "\(what) is given \(value.kind), expected a whole number", at: place)
    }
    return integer
  }

  func replace(
    _ text: String,
    _ old: String,
    _ new: String,
    limit: Int?,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    let most = old.utf8.isEmpty ? text.utf8.count + 1 : text.utf8.count / old.utf8.count
    let size = most.multipliedReportingOverflow(by: new.utf8.count)
    // A bound that is far too high would refuse what is fine: count where it matters.
    if size.overflow || size.partialValue > 1 << 16 {
      let count = old.utf8.isEmpty ? most : TemplateStrings.places(of: Array(old.utf8), in: Array(text.utf8)).count
      let exact = count.multipliedReportingOverflow(by: new.utf8.count)
      try reserve(exact.overflow ? .max : exact.partialValue + text.utf8.count, at: place)
    } else {
      try reserve(size.partialValue + text.utf8.count, at: place)
    }
    return .string(TemplateStrings.replaced(text, old, new, limit: limit))
  }

  /// - Parameter isStrict: whether elements must be texts, as for Python's method; the filter prints them.
  func join(
    _ items: [TemplateValue],
    by separator: String,
    isStrict: Bool,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    var result = String.UnicodeScalarView()
    for (index, item) in items.enumerated() {
      try spend(at: place)
      let own = isStrict ? try text(item, "join", at: place) : try item.text(at: place)
      try reserve(own.utf8.count + separator.utf8.count, at: place)
      if index > 0 { result.append(contentsOf: separator.unicodeScalars) }
      result.append(contentsOf: own.unicodeScalars)
    }
    return .string(String(result))
  }
}
