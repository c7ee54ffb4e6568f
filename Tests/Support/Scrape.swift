import Foundation

/// What a test reads out of Prometheus' text format 0.0.4. Written from the format's description, not from the exporter.
package struct Scrape: Sendable {
  package struct Malformed: Error, CustomStringConvertible {
    package let description: String
  }

  /// The type of each metric.
  package private(set) var types: [String: String] = [:]
  /// The help of each metric.
  package private(set) var help: [String: String] = [:]
  /// Every sample, by its name and labels as they are written: `a_total{code="x"}`.
  package private(set) var samples: [String: Double] = [:]

  /// - Throws: `Malformed` for what the format does not allow, histograms whose counts do not add up included.
  package init(_ text: String) throws {
    guard text.hasSuffix("\n") else { throw Malformed(description: "the last line has no end") }
    for line in text.dropLast().split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("#") {
        let words = line.split(separator: " ", maxSplits: 3).map(String.init)
        guard words.count == 4, ["HELP", "TYPE"].contains(words[1]) else {
          throw Malformed(description: "\(line)")
        }
        if words[1] == "HELP" { help[words[2]] = words[3] } else { types[words[2]] = words[3] }
        continue
      }
      let pattern = #/([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*\})? ([^ ]+)/#
      guard let match = try pattern.wholeMatch(in: line) else { throw Malformed(description: "\(line)") }
      let key = "\(match.1)\(match.2.map(String.init) ?? "")"
      guard samples[key] == nil else { throw Malformed(description: "twice: \(key)") }
      switch match.3 {
      case "NaN": samples[key] = .nan
      case "+Inf": samples[key] = .infinity
      case "-Inf": samples[key] = -.infinity
      default:
        guard let number = Double(match.3) else { throw Malformed(description: "\(line)") }
        samples[key] = number
      }
      guard let type = type(of: String(match.1)) else { throw Malformed(description: "no type: \(line)") }
      if type == "counter", (samples[key] ?? 0) < 0 { throw Malformed(description: "\(line)") }
    }
    try checkHistograms()
  }

  private func type(of name: String) -> String? {
    if let type = types[name] { return type }
    for suffix in ["_bucket", "_sum", "_count"] where name.hasSuffix(suffix) {
      if types[String(name.dropLast(suffix.count))] == "histogram" { return "histogram" }
    }
    return nil
  }

  /// Cumulative counts do not fall, and the last is the number of observations.
  private func checkHistograms() throws {
    for (name, type) in types where type == "histogram" {
      var buckets: [String: [(Double, Double)]] = [:]
      for (key, value) in samples where key.hasPrefix("\(name)_bucket{") {
        guard let start = key.range(of: "le=\"", options: .backwards) else { throw Malformed(description: key) }
        let bound = key[start.upperBound...].prefix { $0 != "\"" }
        let rest = String(key[..<start.lowerBound].dropFirst("\(name)_bucket".count))
        buckets[rest, default: []].append((bound == "+Inf" ? .infinity : Double(bound) ?? .nan, value))
      }
      for (labels, found) in buckets {
        let sorted = found.sorted { $0.0 < $1.0 }
        guard zip(sorted, sorted.dropFirst()).allSatisfy({ $0.1 <= $1.1 }), sorted.last?.0 == .infinity else {
          throw Malformed(description: "the buckets of \(name)\(labels) fall, or have no last one")
        }
        let inner = labels.dropFirst().drop { $0 == "," }
        let own = inner.hasSuffix(",") ? inner.dropLast() : inner
        guard samples["\(name)_count" + (own.isEmpty ? "" : "{\(own)}")] == sorted.last?.1 else {
          throw Malformed(description: "the count of \(name)\(labels) is not that of its last bucket")
        }
      }
    }
  }

  /// A sample's value.
  package subscript(_ key: String) -> Double? { samples[key] }

  /// All samples of a metric added up.
  package func sum(of name: String) -> Double {
    samples.filter { $0.key == name || $0.key.hasPrefix(name + "{") }.values.reduce(0, +)
  }
}
