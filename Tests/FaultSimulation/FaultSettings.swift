import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport

/// Everything about one simulated run that its seed decides.
package struct FaultSettings: Sendable {
  let clients: Int
  let rounds: Int
  let perRound: Int
  let quorum: Int
  let minClients: Int
  /// Clients that are asked beyond `perRound`.
  let overSelected: Int
  /// How many may stay connected; 0 for all.
  let mostConnected: Int
  /// How asynchronous rounds are filled; nil where rounds are synchronous.
  let buffer: BufferTerms?
  /// Whether training the same round again would give other bytes, as it does under differential privacy.
  let isNoised: Bool
  /// Mean time between two faults.
  let calm: Duration
  /// From then on there are no faults, and everything must come to its end.
  let faultsUntil: Duration
  /// Longest delay of a message.
  let longestDelay: Int
  /// How long a coordinator lets messages wait, to take up several together, in milliseconds.
  let groupDelay: Int
  /// How often a message arrives twice.
  let duplicates: Double
  /// How often training takes longer than a round may.
  let stragglers: Double
  /// How often a client finds its budget spent, and takes part no more.
  let spentBudgets: Double
  /// How updates become one, and what is secret about it.
  let kind: RunKind
  /// How often an update is spoiled on its way.
  let flaws: Double
  /// How often its sender, told so, sends it as it should be.
  let corrections: Double
  /// Which kinds of faults there are.
  let kinds: [FaultKind]

  /// What can go wrong at all.
  package enum Scope: Sendable {
    /// Everything.
    case everything
    /// The same, in an asynchronous run.
    case buffered
    /// Only what happens to the coordinator's machine and program; clients are quick, and there are no delays to speak of.
    case coordinator
    /// Nothing; else as `coordinator`.
    case nothing
  }

  enum FaultKind: CaseIterable, Sendable {
    case cutConnection, partition
    case killClient, clientPowerFailure, clientDownWhileWriting, clientDiskFull
    case killCoordinator, coordinatorPowerFailure, coordinatorDownWhileWriting, coordinatorDownInCommit
    case coordinatorDiskFull
    case stop, stopAfterRound, drain, remove
  }

  /// - Parameters:
  ///   - scope: runs of the same seed are of the same size and kind in every scope but `buffered`.
  ///   - onlyKind: draws runs of this kind only; nil for all.
  init(_ random: inout SplitMixGenerator, scope: Scope, onlyKind: RunKind.Name? = nil) {
    let drawn = RunKind.Name.draw(&random)
    let name = scope == .buffered ? .plain : onlyKind ?? drawn
    let rule = name == .robust ? RobustSettings.draw(&random) : nil
    let fewest = rule?.leastUpdates ?? 1
    clients = Int.random(in: fewest...max(5, fewest + 1), using: &random)
    rounds = Int.random(in: 1...6, using: &random)
    perRound = Int.random(in: fewest...clients, using: &random)
    quorum = Int.random(in: fewest...perRound, using: &random)
    isNoised = Bool.random(using: &random)
    calm = random.span(1000...20_000)
    faultsUntil = random.span(0...400_000)
    groupDelay = [0, 20, 2000].randomElement(using: &random) ?? 0
    guard scope == .everything || scope == .buffered else {
      buffer = nil
      (longestDelay, duplicates, stragglers, spentBudgets) = (5, 0, 0, 0)
      (minClients, overSelected, mostConnected) = (clients, 0, 0)
      (flaws, corrections) = (0, 0)
      let secret =
        name == .secret
        ? SecretSettings(&random, clients: clients, perRound: perRound, rounds: rounds, least: clients) : nil
      kind = RunKind(rule, secret?.repeating())
      kinds =
        scope == .nothing
        ? []
        : [
          .killCoordinator, .coordinatorPowerFailure, .coordinatorDownWhileWriting, .coordinatorDownWhileWriting,
          .coordinatorDownInCommit, .stop,
        ]
      return
    }
    minClients = random.chance(0.5) ? clients : Int.random(in: quorum...clients, using: &random)
    overSelected =
      random.chance(0.7) || scope == .buffered || name == .secret ? 0 : Int.random(in: 0...2, using: &random)
    let needed = max(minClients, perRound + overSelected)
    mostConnected = random.chance(0.7) || needed > clients ? 0 : Int.random(in: needed...clients, using: &random)
    longestDelay = [5, 200, 3000].randomElement(using: &random) ?? 5
    duplicates = random.chance(0.5) ? 0 : 0.2
    stragglers = random.chance(0.5) ? 0 : 0.1
    spentBudgets = random.chance(0.8) ? 0 : 0.1
    flaws = random.chance(0.5) ? 0 : 0.2
    corrections = random.chance(0.3) ? 0 : 0.8
    let least = max(minClients, perRound)
    let secret =
      name == .secret
      ? SecretSettings(&random, clients: clients, perRound: perRound, rounds: rounds, least: least) : nil
    kind = RunKind(rule, secret)
    kinds =
      random.chance(0.3)
      ? FaultKind.allCases : FaultKind.allCases.filter { _ in Bool.random(using: &random) }
    guard scope == .buffered else {
      buffer = nil
      return
    }
    // A buffer that is larger than the number of clients never fills: its rounds end with the quorum.
    let size = random.chance(0.2) ? clients + 1 : Int.random(in: quorum...perRound, using: &random)
    let mostStale = Int.random(in: 0...6, using: &random)
    buffer = try? BufferTerms(
      size: size,
      exponent: [0.5, 1, 2].randomElement(using: &random) ?? 0.5,
      mostStale: mostStale
    )
  }
}

extension FaultSettings {
  /// The run that is played.
  func makeRun(seed: UInt64) throws -> (run: ServedRun, initialState: TensorSet) {
    var toy = try ToyRun(
      .fedsaLoRA,
      head: .frozen,
      id: "simulated",
      seed: seed,
      rounds: rounds,
      clients: minClients,
      perRound: perRound,
      quorum: quorum,
      deadline: 60
    )
    toy.manifest.cohort.overSelected = UInt32(overSelected)
    toy.manifest.cohort.mostConnected = UInt32(mostConnected)
    if let buffer {
      toy.manifest.cohort.bufferSize = UInt32(buffer.size)
      toy.manifest.cohort.stalenessExponent = buffer.exponent
      toy.manifest.cohort.maxStaleness = UInt32(buffer.mostStale)
    }
    kind.write(to: &toy.manifest)
    let run = try ServedRun(toy.manifest)
    guard let affordable = kind.secret?.affordable, let account = run.account else { return (run, toy.initialState) }
    toy.manifest.privacy.epsilon = try account.spent(releases: affordable).epsilon
    return (try ServedRun(toy.manifest), toy.initialState)
  }
}
