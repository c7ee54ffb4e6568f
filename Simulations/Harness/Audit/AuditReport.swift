import Foundation

/// What an audit has found.
public struct AuditReport: Encodable, Sendable, Equatable {
  /// What the bounds say about a claim.
  public enum Verdict: String, Encodable, Sendable {
    /// No bound is above the claim. That proves nothing: another attack may be better.
    case sound
    /// A configuration that should be sound leaks more than it claims.
    case leaks
    /// A mistake made on purpose was seen.
    case caught
    /// A mistake made on purpose was not seen: with these options the audit cannot be relied on.
    case missed

    /// What a lower bound says about a claim.
    package init(isBroken: Bool, claimed: Double, lowerBound: Double) {
      self =
        switch (isBroken, lowerBound > claimed) {
        case (false, false): .sound
        case (false, true): .leaks
        case (true, true): .caught
        case (true, false): .missed
        }
    }

    /// Whether it is as it should be.
    public var isAsExpected: Bool { self == .sound || self == .caught }
  }

  /// One configuration.
  public struct Row: Encodable, Sendable, Equatable {
    /// Its name.
    public let name: String
    /// Whether it makes a mistake on purpose.
    public let isBroken: Bool
    /// The ε that the accountant gives.
    public let claimed: Double
    /// The lower bound for any mechanism.
    public let generalBound: Double
    /// The lower bound for one that is claimed to be Gaussian.
    public let gaussianBound: Double

    /// With the confidence of the table, ε is not below this if the mechanism is what it is claimed to be.
    public var lowerBound: Double { max(generalBound, gaussianBound) }
    /// What that says about the claim.
    public var verdict: Verdict { Verdict(isBroken: isBroken, claimed: claimed, lowerBound: lowerBound) }

    enum CodingKeys: String, CodingKey {
      case name
      case isBroken = "broken_on_purpose"
      case claimed = "claimed_epsilon"
      case lowerBound = "lower_bound"
      case generalBound = "general_bound"
      case gaussianBound = "gaussian_bound"
      case verdict
    }

    /// All of it, the verdict included.
    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(name, forKey: .name)
      try container.encode(isBroken, forKey: .isBroken)
      try container.encode(claimed, forKey: .claimed)
      try container.encode(lowerBound, forKey: .lowerBound)
      try container.encode(generalBound, forKey: .generalBound)
      try container.encode(gaussianBound, forKey: .gaussianBound)
      try container.encode(verdict, forKey: .verdict)
    }
  }

  /// One row for each configuration.
  public let rows: [Row]
  /// Runs in each of the two worlds.
  public let runs: Int
  /// Steps of a run.
  public let steps: Int
  /// The claimed noise in units of the clipping norm.
  public let noiseMultiplier: Double
  /// The δ of all ε here.
  public let delta: Double
  /// The probability with which all bounds of the table hold together.
  public let confidence: Double
  /// The probability with which a single bound may be wrong.
  public let significance: Double
  /// Whether the noise came from a seed.
  public let isSeeded: Bool
  /// Seconds that it took.
  public let seconds: Double

  enum CodingKeys: String, CodingKey {
    case rows
    case runs = "runs_per_world"
    case steps
    case noiseMultiplier = "noise_multiplier"
    case delta, confidence
    case significance = "significance_of_one_bound"
    case isSeeded = "seeded"
    case seconds
  }

  /// Whether no sound configuration leaks and every broken one was caught.
  public var hasPassed: Bool { rows.allSatisfy(\.verdict.isAsExpected) }

  /// The table for people.
  public var table: String {
    func short(_ value: Double) -> String { String(format: "%.2f", value) }
    return TextTable.draw(
      ["configuration", "claimed epsilon", "lower bound", "for any mechanism", "verdict"],
      rows.map { row in
        [row.name, short(row.claimed), short(row.lowerBound), short(row.generalBound), row.verdict.text]
      }
    )
  }
}

extension AuditReport.Verdict {
  /// In words.
  var text: String {
    switch self {
    case .sound: "sound"
    case .leaks: "LEAKS"
    case .caught: "BROKEN: caught"
    case .missed: "BROKEN: NOT CAUGHT"
    }
  }
}
