/// The methods of strings, mappings, lists and `loop`.
extension TemplateRun {
  private static let stringMethods: Set = [
    "strip", "lstrip", "rstrip", "split", "splitlines", "startswith", "endswith", "replace", "upper", "lower", "title",
    "capitalize", "join", "find", "count", "removeprefix", "removesuffix", "isdigit", "isspace",
  ]
  private static let mapMethods: Set = ["get", "items", "keys", "values"]
  private static let listMethods: Set = ["index", "count"]

  // Methods that Python's types have and that are not built: a template that calls one is told its name, rather than that
  // there is nothing.
  private static let otherStringMethods: Set = [
    "format", "format_map", "encode", "translate", "zfill", "center", "ljust", "rjust", "partition", "rpartition",
    "casefold", "swapcase", "expandtabs", "isalpha", "isalnum", "isascii", "isupper", "islower", "istitle", "isnumeric",
    "isdecimal", "isidentifier", "isprintable", "rfind", "rindex", "index", "rsplit", "maketrans",
  ]
  private static let otherMapMethods: Set = ["pop", "clear", "update", "setdefault", "popitem", "copy", "fromkeys"]
  private static let otherListMethods: Set = [
    "append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse", "copy",
  ]

  /// Whether Python's type has this method, be it built here or not.
  static func hasMethod(_ name: String, _ value: TemplateValue) -> Bool {
    switch value {
    case .string: stringMethods.contains(name) || otherStringMethods.contains(name)
    case .map: mapMethods.contains(name) || otherMapMethods.contains(name)
    case .list(let list): listMethods.contains(name) || (!list.isTuple && otherListMethods.contains(name))
    default: false
    }
  }

  private func notBuilt(_ name: String, _ kind: String, at place: TemplatePlace) -> TemplateError {
    TemplateError(.unsupported, "the method '\(name)' of \(kind) is not built", at: place)
  }

  func call(
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

  func call(
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

  func call(
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

  func call(
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
}
