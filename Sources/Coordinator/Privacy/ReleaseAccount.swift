import FedLoRADP
import Synchronization

/// What the private releases of a run have cost so far.
public struct PrivacySpent: Sendable, Equatable {
  /// ε of all releases together, at `delta`.
  public let epsilon: Double
  /// δ.
  public let delta: Double
  /// The budget that ε may not pass.
  public let budget: Double
  /// Which populations count as neighbours.
  public let relation: NeighbouringRelation
  /// Releases that were charged; more than rounds where a crash fell between a charge and its commit.
  public let releases: Int
}

/// Says what a number of private releases costs. Asking changes nothing; how many there were is the store's to know.
///
/// An answer takes milliseconds and is asked for several times a round, so the last ones are kept.
package final class ReleaseAccount: Sendable {
  package let terms: ClientLevelPrivacy
  /// Numbers that are noised in one release.
  let coordinates: Int
  private let accountant: PrivacyAccountant
  private let known = Mutex<[Int: PrivacySpent]>([:])

  package init(terms: ClientLevelPrivacy, coordinates: Int) {
    self.terms = terms
    self.coordinates = coordinates
    accountant = PrivacyAccountant(relation: terms.relation)
  }

  /// The cost of so many releases.
  /// - Throws: `PrivacyParameterError`, `PrivacyAccountingError`.
  package func spent(releases: Int) throws -> PrivacySpent {
    if let answer = known.withLock({ $0[releases] }) { return answer }
    let answer = try compute(releases: releases)
    known.withLock {
      // A run asks about its next releases only.
      $0 = $0.filter { $0.key >= releases - 2 }
      $0[releases] = answer
    }
    return answer
  }

  private func compute(releases: Int) throws -> PrivacySpent {
    let sampling: ExampleSampling =
      switch terms.sampling {
      case .poisson(let rate): .poisson(rate: rate)
      case .fixedSize(_, let rate): .fixedSize(rate: rate)
      }
    let phase = try PrivatePhase(sampling: sampling, noiseMultiplier: terms.noiseMultiplier, steps: releases)
    var epsilon = try accountant.epsilon(of: [phase], delta: terms.delta).epsilon
    if epsilon > 0, epsilon.isFinite {
      // Noise of finitely many digits takes a share of δ; the cost is taken for an ε larger by 1, and counts if it is not.
      let cost = NoiseGrid.deltaCost(coordinates: coordinates, steps: releases, epsilon: epsilon + 1)
      let rest = terms.delta - cost
      if rest <= 0 {
        epsilon = .infinity
      } else if rest < terms.delta {
        let corrected = try accountant.epsilon(of: [phase], delta: rest).epsilon
        epsilon = corrected <= epsilon + 1 ? corrected : .infinity
      }
    }
    return PrivacySpent(
      epsilon: epsilon,
      delta: terms.delta,
      budget: terms.epsilon,
      relation: terms.relation,
      releases: releases
    )
  }

  /// Why one more release after so many would pass the budget; nil where it would not.
  package func refusal(after releases: Int) throws -> String? {
    let next = try spent(releases: releases + 1)
    guard next.epsilon > terms.epsilon else { return nil }
    let now = try spent(releases: releases)
    return
      "\(ReasonCode.budgetSpent): \(releases) private releases have spent epsilon \(now.epsilon) of \(terms.epsilon) "
      + "at delta \(terms.delta); another one would bring it to \(next.epsilon)"
  }
}
