import FedLoRAFederation
import Testing

@Suite("Terms of aggregation")
struct AggregationTermsTests {
  private func terms(_ rule: String, _ change: (inout AggregationTerms) -> Void = { _ in }) -> AggregationTerms {
    var terms = AggregationTerms(rule: rule)
    if rule != "mean" { terms.byzantine = 2 }
    switch rule {
    case "norm-bound": terms.normMultiple = 1
    case "geometric-median": (terms.smoothing, terms.iterations) = (1e-6, 100)
    default: break
    }
    change(&terms)
    return terms
  }

  @Test("of every rule are read by its name")
  func names() throws {
    for name in AggregationName.allCases {
      #expect(try terms(name.rawValue).aggregation().name == name)
    }
    #expect(try terms("mean").aggregation() == .mean)
    let stated = try terms("norm-bound") { ($0.normBound, $0.normMultiple) = (3, 0) }.aggregation()
    #expect(stated == .robust(try RobustRule(.normBound(.stated(3)), byzantine: 2)))
  }

  struct Refusal: Sendable, CustomTestStringConvertible {
    let rule: String
    let path: String
    let change: @Sendable (inout AggregationTerms) -> Void
    var testDescription: String { "\(rule), \(path)" }

    init(_ rule: String, _ path: String, _ change: @escaping @Sendable (inout AggregationTerms) -> Void) {
      (self.rule, self.path, self.change) = (rule, path, change)
    }
  }

  @Test(
    "are refused by the path of what is at fault",
    arguments: [
      Refusal("mode", "aggregation.rule") { _ in }, Refusal("mean", "aggregation.byzantine") { $0.byzantine = 1 },
      Refusal("median", "aggregation.byzantine") { $0.byzantine = 0 },
      Refusal("median", "aggregation.byzantine") { $0.byzantine = -1 },
      Refusal("krum", "aggregation.byzantine") { $0.byzantine = 2_000_000 },
      Refusal("mean", "aggregation.trim") { $0.trim = 0.1 }, Refusal("krum", "aggregation.keep") { $0.keep = 3 },
      Refusal("median", "aggregation.norm_bound") { $0.normBound = 1 },
      Refusal("median", "aggregation.norm_multiple") { $0.normMultiple = 1 },
      Refusal("krum", "aggregation.smoothing") { $0.smoothing = 1 },
      Refusal("krum", "aggregation.iterations") { $0.iterations = 1 },
      Refusal("norm-bound", "aggregation.norm_multiple") { $0.normBound = 1 },
      Refusal("norm-bound", "aggregation.norm_multiple") { $0.normMultiple = 0 },
      Refusal("norm-bound", "aggregation.norm_multiple") { $0.normMultiple = .infinity },
      Refusal("norm-bound", "aggregation.norm_bound") { ($0.normBound, $0.normMultiple) = (-1, 0) },
      Refusal("norm-bound", "aggregation.norm_bound") { ($0.normBound, $0.normMultiple) = (.nan, 0) },
      Refusal("trimmed-mean", "aggregation.trim") { $0.trim = 0.5 },
      Refusal("trimmed-mean", "aggregation.trim") { $0.trim = -0.1 },
      Refusal("trimmed-mean", "aggregation.trim") { $0.trim = .nan },
      Refusal("multi-krum", "aggregation.keep") { $0.keep = -1 },
      Refusal("geometric-median", "aggregation.smoothing") { $0.smoothing = 0 },
      Refusal("geometric-median", "aggregation.smoothing") { $0.smoothing = .nan },
      Refusal("geometric-median", "aggregation.iterations") { $0.iterations = 0 },
      Refusal("geometric-median", "aggregation.iterations") { $0.iterations = 10_001 },
    ]
  )
  func refusals(refusal: Refusal) {
    let error = #expect(throws: AggregationTermError.self) {
      try terms(refusal.rule, refusal.change).aggregation()
    }
    #expect(error?.path == refusal.path)
  }

  @Test("say how many updates withstand how many hostile ones, and both ways agree")
  func breakdown() throws {
    let kinds: [(RobustRule.Kind, least: [Int])] = [
      (.normBound(.stated(1)), [2, 3, 4]), (.normBound(.medianTimes(1)), [3, 5, 7]), (.median, [3, 5, 7]),
      (.trimmedMean(fraction: 0), [3, 5, 7]), (.trimmedMean(fraction: 0.2), [5, 10, 15]),
      (.trimmedMean(fraction: 0.49), [3, 5, 7]), (.krum, [5, 7, 9]), (.multiKrum(keep: 0), [5, 7, 9]),
      (.multiKrum(keep: 6), [7, 8, 9]), (.geometricMedian(smoothing: 1, iterations: 1), [3, 5, 7]),
    ]
    for (kind, least) in kinds {
      for byzantine in 1...3 {
        let rule = try RobustRule(kind, byzantine: byzantine)
        #expect(rule.leastUpdates == least[byzantine - 1], "\(kind), \(byzantine)")
        #expect(rule.mostByzantine(updates: rule.leastUpdates) >= byzantine, "\(kind), \(byzantine)")
        #expect(rule.mostByzantine(updates: rule.leastUpdates - 1) < byzantine, "\(kind), \(byzantine)")
      }
    }
    // 0.29·100 is a little less than 29 in binary.
    #expect(try RobustRule(.trimmedMean(fraction: 0.29), byzantine: 29).leastUpdates == 100)
    #expect(try RobustRule(.trimmedMean(fraction: 1e-300), byzantine: 1).leastUpdates > 1_000_000)
  }

  @Test("are held against quorum, weights and privacy")
  func combinations() throws {
    let krum = try terms("krum").aggregation()
    try krum.check(quorum: 7, weighting: .uniform, hasPrivateRelease: false)
    let small = AggregationTermError.quorumTooSmall(rule: .krum, byzantine: 2, quorum: 6, needed: 7, most: 1)
    #expect(throws: small) { try krum.check(quorum: 6, weighting: .uniform, hasPrivateRelease: false) }
    #expect(small.path == "cohort.quorum" && small.description.contains("needs 7 updates to withstand 2"))
    for name in AggregationName.allCases where name != .mean {
      let rule = try terms(name.rawValue).aggregation()
      for weighting in [Weighting.examples, .capped(3)] {
        #expect(throws: AggregationTermError.weighted(name)) {
          try rule.check(quorum: 9, weighting: weighting, hasPrivateRelease: false)
        }
      }
      #expect(throws: AggregationTermError.privateRelease(name)) {
        try rule.check(quorum: 9, weighting: .uniform, hasPrivateRelease: true)
      }
    }
    try Aggregation.mean.check(quorum: 1, weighting: .examples, hasPrivateRelease: true)
  }
}
