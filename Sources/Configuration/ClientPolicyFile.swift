import FedLoRAClient
import FedLoRADP
import FedLoRAFederation
import Foundation

extension ClientPolicy {
  /// Every key of a policy file with its standard value.
  public static let defaults = """
    levels: [none, record, client]
    max_epsilon: 8
    max_delta: 0.00001
    min_noise_multiplier: 0.3
    models: []
    strategies: []
    aggregations: []
    metrics: [loss]
    allow_seeded_noise: false
    declared_examples: 0
    """

  /// Reads a policy file; a missing key keeps its standard value.
  /// - Throws: `ConfigurationError` naming file and key.
  public static func load(_ url: URL) throws -> ClientPolicy {
    var yaml = try LayeredYAML(defaults: defaults)
    let text: String
    do { text = try String(contentsOf: url, encoding: .utf8) } catch {
      throw ConfigurationError(source: url.path, reason: "cannot be read as UTF-8 text")
    }
    try yaml.overlay(text, source: url.path)
    let policy = try yaml.decode(ClientPolicy.self, source: url.path)
    try policy.validate(Ranges(source: url.path))
    return policy
  }

  func validate(_ ranges: Ranges) throws {
    for level in levels { try ranges.oneOf(PrivacySection.Level.allCases.map(\.rawValue), level, "levels") }
    try ranges.positive(maxEpsilon, "max_epsilon")
    try ranges.require(maxDelta > 0 && maxDelta < 1, "max_delta", "is \(maxDelta), expected above 0 and below 1")
    try ranges.notNegative(minNoiseMultiplier, "min_noise_multiplier")
    for model in models {
      try ranges.require(
        model.count >= 8 && model.allSatisfy(\.isHexDigit),
        "models",
        "has '\(model)', expected a fingerprint or its first 8 or more hexadecimal digits"
      )
    }
    for name in strategies { try ranges.oneOf(StrategyName.allCases.map(\.rawValue), name, "strategies") }
    for name in aggregations { try ranges.oneOf(AggregationName.allCases.map(\.rawValue), name, "aggregations") }
    for metric in metrics { try ranges.oneOf(["loss"], metric, "metrics") }
    try ranges.atLeast(0, declaredExamples, "declared_examples")
  }
}
