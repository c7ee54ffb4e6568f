import Foundation

/// Functions, and the methods of strings, mappings and lists.
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
          clock == nil
            ? "strftime_now asks for the date, and none was given"
            : "strftime_now has no format '\(format.prefix(40))'",
          at: place
        )
      }
      return try string(text, at: place)
    }
  }

  // MARK: Methods

  private static let stringMethods: Set = [
    "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "startswith", "endswith", "replace", "upper", "lower",
    "title",
    "capitalize", "join", "find", "count", "removeprefix", "removesuffix", "isdigit", "isspace",
  ]
  private static let mapMethods: Set = ["get", "items", "keys", "values"]
  private static let listMethods: Set = ["index", "count"]
  /// Methods of Python that change or format something; their names are refused rather than not found.
  private static let refused: Set = [
    "append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse", "update", "setdefault", "popitem",
    "copy", "format",
    "format_map", "encode", "translate", "zfill", "center", "ljust", "rjust", "partition", "rpartition", "casefold",
    "swapcase",
    "expandtabs", "isalpha", "isalnum", "isupper", "islower", "istitle", "isnumeric", "isdecimal", "rfind", "rindex",
    "fromkeys",
  ]

  /// Whether Python's type has this method, be it built here or not.
  static func hasMethod(_ name: String, _ value: TemplateValue) -> Bool {
    switch value {
    case .string:
      stringMethods.contains(name) || name == "index"
        || (refused.contains(name)
          && ![
            "append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse", "update", "setdefault",
            "popitem", "copy", "fromkeys",
          ].contains(name))
    case .map:
      mapMethods.contains(name)
        || ["pop", "clear", "update", "setdefault", "popitem", "copy", "fromkeys"].contains(name)
    case .list(let list):
      listMethods.contains(name)
        || (!list.isTuple
          && ["append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse", "copy"].contains(name))
    default: false
    }
  }

  private func notBuilt(_ name: String, _ kind: String, at place: TemplatePlace) -> TemplateError {
    TemplateError(.unsupported, "the method '\(name)' of \(kind) is not built", at: place)
  }

  private func call(
    _ name: String,
    of text: String,
    _ given: TemplateGiven,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    // What each of them reads and makes at the most, but for `replace` and `join`.
    try spend(text.utf8.count / 16, at: place)
    try reserve(4 * text.utf8.count, at: place)
    func optional(_ index: Int, _ name: String) throws(TemplateError) -> String? {
      guard let value = given.value(index, name) else { return nil }
      if case .null = value { return nil }
      return try self.text(value, "'\(name)'", at: place)
    }
    func limit(_ index: Int, _ name: String) throws(TemplateError) -> Int? {
      guard let value = given.value(index, name) else { return nil }
      return try integer(value, name, at: place)
    }
    switch name {
    case "strip", "lstrip", "rstrip":
      try given.check(["chars"], of: name, at: place)
      let characters = try optional(0, "chars")
      return .string(TemplateStrings.stripped(text, characters, start: name != "rstrip", end: name != "lstrip"))
    case "split":
      try given.check(["sep", "maxsplit"], of: name, at: place)
      let separator = try optional(0, "sep")
      guard separator?.unicodeScalars.isEmpty != true else {
        throw TemplateError(.type, "split at an empty text", at: place)
      }
      let parts = TemplateStrings.split(text, separator, limit: try limit(1, "maxsplit"))
      return try list(parts.map { .string($0) }, at: place)
    case "splitlines":
      try given.check([], of: name, at: place)
      return try list(TemplateStrings.lines(text).map { .string($0) }, at: place)
    case "startswith", "endswith":
      try given.check(["prefix"], of: name, at: place)
      let value = given.value(0, "prefix") ?? .null
      var candidates = [value]
      if case .list(let list) = value, list.isTuple { candidates = list.items }
      for candidate in candidates {
        let part = try self.text(candidate, name, at: place).utf8
        try spend(part.count / 16, at: place)
        if name == "startswith" ? text.utf8.starts(with: part) : text.utf8.reversed().starts(with: part.reversed()) {
          return .bool(true)
        }
      }
      return .bool(false)
    case "replace":
      try given.check(["old", "new", "count"], of: name, at: place)
      let (old, new) = (
        try self.text(given.value(0, "old"), "replace", at: place),
        try self.text(given.value(1, "new"), "replace", at: place)
      )
      return try replace(text, old, new, limit: try limit(2, "count"), at: place)
    case "upper": return .string(text.uppercased())
    case "lower": return .string(text.lowercased())
    case "title": return .string(TemplateStrings.titled(text))
    case "capitalize": return .string(TemplateStrings.capitalised(text))
    case "join":
      try given.check(["iterable"], of: name, at: place)
      return try join(
        try elements(of: given.value(0, "iterable") ?? .null, at: place),
        by: text,
        isStrict: true,
        at: place
      )
    case "find", "count":
      try given.check(["sub"], of: name, at: place)
      let part = Array(try self.text(given.value(0, "sub"), name, at: place).utf8)
      let whole = Array(text.utf8)
      if name == "count" {
        return .integer(
          part.isEmpty ? text.unicodeScalars.count + 1 : TemplateStrings.places(of: part, in: whole).count
        )
      }
      guard let found = TemplateStrings.find(part, in: whole) else { return .integer(-1) }
      return .integer(String(decoding: whole[..<found], as: UTF8.self).unicodeScalars.count)
    case "removeprefix", "removesuffix":
      try given.check(["prefix"], of: name, at: place)
      let part = try self.text(given.value(0, "prefix"), name, at: place).utf8
      if name == "removeprefix" {
        return .string(text.utf8.starts(with: part) ? String(Substring(text.utf8.dropFirst(part.count))) : text)
      }
      let ends = text.utf8.reversed().starts(with: part.reversed())
      return .string(ends ? String(Substring(text.utf8.dropLast(part.count))) : text)
    case "isdigit":
      return .bool(
        !text.isEmpty
          && text.unicodeScalars.allSatisfy {
            $0.properties.numericType == .decimal || $0.properties.numericType == .digit
          }
      )
    case "isspace": return .bool(!text.isEmpty && text.unicodeScalars.allSatisfy(\.isTemplateSpace))
    default: throw notBuilt(name, "a string", at: place)
    }
  }

  private func call(
    _ name: String,
    of map: TemplateMap,
    _ given: TemplateGiven,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    try spend(map.pairs.count / 16, at: place)
    switch name {
    case "get":
      try given.check(["key", "default"], of: name, at: place)
      guard case .string(let key) = given.value(0, "key") else { return given.value(1, "default") ?? .null }
      return map[key] ?? given.value(1, "default") ?? .null
    case "items": return try items(of: map, at: place)
    case "keys": return try list(map.pairs.map { .string($0.key) }, at: place)
    case "values": return try list(map.pairs.map(\.value), at: place)
    default: throw notBuilt(name, "a mapping", at: place)
    }
  }

  /// Pairs of key and value.
  func items(of map: TemplateMap, at place: TemplatePlace) throws(TemplateError) -> TemplateValue {
    var pairs: [TemplateValue] = []
    for pair in map.pairs { pairs.append(try list([.string(pair.key), pair.value], isTuple: true, at: place)) }
    return try list(pairs, at: place)
  }

  private func call(
    _ name: String,
    of list: TemplateList,
    _ given: TemplateGiven,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    guard Self.listMethods.contains(name) else { throw notBuilt(name, "a list", at: place) }
    try given.check(["value"], of: name, at: place)
    let searched = given.value(0, "value") ?? .null
    try spend(list.items.count, at: place)
    var places: [Int] = []
    for (index, item) in list.items.enumerated() where try compare("==", item, searched, at: place) {
      places.append(index)
    }
    if name == "count" { return .integer(places.count) }
    guard let first = places.first else { throw TemplateError(.type, "the list has no such element", at: place) }
    return .integer(first)
  }

  private func call(
    _ name: String,
    of state: LoopState,
    _ given: TemplateGiven,
    at place: TemplatePlace
  ) throws(TemplateError) -> TemplateValue {
    if name == "cycle" {
      guard !given.positional.isEmpty else { throw TemplateError(.type, "loop.cycle needs values", at: place) }
      return given.positional[state.index % given.positional.count]
    }
    let before = state.lastChanged
    state.lastChanged = given.positional
    return .bool(before.map { !$0.elementsEqual(given.positional) { $0.equals($1) } } ?? true)
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
