/// Values as text: Python's `str` and `repr`, and `json.dumps`.
extension TemplateValue {
  /// What a template prints of a value.
  /// - Throws: `.unsupported` for what has no text of its own.
  func text(at place: TemplatePlace) throws(TemplateError) -> String {
    switch self {
    case .undefined: return ""
    case .null: return "None"
    case .bool(let value): return value ? "True" : "False"
    case .integer(let value): return "\(value)"
    case .double(let value): return "\(value)"
    case .string(let text): return text
    case .list(let list):
      var parts: [String] = []
      for item in list.items { parts.append(try item.quoted(at: place)) }
      let joined = parts.joined(separator: ", ")
      return list.isTuple ? "(\(joined)\(parts.count == 1 ? "," : ""))" : "[\(joined)]"
    case .map(let map):
      var parts: [String] = []
      for (key, value) in map.pairs {
        parts.append("\(Self.quoted(key)): \(try value.quoted(at: place))")
      }
      return "{\(parts.joined(separator: ", "))}"
    case .namespace, .loop, .macro, .function, .method:
      throw TemplateError(.unsupported, "\(kind) has no text", at: place)
    }
  }

  private func quoted(at place: TemplatePlace) throws(TemplateError) -> String {
    switch self {
    case .string(let text): return Self.quoted(text)
    case .undefined: return "Undefined"
    default: return try text(at: place)
    }
  }

  /// Python's `repr` of a text; characters that Python does not print and that are no control characters stay as they are.
  private static func quoted(_ text: String) -> String {
    let quote: Unicode.Scalar = text.unicodeScalars.contains("'") && !text.unicodeScalars.contains("\"") ? "\"" : "'"
    var result = String.UnicodeScalarView([quote])
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": result.append(contentsOf: "\\n".unicodeScalars)
      case "\r": result.append(contentsOf: "\\r".unicodeScalars)
      case "\t": result.append(contentsOf: "\\t".unicodeScalars)
      case "\\", quote: result.append(contentsOf: ["\\", scalar])
      default:
        if scalar.value < 0x20 || (0x7F...0xA0).contains(scalar.value) || scalar.value == 0xAD {
          let digits = String(scalar.value, radix: 16)
          result.append(contentsOf: "\\x\(digits.count < 2 ? "0" : "")\(digits)".unicodeScalars)
        } else {
          result.append(scalar)
        }
      }
    }
    result.append(quote)
    return String(result)
  }

  /// How JSON is laid out.
  struct JSONLayout {
    /// What stands before a line for each level; nil for one line.
    var indent: String?
    var itemSeparator = ", "
    var keySeparator = ": "
    var sortsKeys = false
    var isASCII = false
  }

  /// As Python's `json.dumps`.
  func json(_ layout: JSONLayout, level: Int = 0, at place: TemplatePlace) throws(TemplateError) -> String {
    switch self {
    case .null: return "null"
    case .bool(let value): return value ? "true" : "false"
    case .integer, .double: return try text(at: place)
    case .string(let text): return Self.json(text, isASCII: layout.isASCII)
    case .list(let list):
      var parts: [String] = []
      for item in list.items { parts.append(try item.json(layout, level: level + 1, at: place)) }
      return Self.laidOut(parts, "[", "]", layout, level)
    case .map(let map):
      let pairs =
        layout.sortsKeys
        ? map.pairs.sorted { $0.key.unicodeScalars.lexicographicallyPrecedes($1.key.unicodeScalars) } : map.pairs
      var parts: [String] = []
      for (key, value) in pairs {
        let text = try value.json(layout, level: level + 1, at: place)
        parts.append(Self.json(key, isASCII: layout.isASCII) + layout.keySeparator + text)
      }
      return Self.laidOut(parts, "{", "}", layout, level)
    default: throw TemplateError(.type, "\(kind) is nothing that JSON has", at: place)
    }
  }

  private static func laidOut(
    _ parts: [String],
    _ open: String,
    _ close: String,
    _ layout: JSONLayout,
    _ level: Int
  ) -> String {
    guard let indent = layout.indent, !parts.isEmpty else {
      return open + parts.joined(separator: layout.itemSeparator) + close
    }
    let inner = "\n" + String(repeating: indent, count: level + 1)
    return open + inner + parts.joined(separator: layout.itemSeparator + inner) + "\n"
      + String(repeating: indent, count: level) + close
  }

  private static func json(_ text: String, isASCII: Bool) -> String {
    var result = String.UnicodeScalarView(["\""])
    func append(_ unit: UInt16) {
      let digits = String(unit, radix: 16)
      result.append(contentsOf: ("\\u" + String(repeating: "0", count: 4 - digits.count) + digits).unicodeScalars)
    }
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result.append(contentsOf: "\\\"".unicodeScalars)
      case "\\": result.append(contentsOf: "\\\\".unicodeScalars)
      case "\n": result.append(contentsOf: "\\n".unicodeScalars)
      case "\r": result.append(contentsOf: "\\r".unicodeScalars)
      case "\t": result.append(contentsOf: "\\t".unicodeScalars)
      case "\u{8}": result.append(contentsOf: "\\b".unicodeScalars)
      case "\u{C}": result.append(contentsOf: "\\f".unicodeScalars)
      default:
        if scalar.value < 0x20 {
          append(UInt16(scalar.value))
        } else if isASCII, scalar.value > 0x7E {
          if scalar.value == 0x7F { result.append(scalar) } else { for unit in scalar.utf16 { append(unit) } }
        } else {
          result.append(scalar)
        }
      }
    }
    result.append("\"")
    return String(result)
  }
}
