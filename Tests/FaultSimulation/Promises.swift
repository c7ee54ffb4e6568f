import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import Foundation

/// What a run promises, checked from outside against everything that was seen.
final class Promises {
  struct Key: Hashable {
    let client: String
    let round: Int
  }

  /// A round as it was committed.
  struct Commit {
    let round: Int
    let contributions: [Contribution]
    let state: TensorSet
  }

  struct Sealed {
    let digest: String
    let tensors: TensorSet
  }

  private(set) var violations: [String] = []
  /// The update of each client and round, as it was first sent.
  private(set) var sent: [Key: Sealed] = [:]
  private var acknowledged: [Key: String] = [:]
  /// Contributions to each committed round, in order from round 1.
  private(set) var commits: [[Contribution]] = []
  private(set) var states: [TensorSet]
  private let run: ServedRun
  private var buffer: BufferTerms? { run.policy.buffer }
  /// What is seen of a run with secret cohorts; nil in others.
  var secrets: Secrets?
  /// Answers that clients are owed.
  var owed = OwedAnswers()
  /// The updates that count in a committed round.
  private var counted: Set<Key> = []

  /// In an asynchronous run the round of an update is the one that its client started from.
  init(_ run: ServedRun, initialState: TensorSet) {
    states = [initialState]
    self.run = run
    secrets = run.clientPrivacy.map { Secrets(terms: $0) }
  }

  func violated(_ text: String) { violations.append(text) }

  /// The operator took a client out of a round: what it was promised there does not hold any more.
  func removed(_ client: String, round: Int) {
    let isOpen: (Key) -> Bool = buffer == nil ? { $0.round == round } : { [counted] in !counted.contains($0) }
    acknowledged = acknowledged.filter { $0.key.client != client || !isOpen($0.key) }
  }

  // MARK: Clients

  /// A client puts an update on the wire.
  func sends(_ client: String, round: Int, digest: String, tensors: TensorSet) {
    let key = Key(client: client, round: round)
    if let before = sent[key], before.digest != digest {
      violated("\(client) released round \(round) twice, with different bytes")
    }
    if sent[key] == nil { sent[key] = Sealed(digest: digest, tensors: tensors) }
  }

  /// A client heard that a round is committed, or was given the round after it.
  func learns(_ client: String, committedRound round: Int) {
    if round > commits.count { violated("\(client) was told of round \(round), which is not committed durably") }
  }

  /// A client was given a round.
  func receives(_ client: String, round: Int, state: TensorSet) {
    learns(client, committedRound: round - 1)
    if round >= 1, round <= states.count, states[round - 1] != state {
      violated("\(client) was given another state for round \(round) than was committed")
    }
    if let secrets, secrets.cohorts[round]?.contains(client) != true {
      violated("\(client) was given round \(round), for which it was not drawn")
    }
  }

  // MARK: Coordinator

  /// The coordinator puts an acknowledgement on the wire.
  func acknowledges(_ client: String, round: Int, isAccepted: Bool) {
    guard isAccepted else { return }
    let key = Key(client: client, round: round)
    guard let digest = sent[key]?.digest else {
      return violated("\(client) was told that its update of round \(round) is durable, and it never sent one")
    }
    acknowledged[key] = digest
    owed.isAccepted(client, round: round)
    if buffer == nil, round <= commits.count,
      !commits[round - 1].contains(where: { $0.name == client && $0.digest == digest })
    {
      violated("\(client)'s update of round \(round) was acknowledged after it had been left out")
    }
  }

  /// Commits that were under way when the machine went down: a coordinator that comes back says which are durable.
  func mayHaveCommitted(_ commits: [Commit]) { uncertain = commits }
  private var uncertain: [Commit] = []

  /// A commit has become durable.
  func committed(_ commit: Commit) {
    committed(round: commit.round, contributions: commit.contributions, state: commit.state)
  }

