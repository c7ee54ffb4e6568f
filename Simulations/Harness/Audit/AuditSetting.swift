import FedLoRAClient
import FedLoRAConfiguration
import FedLoRADP
import FedLoRAEngine
import FedLoRAFederation
import Foundation

/// What an audited configuration claims, and the two worlds that it is to be told apart in.
///
/// Differential privacy holds for any data, any start that is public, and any attacker; so the auditor takes those that
/// give a mistake away.
package struct AuditSetting: Sendable {
  /// The configuration.
  package let subject: AuditSubject
  /// The terms that a manifest of this configuration states.
  package let terms: RunTerms
  /// Their private part: noise, clipping, sampling.
  package let privacy: RecordPrivacy
  /// The ε that the accountant gives for these steps.
  package let claimed: Double
  /// The parameters that the coordinator sent, and the client's own before the first step.
  package let start: [Float]
  /// The records of both worlds.
  package let records: [EncodedExample]
  /// The record of one world alone: a ticket with a wrong label.
  package let canary: EncodedExample
  /// The score of an outcome is the product of its difference to `start` with these, which are zero wherever nothing is
  /// uploaded.
  package let direction: [Float]
  /// By what the noise-free sums that are uploaded differ between the worlds, all steps together, in units of C.
  package let separation: Double

  /// What is run.
  package var mechanism: any AuditedMechanism {
    switch subject {
    case .sound: ClientMechanism(terms: terms, privacy: privacy)
    case .broken(let form): BrokenOnPurpose(terms: terms, privacy: privacy, mistakes: .init(form))
    }
  }

  /// The mechanism without its noise.
  package var noiseFree: BrokenOnPurpose {
    var mistakes = BrokenOnPurpose.Mistakes()
    if case .broken(let form) = subject { mistakes = .init(form) }
    mistakes.omitsNoise = true
    return BrokenOnPurpose(terms: terms, privacy: privacy, mistakes: mistakes)
  }

  /// The score that an attacker gives an outcome, from what the coordinator sees of it.
  package func score(_ outcome: [Float]) -> Double {
    var score = 0.0
    for (index, weight) in direction.enumerated() where weight != 0 {
      score += Double(weight) * Double(outcome[index] - start[index])
    }
    return score
  }
}
