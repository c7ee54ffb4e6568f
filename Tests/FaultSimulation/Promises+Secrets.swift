import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import Foundation

/// What a run with secret cohorts promises beside: every noised state was paid for, durably, before its noise was drawn;
/// one version of a round is ever seen; a cohort is drawn once, and nobody is told who or how many are in it.
extension Promises {
  /// What is known of such a run from outside.
  struct Secrets {
    /// One noised version of a round, of which a crash may leave nothing.
    struct Version {
      let contributions: [Contribution]
      let state: TensorSet
      let nextNorm: Double
    }

    let terms: ClientLevelPrivacy
    /// Who was drawn for each round.
    var cohorts: [Int: Set<String>] = [:]
    /// How often a charge was written, whether or not it lasted.
    var charges = 0
    /// How often noise was drawn.
    var releases = 0
    /// The versions of the round that is not committed, or was last.
    var versions: (round: Int, all: [Version]) = (0, [])
    /// The clipping norm of the open round.
    var norm: Double

    init(terms: ClientLevelPrivacy) {
      self.terms = terms
      norm = terms.clippingNorm
    }
  }

  // MARK: Cohorts

  /// A cohort has become durable.
  func draws(_ cohort: [String], round: Int) {
    guard secrets != nil else { return }
    let cohort = Set(cohort)
    if let before = secrets?.cohorts[round], before != cohort {
      violated("the cohort of round \(round) was drawn twice")
    }
    secrets?.cohorts[round] = cohort
  }

  func recoveredCohort(_ recovered: RecoveredRun) {
    guard let secrets else { return }
    let open = recovered.lastCommittedRound + 1
    let members = Set(recovered.members.keys)
    guard let cohort = secrets.cohorts[open] else {
      if recovered.attempt > 0 { self.secrets?.cohorts[open] = members }
      return
    }
    if members != cohort { violated("the cohort of round \(open) was \(cohort.sorted()), and is \(members.sorted())") }
  }

  /// Something is put on the wire to a client.
  func shows(_ envelope: WireEnvelope, to client: String) {
    guard let secrets else { return }
    let reason: String
    switch envelope.message {
    case .commit(let commit):
      reason = ""
      if commit.updates != 0 { violated("\(client) was told how many updates round \(commit.round) has") }
      if secrets.cohorts[Int(commit.round)]?.contains(client) != true {
        violated("\(client) was told of round \(commit.round), for which it was not drawn")
      }
    case .wait(let wait): reason = wait.reason
    case .ack(let ack): reason = ack.reason
    case .goodbye(let goodbye): reason = goodbye.reason
    case .error(let error): reason = error.text
    default: reason = ""
    }
    let words = reason.split { !$0.isLetter && !$0.isNumber }
    for cohort in secrets.cohorts.values {
      for other in cohort where other != client && words.contains(where: { $0 == other }) {
        violated("\(client) was told of \(other): \(reason)")
      }
    }
  }

  // MARK: Releases

  /// A charge is about to be written.
  func charges() { secrets?.charges += 1 }

  /// Noise is about to be drawn.
  /// - Parameter durable: charges that would be left after the worst power failure.
  func draws(noiseOf round: Int, durable: Int) {
    secrets?.releases += 1
    if let secrets, durable < secrets.releases {
      violated("the noise of round \(round) is drawn as release \(secrets.releases), and \(durable) are charged")
    }
  }

  /// A coordinator that has come back finds so many charges.
  func recovered(charges: Int) {
    guard let secrets else { return }
    if charges < secrets.releases { violated("\(secrets.releases) releases were drawn, and \(charges) are charged") }
    if charges > secrets.charges { violated("\(charges) releases are charged, \(secrets.charges) were written") }
  }

  /// A noised state was computed.
  func released(
    round: Int,
    contributions: [Contribution],
    outcome: RunStore.PrivateOutcome,
    strategy: Strategy,
    terms: ClientLevelPrivacy
  ) {
    guard let norm = secrets?.norm else { return }
    let version = Secrets.Version(
      contributions: contributions,
      state: outcome.state,
      nextNorm: outcome.clippingNorm
    )
    if secrets?.versions.round != round { secrets?.versions = (round, []) }
    secrets?.versions.all.append(version)
    let before = states[round - 1]
    let start = before.filter(strategy.isUploaded)
    var updates: [TensorSet] = []
    do {
      var release = try PrivateRelease(terms: terms, layout: strategy.uploadLayout(state: before), clippingNorm: norm)
      for one in contributions {
        guard let update = sent[Key(client: one.name, round: round)] else { continue }
        updates.append(update.tensors)
        try release.fold(update.tensors, sent: start, examples: one.examples)
      }
      let expected = release.release(round: round)
      let moved = try PrivateSum.moved(start, by: expected.differences)
      let state = try strategy.nextState(round: round, previous: before, mean: moved)
      if outcome.state != state || outcome.clippingNorm != expected.nextClippingNorm {
        violated("the release of round \(round) is not what its terms make of its updates")
      }
    } catch { violated("round \(round) cannot be released: \(error)") }
    if terms.noiseMultiplier == 0 { check(outcome.state, isClippedMeanOf: updates, start: start, terms, norm) }
  }

  /// The formula of DP-FedAvg without its noise.
  private func check(
    _ state: TensorSet,
    isClippedMeanOf updates: [TensorSet],
    start: TensorSet,
    _ terms: ClientLevelPrivacy,
    _ norm: Double
  ) {
    func flat(_ tensors: TensorSet) -> [Double] { tensors.entries.flatMap { $0.tensor.values.map(Double.init) } }
    var expected = flat(start)
    for update in updates {
      let difference = zip(flat(update), flat(start)).map { $0 - $1 }
      let length = difference.reduce(0) { $0 + $1 * $1 }.squareRoot()
      let factor = length > norm ? norm / length : 1
      for index in expected.indices { expected[index] += factor * difference[index] / terms.divisor }
    }
    let worst = zip(flat(state), expected).map { abs($0 - $1) }.max() ?? 0
    if !(worst < 1e-4) { violated("a state without noise is \(worst) off the mean of its clipped updates") }
  }

  /// A round has become durable.
  func committedPrivately(round: Int, contributions: [Contribution], state: TensorSet) {
    guard let secrets else { return }
    if let cohort = secrets.cohorts[round], !cohort.isSuperset(of: contributions.map(\.name)) {
      violated("round \(round) counts updates of clients that were not drawn")
    }
    let versions = secrets.versions.round == round ? secrets.versions.all : []
    guard let version = versions.last(where: { $0.state == state && $0.contributions == contributions }) else {
      return violated("round \(round) was committed with a state that is no release of its updates")
    }
    if secrets.terms.adaptiveClipping != nil { self.secrets?.norm = version.nextNorm }
  }
}
