/// Everything about one simulated run that its seed decides.
package struct FaultSettings: Sendable {
  let clients: Int
  let rounds: Int
  let perRound: Int
  let quorum: Int
  /// Whether training the same round again would give other bytes, as it does under differential privacy.
  let isNoised: Bool
  /// Mean time between two faults.
  let calm: Duration
  /// From then on there are no faults, and everything must come to its end.
  let faultsUntil: Duration
  /// Longest delay of a message.
  let longestDelay: Int
  /// How often a message arrives twice.
  let duplicates: Double
  /// Which kinds of faults there are.
  let kinds: [FaultKind]

  package enum FaultKind: CaseIterable, Sendable {
    case cutConnection, partition
    case killClient, clientPowerFailure, clientDownWhileWriting, clientDiskFull
    case killCoordinator, coordinatorPowerFailure, coordinatorDownWhileWriting, coordinatorDiskFull
    case stop, stopAfterRound
  }

  init(_ random: inout SplitMixGenerator) {
    clients = Int.random(in: 1...5, using: &random)
    rounds = Int.random(in: 1...6, using: &random)
    perRound = Int.random(in: 1...clients, using: &random)
    quorum = Int.random(in: 1...perRound, using: &random)
    isNoised = Bool.random(using: &random)
    calm = random.span(1000...20_000)
    faultsUntil = random.span(0...400_000)
    longestDelay = [5, 200, 3000].randomElement(using: &random) ?? 5
    duplicates = random.chance(0.5) ? 0 : 0.2
    kinds =
      random.chance(0.3)
      ? FaultKind.allCases : FaultKind.allCases.filter { _ in Bool.random(using: &random) }
  }
}
