/// The words of Prometheus' text format 0.0.4
/// (https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format).
enum PrometheusText {
  /// The media type of a whole answer.
  static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  /// A number as Go's `ParseFloat` reads it back without a loss.
  static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    // Whole numbers without a point, as long as they are exact.
    if value == value.rounded(), abs(value) < 1e15 { return String(Int64(value)) }
    return value.description
  }

  /// In a HELP line a backslash and an end of line are escaped.
  static func escaped(help: String) -> String {
    var result = ""
    for character in help.unicodeScalars {
      switch character {
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      default: result.unicodeScalars.append(character)
      }
    }
    return result
  }

  /// In a label's value a quotation mark is escaped too.
  static func escaped(value: String) -> String {
    var result = ""
    for character in value.unicodeScalars {
      switch character {
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\"": result += "\\\""
      default: result.unicodeScalars.append(character)
      }
    }
    return result
  }

  /// A name of the characters that a metric's may have; others become underscores.
  static func metricName(_ name: String) -> String { cleaned(name, allowsColon: true) }

  /// A name of the characters that a label's may have. Names with two leading underscores are Prometheus' own.
  static func labelName(_ name: String) -> String {
    let clean = cleaned(name, allowsColon: false)
    return clean.hasPrefix("__") ? "label" + clean : clean
  }

  private static func cleaned(_ name: String, allowsColon: Bool) -> String {
    var result = ""
    for character in name.unicodeScalars {
      let isDigit = ("0"..."9").contains(character)
      let isLetter = ("a"..."z").contains(character) || ("A"..."Z").contains(character) || character == "_"
      if isDigit, result.isEmpty { result += "_" }
      if isDigit || isLetter || (allowsColon && character == ":") {
        result.unicodeScalars.append(character)
      } else {
        result += "_"
      }
    }
    return result.isEmpty ? "_" : result
  }

  /// `{a="1",b="2"}`, or nothing where there are no labels.
  static func labels(_ labels: [SeriesLabels.Label], adding last: SeriesLabels.Label? = nil) -> String {
    let all = last.map { labels + [$0] } ?? labels
    if all.isEmpty { return "" }
    return "{" + all.map { "\($0.name)=\"\(escaped(value: $0.value))\"" }.joined(separator: ",") + "}"
  }
}

/// The labels by which one series of a metric is told from the others: in order, each name once.
struct SeriesLabels: Hashable, Sendable, Comparable {
  struct Label: Hashable, Sendable {
    let name: String
    let value: String
  }
  let labels: [Label]

  /// - Parameter reserved: a name that the format gives a meaning of its own.
  init(_ dimensions: [(String, String)], reserved: String? = nil) {
    var values: [String: String] = [:]
    for (name, value) in dimensions {
      let name = PrometheusText.labelName(name)
      values[name == reserved ? "exported_\(name)" : name] = value
    }
    labels = values.sorted { $0.key < $1.key }.map { Label(name: $0.key, value: $0.value) }
  }

  static func < (left: SeriesLabels, right: SeriesLabels) -> Bool {
    left.labels.lexicographicallyPrecedes(right.labels) { ($0.name, $0.value) < ($1.name, $1.value) }
  }
}
