import FedLoRACheckpoint
import FedLoRAFederation
import Foundation
import Testing

/// Every rule against numpy and scipy (`Tests/Oracles/make_robust_fixtures.py`).
@Suite("Robust rules beside their oracles")
struct RobustOracleTests {
  static let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures")

  /// One fixture.
  private struct Fixture {
    let all: TensorSet
    let metadata: [String: String]

    init(_ name: String) throws {
      let url = RobustOracleTests.fixtures.appendingPathComponent("robust-\(name).safetensors")
      all = try SafetensorsFile.read(url)
      metadata = try SafetensorsFile(opening: url).metadata
    }

    var clients: [String] { names("clients") }

    func names(_ key: String) -> [String] { (metadata[key] ?? "").split(separator: " ").map(String.init) }

    func number(_ key: String) throws -> Double { try #require(metadata[key].flatMap(Double.init)) }

    func set(_ label: String) throws -> TensorSet {
      let set = try TensorSet(
        all.entries.filter { $0.name.hasPrefix("\(label)/") }.map {
          (String($0.name.dropFirst(label.count + 1)), $0.tensor)
        }
      )
      try #require(set.count == 3)
      return set
    }

    func combine(_ kind: RobustRule.Kind) throws -> RobustOutcome {
      try RobustRule(kind, byzantine: Int(number("byzantine"))).combine(
        clients.map { UpdateRow(name: $0, tensors: try set($0)) },
        start: set("start")
      )
    }
  }

  /// The largest difference in units of the largest element.
  private func difference(_ found: TensorSet, _ wanted: TensorSet) -> Double {
    var (largest, scale) = (0.0, 0.0)
    for (left, right) in zip(found.entries, wanted.entries) {
      for (x, y) in zip(left.tensor.values, right.tensor.values) {
        largest = max(largest, abs(Double(x) - Double(y)))
        scale = max(scale, abs(Double(y)))
      }
    }
    return largest / scale
  }

  @Test("every rule gives what its oracle gives", arguments: ["seven", "eight", "eleven"])
  func oracle(name: String) throws {
    let fixture = try Fixture(name)
    let bound = try fixture.number("bound")
    let exact: [(String, RobustRule.Kind)] = [("median", .median), ("krum", .krum)]
    for (label, kind) in exact {
      // Both round a value, or the mean of two, once.
      #expect(try fixture.combine(kind).tensors == fixture.set(label), "\(label)")
    }
    // Sums of doubles in another order, rounded to floats: one unit in the last place of a float.
    let rounded: [(String, RobustRule.Kind)] = [
      ("norm-bound", .normBound(.stated(bound))), ("norm-multiple", .normBound(.medianTimes(0.8))),
      ("trimmed-count", .trimmedMean(fraction: 0)), ("trimmed-share", .trimmedMean(fraction: 0.3)),
      ("multi-krum", .multiKrum(keep: 0)), ("multi-krum-3", .multiKrum(keep: 3)),
    ]
    for (label, kind) in rounded {
      let difference = difference(try fixture.combine(kind).tensors, try fixture.set(label))
      #expect(difference <= 1.2e-7, "\(label)")
    }
    // Another way to the same minimum, which both find to about 1e-8.
    let median = try fixture.combine(.geometricMedian(smoothing: 1e-6, iterations: 1000))
    #expect(difference(median.tensors, try fixture.set("geometric-median")) <= 2e-7)
  }

  @Test("rules name whom they leave out and whom they scale down", arguments: ["seven", "eight", "eleven"])
  func names(name: String) throws {
    let fixture = try Fixture(name)
    func others(_ key: String) -> [String] { fixture.clients.filter { !fixture.names(key).contains($0) } }
    #expect(try fixture.combine(.krum).leftOut == others("krum"))
    #expect(try fixture.combine(.multiKrum(keep: 0)).leftOut == others("multi-krum"))
    #expect(try fixture.combine(.multiKrum(keep: 3)).leftOut == others("multi-krum-3"))
    let bounded = try fixture.combine(.normBound(.stated(try fixture.number("bound"))))
    #expect(bounded.scaledDown == fixture.names("over-bound") && bounded.leftOut.isEmpty)
    #expect(!bounded.scaledDown.isEmpty)
  }
}
