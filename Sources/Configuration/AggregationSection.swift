import FedLoRAFederation
import FedLoRAProtocol

/// How the updates of a round become one.
public struct AggregationSection: Codable, Sendable, Equatable {
  /// The rule.
  public var rule: AggregationName
  /// f: how many updates of a round may be hostile; 0 with the mean, else at least 1.
  public var byzantine: Int
  /// Norm bound: the largest norm of an update's difference; 0 takes `norm_multiple`.
  public var normBound: Double
  /// Norm bound: the largest norm in units of the median norm of the round.
  public var normMultiple: Double
  /// Trimmed mean: the share of values that is left out at each end; 0 leaves out `byzantine` values.
  public var trim: Double
  /// Multi-Krum: updates that are averaged; 0 takes all but `byzantine` and two more.
  public var keep: Int
  /// Geometric median: distances below it count as quadratic.
  public var smoothing: Double
  /// Geometric median: most steps.
  public var iterations: Int

  enum CodingKeys: String, CodingKey {
    case rule, byzantine
    case normBound = "norm_bound"
    case normMultiple = "norm_multiple"
    case trim, keep, smoothing, iterations
  }

  /// The defaults of what only one rule uses.
  private static let standard = (normMultiple: 1.0, smoothing: 1e-6, iterations: 100)

  /// The exact weighted mean.
  public static let mean = AggregationSection(
    rule: .mean,
    byzantine: 0,
    normBound: 0,
    normMultiple: standard.normMultiple,
    trim: 0,
    keep: 0,
    smoothing: standard.smoothing,
    iterations: standard.iterations
  )

  static let defaults = """
    aggregation:
      rule: mean
      byzantine: 0
      norm_bound: 0
      norm_multiple: 1
      trim: 0
      keep: 0
      smoothing: 0.000001
      iterations: 100
    """

  /// The rule in the words of a manifest. A number that only another rule uses stays in its place where it is not that rule's
  /// default, so that it is refused.
  var terms: AggregationTerms {
    var terms = AggregationTerms(rule: rule.rawValue)
    terms.byzantine = byzantine
    terms.normBound = normBound
    terms.trim = trim
    terms.keep = keep
    let standard = Self.standard
    let takesMultiple = rule == .normBound && normBound == 0
    if takesMultiple || normMultiple != standard.normMultiple { terms.normMultiple = normMultiple }
    if rule == .geometricMedian || smoothing != standard.smoothing { terms.smoothing = smoothing }
    if rule == .geometricMedian || iterations != standard.iterations { terms.iterations = iterations }
    return terms
  }

  /// Holds the section against itself and against the rest of the run.
  func validate(_ ranges: Ranges, cohort: CohortSection, strategy: StrategySection, privacy: PrivacySection) throws {
    for (key, value) in [("byzantine", byzantine), ("keep", keep), ("iterations", iterations)] {
      try ranges.atLeast(0, value, "aggregation.\(key)")
    }
    let weighting: Weighting =
      switch strategy.weighting {
      case "examples": .examples
      case "capped": .capped(strategy.weightCap)
      default: .uniform
      }
    let aggregation: Aggregation
    do {
      aggregation = try terms.aggregation()
      try aggregation.check(
        quorum: cohort.quorum,
        weighting: weighting,
        hasPrivateRelease: privacy.level == .client
      )
    } catch let error as AggregationTermError {
      throw ConfigurationError(source: ranges.source, key: error.path, reason: error.description)
    }
    do {
      try cohort.buffer()?.check(
        strategy: strategy.name,
        aggregation: aggregation,
        hasPrivateRelease: privacy.level == .client
      )
    } catch let error as BufferTermError {
      throw ConfigurationError(source: ranges.source, key: error.path, reason: error.description)
    }
  }

  /// What the manifest says; nil for the mean, so that the manifests of such runs stay as they were.
  var wire: WireAggregationSpec? {
    guard rule != .mean else { return nil }
    let terms = terms
    var spec = WireAggregationSpec()
    spec.rule = terms.rule
    spec.byzantine = UInt32(clamping: terms.byzantine)
    spec.normBound = terms.normBound
    spec.normMultiple = terms.normMultiple
    spec.trim = terms.trim
    spec.keep = UInt32(clamping: terms.keep)
    spec.smoothing = terms.smoothing
    spec.iterations = UInt32(clamping: terms.iterations)
    return spec
  }
}
