/// Which clients of a simulation are hostile, and what they send. Which of them they are follows from the seed.
public struct PoisonSection: Codable, Sendable, Equatable {
  /// What a hostile client sends in the place of what it trained. d is the difference between what it trained, as an honest
  /// client would, and what it was sent.
  public enum Attack: String, Codable, Sendable, CaseIterable {
    /// Sent − factor·d: away from where honest training leads.
    case signFlip = "sign-flip"
    /// Sent + factor·d: its own data count for more than those of others.
    case scale
    /// Sent + normal noise with factor times the root mean square of d in each coordinate.
    case noise
    /// Training on labels that are each exchanged for the next one; then sent + factor·d.
    case labelFlip = "label-flip"
    /// Zeros: what was learnt so far is wiped out.
    case zero
  }

  /// How many clients are hostile; 0 for none.
  public var clients: Int
  /// What they send.
  public var attack: Attack
  /// How much of it; above 0. Has no part in `zero`.
  public var factor: Double

  static let defaults = """
    poison:
      clients: 0
      attack: sign-flip
      factor: 1
    """

  func validate(_ ranges: Ranges, clients section: ScenarioConfiguration.ClientsSection) throws {
    try ranges.atLeast(0, clients, "poison.clients")
    try ranges.require(
      section.partition == .natural || clients == 0 || clients < section.count,
      "poison.clients",
      "is \(clients), but there are \(section.count) clients; somebody must be honest, since accuracy is theirs"
    )
    try ranges.positive(factor, "poison.factor")
  }
}
