/// What one client's round costs: written to the ledger before its noise is drawn.
public struct LedgerCharge: Codable, Sendable, Equatable {
  /// The run that the round belongs to.
  public var runID: String
  /// The client's name in the run.
  public var client: String
  /// The round's number.
  public var round: Int
  /// The private steps: sampling, noise multiplier and how many.
  public var phase: PrivatePhase
  /// C: the norm to which each example's vector is clipped, above 0.
  public var clippingNorm: Double
  /// The aggregation strategy by name.
  public var strategy: String
  /// Whether the noise comes from a known seed, so that it protects nobody.
  public var seeded: Bool
  /// Anything for people.
  public var note: String?

  /// Takes the values as they are; the ledger checks them.
  public init(
    runID: String,
    client: String,
    round: Int,
    phase: PrivatePhase,
    clippingNorm: Double,
    strategy: String,
    seeded: Bool,
    note: String? = nil
  ) {
    self.runID = runID
    self.client = client
    self.round = round
    self.phase = phase
    self.clippingNorm = clippingNorm
    self.strategy = strategy
    self.seeded = seeded
    self.note = note
  }

  /// - Throws: `PrivacyParameterError` for what no step can have, or what the relation does not allow.
  func check(relation: NeighbouringRelation) throws {
    _ = try PrivatePhase(sampling: phase.sampling, noiseMultiplier: phase.noiseMultiplier, steps: phase.steps)
    guard clippingNorm > 0, clippingNorm.isFinite else {
      throw PrivacyParameterError.outOfRange("the clipping norm", clippingNorm, "above 0 and finite")
    }
    if case .fixedSize(let rate) = phase.sampling, relation != .replaceOne {
      throw PrivacyParameterError.outOfRange(
        "the rate of fixed-size sampling",
        rate,
        "in a ledger whose neighbours replace one; this one's \(relation.rawValue)"
      )
    }
  }
}