  private func committed(round: Int, contributions: [Contribution], state: TensorSet) {
    if round <= commits.count {
      if commits[round - 1] != contributions || states[round] != state {
        violated("round \(round) was committed twice")
      }
      return
    }
    guard round == commits.count + 1 else { return violated("round \(round) was committed out of turn") }
    commits.append(contributions)
    states.append(state)
    let names = contributions.map(\.name)
    if Set(names).count != names.count { violated("round \(round) counts a client twice: \(names)") }
    if secrets == nil, contributions.count < run.policy.quorum {
      violated("round \(round) has fewer updates than the quorum")
    }
    for (key, digest) in acknowledged where mustCount(key, in: round) {
      if !contributions.contains(where: { $0.name == key.client && $0.digest == digest }) {
        violated("the acknowledged update of \(key.client) is not in round \(round)")
      }
    }
    var updates: [(start: Int, tensors: TensorSet)] = []
    for one in contributions {
      let key = Key(client: one.name, round: one.start ?? round)
      guard let sealed = sent[key], sealed.digest == one.digest else {
        violated("round \(round) counts an update that \(one.name) did not send for it")
        continue
      }
      if !counted.insert(key).inserted { violated("round \(round) counts \(one.name)'s update of \(key.round) again") }
      if key.round > round || round - key.round > buffer?.mostStale ?? 0 {
        violated("round \(round) counts an update that started from round \(key.round)")
      }
      updates.append((key.round, sealed.tensors))
    }
    guard updates.count == contributions.count else { return }
    if secrets != nil { return committedPrivately(round: round, contributions: contributions, state: state) }
    switch run.aggregation {
    case .mean: check(state, isMadeOf: updates, round: round)
    case .robust(let rule):
      check(state, isMadeBy: rule, of: zip(contributions, updates).map { ($0.name, $1.tensors) }, round: round)
    }
  }

  /// Whether an acknowledged update has to be in this round, the first that is committed since.
  private func mustCount(_ key: Key, in round: Int) -> Bool {
    buffer == nil ? key.round == round : !counted.contains(key)
  }

  /// Holds a state against the textbook's formula in doubles.
  private func check(_ state: TensorSet, isMadeOf updates: [(start: Int, tensors: TensorSet)], round: Int) {
    for entry in state.entries {
      for (index, value) in entry.tensor.values.enumerated() {
        func element(_ tensors: TensorSet) -> Double { Double(tensors[entry.name]?.values[index] ?? .nan) }
        let sum = updates.reduce(0.0) { sum, update in
          guard let buffer else { return sum + element(update.tensors) }
          let share = Double(buffer.units(staleness: round - update.start)) / 256
          return sum + share * (element(update.tensors) - element(states[update.start - 1]))
        }
        let expected = sum / Double(updates.count) + (buffer == nil ? 0 : element(states[round - 1]))
        if !(abs(Double(value) - expected) < 1e-6) {
          return violated("the state after round \(round) is not made of its updates")
        }
      }
    }
  }

  /// Holds the state after a robust round against the rule, applied to what clients sent, and where there is one against the
  /// textbook's formula.
  private func check(_ state: TensorSet, isMadeBy rule: RobustRule, of updates: [(String, TensorSet)], round: Int) {
    let before = states[round - 1]
    let rows = updates.map { UpdateRow(name: $0.0, tensors: $0.1) }
    let start = before.filter(run.strategy.isUploaded)
    guard let outcome = try? rule.combine(rows, start: start),
      let expected = try? run.strategy.nextState(round: round, previous: before, mean: outcome.tensors)
    else { return violated("round \(round) was committed from updates that its rule does not take") }
    if state != expected { violated("the state after round \(round) is not what the rule makes of its updates") }
    guard rule.name == .median || rule.name == .trimmedMean else { return }
    for entry in state.entries {
      for (index, value) in entry.tensor.values.enumerated() {
        let values = updates.map { Double($0.1[entry.name]?.values[index] ?? .nan) }.sorted()
        let kept = values.dropFirst(rule.name == .median ? (values.count - 1) / 2 : 1)
          .dropLast(rule.name == .median ? (values.count - 1) / 2 : 1)
        if !(abs(Double(value) - kept.reduce(0, +) / Double(kept.count)) < 1e-6) {
          return violated("the state after round \(round) is not the middle of its updates")
        }
      }
    }
  }

  /// A coordinator has come back.
  func recovered(_ recovered: RecoveredRun, state: () throws -> TensorSet) rethrows {
    let last = recovered.lastCommittedRound
    if last < commits.count { violated("round \(commits.count) was committed, and is forgotten") }
    // It may have gone down between the commit and the report of it.
    for commit in uncertain where commit.round <= last { committed(commit) }
    uncertain = []
    if last > 0 { committed(round: last, contributions: recovered.lastContributions, state: try state()) }
    recoveredCohort(recovered)
    for (key, digest) in acknowledged where mustCount(key, in: last + 1) {
      guard case .accepted(_, let kept)? = recovered.members[key.client], kept == digest else {
        violated("the acknowledged update of \(key.client) in round \(key.round) is lost")
        continue
      }
    }
  }
}
