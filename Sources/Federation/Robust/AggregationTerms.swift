/// A rule in the words and numbers of a manifest; 0 is what a rule does not use.
public struct AggregationTerms: Sendable, Equatable {
  /// The rule's name.
  public var rule: String
  /// f.
  public var byzantine = 0
  /// Norm bound: the largest norm of a difference.
  public var normBound = 0.0
  /// Norm bound: the same as a multiple of the median norm.
  public var normMultiple = 0.0
  /// Trimmed mean: the share that is left out at each end; 0 leaves out `byzantine` values.
  public var trim = 0.0
  /// Multi-Krum: how many updates are kept; 0 keeps all but `byzantine` and two more.
  public var keep = 0
  /// Geometric median: distances below it count as quadratic.
  public var smoothing = 0.0
  /// Geometric median: most steps.
  public var iterations = 0

  /// Terms with this rule's name and nothing else.
  public init(rule: String) { self.rule = rule }

  /// The rule that these terms describe.
  /// - Throws: `AggregationTermError` for an unknown name, a number out of range, and a number that the rule does not use.
  public func aggregation() throws -> Aggregation {
    guard let name = AggregationName(rawValue: rule) else { throw AggregationTermError.unknownRule(rule) }
    let numbers: [(field: String, value: Double, rules: Set<AggregationName>)] = [
      ("norm_bound", normBound, [.normBound]), ("norm_multiple", normMultiple, [.normBound]),
      ("trim", trim, [.trimmedMean]), ("keep", Double(keep), [.multiKrum]),
      ("smoothing", smoothing, [.geometricMedian]), ("iterations", Double(iterations), [.geometricMedian]),
    ]
    for number in numbers where number.value != 0 && !number.rules.contains(name) {
      throw AggregationTermError.notOfThisRule(field: number.field, value: number.value, rule: name)
    }
    let kind: RobustRule.Kind
    switch name {
    case .mean:
      guard byzantine == 0 else { throw AggregationTermError.meanWithstandsNobody(byzantine: byzantine) }
      return .mean
    case .normBound:
      guard normBound == 0 || normMultiple == 0 else { throw AggregationTermError.twoNormBounds }
      kind = .normBound(normBound != 0 ? .stated(normBound) : .medianTimes(normMultiple))
    case .median: kind = .median
    case .trimmedMean: kind = .trimmedMean(fraction: trim)
    case .krum: kind = .krum
    case .multiKrum: kind = .multiKrum(keep: keep)
    case .geometricMedian: kind = .geometricMedian(smoothing: smoothing, iterations: iterations)
    }
    return .robust(try RobustRule(kind, byzantine: byzantine))
  }
}

/// Why a rule's settings were refused.
public enum AggregationTermError: Error, Equatable, CustomStringConvertible {
  /// No rule has this name.
  case unknownRule(String)
  /// The mean was asked to withstand somebody.
  case meanWithstandsNobody(byzantine: Int)
  /// A robust rule was asked to withstand nobody.
  case namesNoAttackers(AggregationName)
  /// A number is out of its range.
  case outOfRange(field: String, value: Double, expected: String)
  /// A number was set that the rule does not use.
  case notOfThisRule(field: String, value: Double, rule: AggregationName)
  /// A norm and a multiple of the median norm were both given.
  case twoNormBounds
  /// A round of `quorum` updates could not withstand `byzantine` hostile ones.
  case quorumTooSmall(rule: AggregationName, byzantine: Int, quorum: Int, needed: Int, most: Int)
  /// Updates were to count by what clients say of themselves.
  case weighted(AggregationName)
  /// The coordinator is to noise a clipped sum, which is a mean.
  case privateRelease(AggregationName)

  /// The path of the setting that is at fault.
  public var path: String {
    switch self {
    case .unknownRule, .privateRelease: "aggregation.rule"
    case .meanWithstandsNobody, .namesNoAttackers: "aggregation.byzantine"
    case .outOfRange(let field, _, _), .notOfThisRule(let field, _, _): "aggregation.\(field)"
    case .twoNormBounds: "aggregation.norm_multiple"
    case .quorumTooSmall: "cohort.quorum"
    case .weighted: "strategy.weighting"
    }
  }

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .unknownRule(let name):
      "is '\(name)', expected \(AggregationName.allCases.map(\.rawValue).joined(separator: ", "))"
    case .meanWithstandsNobody(let byzantine):
      "is \(byzantine), but a mean withstands no hostile client; choose another aggregation.rule, or leave it out"
    case .namesNoAttackers(let rule):
      "is 0, but \(rule.rawValue) must know how many hostile clients of a round it is to withstand; give 1 or more, or use "
        + "the rule mean"
    case .outOfRange(_, let value, let expected): "is \(Self.text(value)), expected \(expected)"
    case .notOfThisRule(_, let value, let rule):
      "is \(Self.text(value)), which \(rule.rawValue) does not use; leave it out"
    case .twoNormBounds: "is given beside norm_bound; one of them says to which norm updates are scaled down"
    case .quorumTooSmall(let rule, let byzantine, let quorum, let needed, let most):
      "is \(quorum), but \(rule.rawValue) needs \(needed) updates to withstand \(byzantine) hostile ones; raise it, or lower "
        + "aggregation.byzantine to \(most == 0 ? "what a larger quorum allows (here even 1 is too many)" : "\(most)")"
    case .weighted(let rule):
      "must be 'uniform' with \(rule.rawValue): clients state their own number of examples, so a hostile one would choose how "
        + "many clients it counts for"
    case .privateRelease(let rule):
      "is '\(rule.rawValue)', but privacy level 'client' bounds what one client does to a clipped sum, and says nothing of "
        + "this rule's result; use mean, or privacy level 'record'"
    }
  }

  private static func text(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? String(Int(value)) : "\(value)"
  }
}
