import FedLoRADP

/// Why the privacy terms of a run were refused; the names are those of the manifest's fields.
public enum PrivacyTermError: Error, Equatable, CustomStringConvertible {
  /// A number is outside its range.
  case outOfRange(field: String, value: Double, expected: String)
  /// A word is not known.
  case unknown(field: String, value: String, expected: [String])
  /// A field is set that has no meaning at this level.
  case notAtThisLevel(field: String, level: String)
  /// Samples of a fixed size under a relation for which nothing is proven about them.
  case fixedSizeNeedsReplaceOne(NeighbouringRelation)
  /// Without noise there is no epsilon to promise.
  case noNoise(epsilon: Double)
  /// The bits of the quantile would spend more than the whole release may.
  case bitsTakeAll(noiseMultiplier: Double, quantileNoise: Double)
  /// No weight bounds what one client adds.
  case unboundedWeights
  /// Cohorts are chosen by a rule that everybody can follow.
  case publicSelection(String)

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .outOfRange(let field, let value, let expected): "privacy: \(field) is \(value), expected \(expected)"
    case .unknown(let field, let value, let expected):
      "privacy: \(field) '\(value)' is not known, expected " + expected.map { "'\($0)'" }.joined(separator: " or ")
    case .notAtThisLevel(let field, let level): "privacy: \(field) has no meaning at level '\(level)'; leave it out"
    case .fixedSizeNeedsReplaceOne(let relation):
      "privacy: sampling 'fixed-size' is accounted for under relation 'replace-one' only, not under "
        + "'\(relation.rawValue)'; use 'poisson' or the other relation"
    case .noNoise(let epsilon):
      "privacy: noise_multiplier is 0, which keeps no epsilon; epsilon is \(epsilon), expected infinity, or some noise"
    case .bitsTakeAll(let multiplier, let noise):
      "privacy: noise_multiplier \(multiplier) must be below twice quantile_noise \(noise): otherwise the bits of the "
        + "clipping quantile alone spend more than the round may; raise quantile_noise"
    case .unboundedWeights:
      "privacy: weighting 'examples' has no largest weight, so no noise hides a client with many examples; use "
        + "'uniform' or 'capped' at level 'client'"
    case .publicSelection(let selection):
      "privacy: cohort selection '\(selection)' is not for level 'client', where cohorts are drawn by the privacy's own "
        + "sampling from secret randomness; leave it out"
    }
  }

  static func check(_ field: String, _ value: Double, _ isInRange: Bool, _ expected: String) throws {
    guard isInRange else { throw PrivacyTermError.outOfRange(field: field, value: value, expected: expected) }
  }

  static func check(positive field: String, _ value: Double) throws {
    try check(field, value, value > 0 && value.isFinite, "above 0 and finite")
  }

  static func check(epsilon: Double, delta: Double, noiseMultiplier: Double) throws {
    try check("epsilon", epsilon, epsilon > 0, "above 0")
    try check("delta", delta, delta > 0 && delta < 1, "above 0 and below 1")
    guard noiseMultiplier > 0 || epsilon == .infinity else { throw PrivacyTermError.noNoise(epsilon: epsilon) }
  }
}
