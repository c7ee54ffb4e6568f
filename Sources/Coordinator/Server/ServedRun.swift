import Crypto
import FedLoRACheckpoint
import FedLoRAFederation
import FedLoRAProtocol
import Foundation
import SwiftProtobuf

/// A manifest in the coordinator's own words, with the bytes that clients pin.
package struct ServedRun: Sendable {
  package let manifest: WireRunManifest
  package let bytes: Data
  package let hash: Data
  package let policy: RoundPolicy
  package let strategy: Strategy
  package let weighting: Weighting
  /// How updates become one.
  package let aggregation: Aggregation
  let privacy: ServedPrivacy
  /// The terms where clients are the unit of privacy.
  package private(set) var clientPrivacy: ClientLevelPrivacy?
  /// What an update must hold.
  package let updateLayout: FedLoRAProtocol.TensorLayout

  /// - Throws: `CoordinatorError`, `RoundPolicyError`, or what a part of the manifest cannot be read for.
  package init(_ manifest: WireRunManifest) throws {
    self.manifest = manifest
    var options = BinaryEncodingOptions()
    options.useDeterministicOrdering = true
    bytes = try manifest.serializedBytes(options: options)
    hash = Data(SHA256.hash(data: bytes))
    let cohort = manifest.cohort
    // A longer span does not fit the clock's arithmetic; a year is no deadline any more.
    guard cohort.deadlineSeconds > 0, cohort.deadlineSeconds <= 31_536_000 else {
      throw CoordinatorError.badManifest(
        "the deadline is \(cohort.deadlineSeconds) seconds, expected a positive number up to a year"
      )
    }
    guard cohort.uploadGraceSeconds >= 0, cohort.uploadGraceSeconds <= 31_536_000 else {
      throw CoordinatorError.badManifest(
        "the grace for uploads is \(cohort.uploadGraceSeconds) seconds, expected 0 up to a year"
      )
    }
    guard let name = StrategyName(rawValue: manifest.strategy.name) else {
      throw CoordinatorError.badManifest("strategy '\(manifest.strategy.name)' is not known")
    }
    guard let head = HeadRole(rawValue: manifest.strategy.head) else {
      throw CoordinatorError.badManifest("head role '\(manifest.strategy.head)' is not known")
    }
    strategy = try Strategy(
      name: name,
      head: head,
      refactoriseEvery: name == .fedsvd ? Int(manifest.strategy.refactoriseEvery) : 1
    )
    switch manifest.strategy.weighting {
    case "uniform": weighting = .uniform
    case "examples": weighting = .examples
    case "capped": weighting = .capped(Int(clamping: manifest.strategy.weightCap))
    default: throw CoordinatorError.badManifest("weighting '\(manifest.strategy.weighting)' is not known")
    }
    privacy = try ServedPrivacy(manifest, strategy: strategy, weighting: weighting)
    if case .client(let terms) = privacy { clientPrivacy = terms } else { clientPrivacy = nil }
    aggregation = try Aggregation(served: manifest, weighting: weighting, hasPrivateRelease: clientPrivacy != nil)
    guard let rule = cohort.selection.isEmpty ? .random : SelectionRule(rawValue: cohort.selection) else {
      throw CoordinatorError.badManifest("cohort selection '\(cohort.selection)' is not known")
    }
    let draw: CohortDraw =
      if let terms = clientPrivacy {
        // A cohort of fixed size is the stated share of the population only where the population is complete.
        .secret(population: terms.population, needsAll: terms.sampling.isFixedSize)
      } else {
        .seeded(rule)
      }
    let buffer = try BufferTerms(
      served: manifest,
      strategy: strategy,
      aggregation: aggregation,
      hasPrivateRelease: clientPrivacy != nil
    )
    policy = try RoundPolicy(
      rounds: Int(manifest.rounds),
      minClients: Int(cohort.minClients),
      clientsPerRound: Int(cohort.clientsPerRound),
      quorum: Int(cohort.quorum),
      deadline: .seconds(cohort.deadlineSeconds),
      maxAttempts: cohort.maxAttempts == 0 ? 3 : Int(cohort.maxAttempts),
      overSelected: Int(cohort.overSelected),
      uploadGrace: .seconds(cohort.uploadGraceSeconds),
      mostConnected: Int(cohort.mostConnected),
      draw: draw,
      buffer: buffer
    )
    updateLayout = try FedLoRAProtocol.TensorLayout(manifest.update)
    try checkPrivateRelease()
  }

  /// The same run with private randomness that follows from this seed: for simulations, in which each process of a
  /// coordinator draws afresh, and which play the same again. It protects nobody.
  package func drawing(from seed: UInt64) -> ServedRun {
    var run = self
    run.clientPrivacy = clientPrivacy?.drawing(from: seed)
    return run
  }

  /// What the private releases cost; nil where there are none.
  package var account: ReleaseAccount? {
    // The bit of the quantile is noised too.
    clientPrivacy.map { ReleaseAccount(terms: $0, coordinates: coordinates + 1) }
  }

  private var coordinates: Int {
    manifest.update.reduce(0) { $0 + $1.shape.reduce(1) { $0 * Int(clamping: $1) } }
  }

  /// That terms which are in range one by one can also be kept together: found now, not in the first round.
  private func checkPrivateRelease() throws {
    guard let terms = clientPrivacy else { return }
    do {
      let layout = try FedLoRAFederation.TensorLayout(
        manifest.update.map { ($0.name, $0.shape.map { Int(clamping: $0) }) }
      )
      _ = try PrivateRelease(terms: terms, layout: layout, clippingNorm: terms.clippingNorm)
      _ = try account?.spent(releases: 1)
    } catch {
      throw CoordinatorError.badManifest("privacy: \(error)")
    }
  }

  /// Why an update of finite values cannot be added to the others all the same, nil where it can. To be asked before it
  /// is stored: an update that the sum refuses would end the run for everybody.
  ///
  /// Where updates are clipped before they are added, no finite one is too large.
  func fault(of tensors: TensorSet, examples: Int) -> String? {
    if clientPrivacy != nil { return nil }
    let weight = weighting.weight(examples: examples)
    let largestWeight = policy.buffer == nil ? ExactSum.largestWeight : BufferedSum.largestWeight
    guard (1...largestWeight).contains(weight) else { return "a weight of \(weight) is above \(largestWeight)" }
    let largestTerm =
      policy.buffer == nil
      ? ExactSum.largestTerm : BufferedSum.largestValue(weight: weight) * Double(weight)
    for entry in tensors.entries {
      // The bits of a float without its sign order as the magnitudes do.
      let bits = entry.tensor.values.withUnsafeBufferPointer { values in
        var bits: UInt32 = 0
        for value in values { bits = max(bits, value.bitPattern & 0x7fff_ffff) }
        return bits
      }
      let largest = Float(bitPattern: bits)
      guard Double(weight) * Double(largest) <= largestTerm else {
        return "tensor '\(entry.name)' holds a value of magnitude \(largest), which with weight \(weight) is above "
          + "\(largestTerm)"
      }
    }
    return nil
  }
}

extension RunStore {
  /// Opens the store of a run, or creates it where nothing was begun.
  /// - Throws: `CoordinatorError.otherRun` where the folder holds a run with other terms, and what opening or creating
  ///   throws.
  package static func open(
    _ run: ServedRun,
    initialState: TensorSet,
    at directory: URL,
    on disk: any FileSystem = LocalFileSystem(),
    clock: @escaping @Sendable () -> Date = { Date() }
  ) throws -> RunStore {
    do {
      let store = try RunStore.open(at: directory, on: disk, clock: clock)
      guard store.run.manifest == run.bytes else {
        store.close()
        throw CoordinatorError.otherRun(directory: directory.path)
      }
      return store
    } catch RunStoreError.noRun {
      let description = RunStore.Description(
        runID: run.manifest.runID,
        seed: run.manifest.seed,
        manifest: run.bytes
      )
      return try RunStore.create(
        at: directory,
        run: description,
        initialState: initialState,
        on: disk,
        clock: clock
      )
    }
  }
}
