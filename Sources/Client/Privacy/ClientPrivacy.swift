import FedLoRADP
import FedLoRAEngine
import FedLoRAProtocol
import Foundation

/// A client's side of a run's privacy: its policy, and the ledger of what was spent on its data set.
public struct ClientPrivacy: Sendable {
  /// What the owner of the data agrees to.
  public let policy: ClientPolicy
  /// Folder of ledgers, one for each data set.
  public let ledgerFolder: URL

  /// Takes policy and folder.
  public init(policy: ClientPolicy = .standard, ledgerFolder: URL) {
    self.policy = policy
    self.ledgerFolder = ledgerFolder
  }

  /// The ledger's file for the data set of this fingerprint.
  public func ledgerURL(fingerprint: String) -> URL {
    ledgerFolder.appendingPathComponent("ledger-\(fingerprint.prefix(16)).jsonl")
  }

  /// Charges a round's steps and makes the charge durable; called before the first of them is taken, so that a process that
  /// dies in a round has spent more than it released, never less.
  /// - Throws: `ManifestRefusal` where the round would pass the run's number of participations or the budget, or where the
  ///   charge cannot be made durable.
  package func charge(
    _ assignment: RoundAssignment,
    terms: RecordPrivacy,
    localSteps: Int,
    to ledger: PrivacyLedger
  ) throws {
    let phase = try terms.phase(steps: localSteps)
    let before = ledger.rounds(ofRun: assignment.manifest.runID).participations
    guard before < terms.participations else {
      throw ManifestRefusal(
        code: "participations-spent",
        reason:
          "this client has trained \(before) rounds of run '\(assignment.manifest.runID)', and the noise was calibrated "
          + "for \(terms.participations)"
      )
    }
    let fits: Bool
    // Steps without end are more than an accountant counts, and more than any budget.
    do { fits = try ledger.fits(phase, epsilon: policy.maxEpsilon, delta: policy.maxDelta) } catch { fits = false }
    guard fits else {
      throw ManifestRefusal(
        code: "budget-spent",
        reason:
          "another round would pass the budget of this data set (ε = \(policy.maxEpsilon) at δ = \(policy.maxDelta))"
      )
    }
    do {
      try ledger.charge(
        LedgerCharge(
          runID: assignment.manifest.runID,
          client: assignment.clientName,
          round: assignment.round,
          phase: phase,
          clippingNorm: terms.clippingNorm,
          strategy: assignment.manifest.strategy.name,
          seeded: terms.isSeeded
        )
      )
    } catch let error as LedgerError {
      throw ManifestRefusal(error)
    }
  }

  /// Where a round's sampling and noise come from: the system, or by the run's explicit terms its seed.
  package func randomness(_ assignment: RoundAssignment, terms: RecordPrivacy) -> SecretRandomness {
    guard terms.isSeeded else { return .system() }
    return .seeded(
      assignment.manifest.seed,
      context: ["record", assignment.manifest.runID, assignment.clientName, "\(assignment.round)"]
    )
  }
}

extension ManifestRefusal {
  /// A ledger that cannot be charged. Its path holds a part of the data's fingerprint, and some errors all of it: with
  /// that, whoever knows all records but one can try out the last, so the coordinator learns only what kind of fault it is.
  init(_ error: LedgerError) {
    let fault =
      switch error {
      case .system: "cannot be read or written"
      case .inUse: "is in use by another process"
      case .damaged: "is damaged"
      case .otherDataset, .badFingerprint: "is of other data"
      case .otherRelation(_, let found, let expected):
        "counts neighbours as \(found.rawValue), not \(expected.rawValue)"
      case .changed: "was changed by another program"
      case .closed: "could not be written before"
      }
    self.init(
      code: "ledger",
      reason: "this client's privacy ledger \(fault); nothing is trained without it",
      ownerReason: error.description
    )
  }
}
