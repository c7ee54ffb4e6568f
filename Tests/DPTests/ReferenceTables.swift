import FedLoRADP
import Foundation

/// Tables of values by other programs, which lie beside the checkout on some machines; empty where they do not.
enum ReferenceTables {
  struct Row: Sendable, CustomStringConvertible {
    let fields: [String: String]
    let description: String

    func number(_ name: String) -> Double { fields[name].flatMap(Double.init) ?? .nan }
    func count(_ name: String) -> Int { Int(number(name)) }
  }

  static func rows(_ name: String) -> [Row] {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../../shared/reference/dp").standardizedFileURL
    guard let text = try? String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8) else { return [] }
    let lines = text.split(whereSeparator: \.isNewline)
    guard let header = lines.first?.split(separator: ",").map(String.init) else { return [] }
    return lines.dropFirst().map { line in
      let values = line.split(separator: ",", maxSplits: header.count - 1).map(String.init)
      return Row(fields: Dictionary(uniqueKeysWithValues: zip(header, values)), description: String(line.prefix(60)))
    }
  }
}

/// A phase with Poisson sampling.
func poisson(_ rate: Double, _ sigma: Double, _ steps: Int) throws -> PrivatePhase {
  try PrivatePhase(sampling: .poisson(rate: rate), noiseMultiplier: sigma, steps: steps)
}

let addOrRemove = PrivacyAccountant(relation: .addOrRemoveOne)
