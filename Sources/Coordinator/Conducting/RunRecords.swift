import FedLoRACheckpoint
import FedLoRAFederation

/// What a conductor keeps and reads back: a `RunStore`, or something around one.
///
/// Each method that changes something returns once the change is durable; see `RunStore` for what each promises.
package protocol RunRecords {
  func together(_ body: () -> Void) throws
  func recover(isBuffered: Bool) throws -> RecoveredRun
  func openAttempt(round: Int, attempt: Int, cohort: [String]) throws
  func setRoster(name: String, isReady: Bool) throws
  func retire(name: String, code: String) throws
  func sendAway(name: String, round: Int, code: String, reason: String, discards: Bool) throws
  func record(name: String, round: Int, code: String, reason: String) throws
  func storeUpdate(
    round: Int,
    name: String,
    examples: Int,
    metrics: [String: Double],
    digest: String,
    tensors: TensorSet,
    start: Int?
  ) throws -> StoredUpdate
  func metrics(round: Int) throws -> [String: [String: Double]]
  func aggregate(
    round: Int,
    contributions: [Contribution],
    strategy: Strategy,
    weighting: Weighting
  ) throws -> TensorSet
  func aggregateBuffered(
    round: Int,
    contributions: [Contribution],
    strategy: Strategy,
    weighting: Weighting,
    terms: BufferTerms
  ) throws -> TensorSet
  func aggregateRobustly(
    round: Int,
    contributions: [Contribution],
    strategy: Strategy,
    rule: RobustRule
  ) throws -> RunStore.RobustRound
  func releasePrivately(
    round: Int,
    contributions: [Contribution],
    strategy: Strategy,
    terms: ClientLevelPrivacy
  ) throws -> RunStore.PrivateOutcome
  func chargeRelease(round: Int) throws
  func chargedReleases() throws -> Int
  func commit(
    round: Int,
    contributions: [Contribution],
    counts: [String: Int],
    state: TensorSet,
    nextClippingNorm: Double?
  ) throws
  func lastCommittedRound() throws -> Int
  func state(afterRound round: Int) throws -> TensorSet
  func finish(_ outcome: RunOutcome) throws
  func close()
}

extension RunStore: RunRecords {}
