/// A value while a template runs. It knows nothing of the host's objects: what a template can reach is what stands here.
enum TemplateValue {
  /// A name, key or index that is not there: prints nothing, is false, and refuses everything else.
  case undefined(String)
  case null
  case bool(Bool)
  case integer(Int)
  case double(Double)
  case string(String)
  case list(TemplateList)
  case map(TemplateMap)
  case namespace(TemplateNamespace)
  case loop(LoopState)
  case macro(TemplateMacro)
  case function(TemplateFunction)
  /// A method that is yet to be called.
  indirect case method(of: TemplateValue, String)

  /// What Python calls the kind of value, for messages.
  var kind: String {
    switch self {
    case .undefined(let name): "'\(name)', which is not defined"
    case .null: "none"
    case .bool: "a truth value"
    case .integer, .double: "a number"
    case .string: "a string"
    case .list(let list): list.isTuple ? "a tuple" : "a list"
    case .map: "a mapping"
    case .namespace: "a namespace"
    case .loop: "the loop"
    case .macro(let macro): "the macro '\(macro.name)'"
    case .function(let function): "the function '\(function.rawValue)'"
    case .method(_, let name): "the method '\(name)'"
    }
  }

  var isTrue: Bool {
    switch self {
    case .undefined, .null: false
    case .bool(let value): value
    case .integer(let value): value != 0
    case .double(let value): value != 0
    case .string(let text): !text.unicodeScalars.isEmpty
    case .list(let list): !list.items.isEmpty
    case .map(let map): !map.pairs.isEmpty
    case .namespace, .loop, .macro, .function, .method: true
    }
  }

  var isUndefined: Bool {
    if case .undefined = self { return true }
    return false
  }

  /// Lists and mappings inside each other.
  var depth: Int {
    switch self {
    case .list(let list): list.depth
    case .map(let map): map.depth
    default: 0
    }
  }

  /// The number that a truth value or an integer is in Python.
  var integer: Int? {
    switch self {
    case .bool(let value): value ? 1 : 0
    case .integer(let value): value
    default: nil
    }
  }

  var number: Double? {
    if case .double(let value) = self { return value }
    return integer.map { Double($0) }
  }

  /// Python's `==`: numbers by value, texts scalar for scalar.
  func equals(_ other: TemplateValue) -> Bool {
    if let left = integer, let right = other.integer { return left == right }
    if let left = number, let right = other.number { return left == right }
    switch (self, other) {
    case (.null, .null), (.undefined, .undefined): return true
    case (.string(let left), .string(let right)): return left.utf8.elementsEqual(right.utf8)
    case (.list(let left), .list(let right)):
      return left.isTuple == right.isTuple && left.items.elementsEqual(right.items) { $0.equals($1) }
    case (.map(let left), .map(let right)):
      return left.pairs.count == right.pairs.count
        && left.pairs.allSatisfy { pair in right[pair.key].map { $0.equals(pair.value) } ?? false }
    case (.namespace(let left), .namespace(let right)): return left === right
    default: return false
    }
  }
}

/// A list or tuple; it never changes.
final class TemplateList {
  let items: [TemplateValue]
  let isTuple: Bool
  let depth: Int

  init(_ items: [TemplateValue], isTuple: Bool = false) {
    (self.items, self.isTuple) = (items, isTuple)
    depth = 1 + items.reduce(0) { max($0, $1.depth) }
  }
}

/// A mapping with texts as keys, in their order; it never changes.
final class TemplateMap {
  let pairs: [(key: String, value: TemplateValue)]
  let depth: Int

  /// Of equal keys the last value counts, at the first one's place.
  init(_ pairs: [(key: String, value: TemplateValue)]) {
    var places: [[UInt8]: Int] = [:]
    var kept: [(key: String, value: TemplateValue)] = []
    for pair in pairs {
      let key = Array(pair.key.utf8)
      if let place = places[key] {
        kept[place].value = pair.value
      } else {
        places[key] = kept.count
        kept.append(pair)
      }
    }
    self.pairs = kept
    depth = 1 + kept.reduce(0) { max($0, $1.value.depth) }
  }

  subscript(key: String) -> TemplateValue? { pairs.first { $0.key.utf8.elementsEqual(key.utf8) }?.value }
}

/// `namespace(…)`: what a template may change.
final class TemplateNamespace {
  var values: [String: TemplateValue] = [:]
}

/// `loop`.
final class LoopState {
  let items: [TemplateValue]
  var index = 0
  var lastChanged: [TemplateValue]?

  init(_ items: [TemplateValue]) { self.items = items }
}

/// The functions that a template finds.
enum TemplateFunction: String, CaseIterable {
  case range, namespace, dict
  case raise = "raise_exception"
  case now = "strftime_now"
}

extension TemplateValue {
  /// A JSON value.
  init(_ node: JSONNode) {
    switch node {
    case .null: self = .null
    case .bool(let value): self = .bool(value)
    case .integer(let value): self = .integer(value)
    case .double(let value): self = .double(value)
    case .string(let text): self = .string(text)
    case .array(let items): self = .list(TemplateList(items.map { TemplateValue($0) }))
    case .object(let members): self = .map(TemplateMap(members.map { ($0.key, TemplateValue($0.value)) }))
    }
  }
}
