import FedLoRACheckpoint
import FedLoRAProtocol

/// A round as it was given to this client.
public struct RoundAssignment: Sendable {
  /// The run's terms.
  public let manifest: WireRunManifest
  /// The round, from 1.
  public let round: Int
  /// This client's name, from its certificate.
  public let clientName: String
  /// The tensors that came down with the round.
  public let state: TensorSet
  /// This client's own tensors after the last round that it trained.
  public let personal: TensorSet

  /// Takes all parts.
  public init(manifest: WireRunManifest, round: Int, clientName: String, state: TensorSet, personal: TensorSet) {
    self.manifest = manifest
    self.round = round
    self.clientName = clientName
    self.state = state
    self.personal = personal
  }
}

/// What local training made of a round.
public struct LocalUpdate: Sendable {
  /// The tensors that leave the client: exactly those that the manifest declares for updates.
  public let upload: TensorSet
  /// The tensors that stay.
  public let personal: TensorSet
  /// Scalars that may leave the client beside the update, such as `loss`.
  public let metrics: [String: Double]

  /// Takes all parts.
  public init(upload: TensorSet, personal: TensorSet, metrics: [String: Double]) {
    self.upload = upload
    self.personal = personal
    self.metrics = metrics
  }
}

/// What trains a round: our engine, or anything else that turns tensors into tensors.
public protocol LocalTrainer: Sendable {
  /// The number of examples to state where the weights of the run need one; nothing else asks for it.
  func statedExamples(_ manifest: WireRunManifest) async throws -> Int
  /// Checks that this trainer may and can train what the manifest describes: its owner's policy first, before any data are
  /// read, then model, labels, adapter and tensors.
  /// - Throws: `ManifestRefusal` with the reason.
  func check(_ manifest: WireRunManifest) async throws
  /// This client's own tensors before its first round.
  func initialPersonal(_ manifest: WireRunManifest) async throws -> TensorSet
  /// Trains one round. Without privacy the same assignment must give the same update, so that a crash costs nothing; with
  /// it, noise is never drawn twice, and a round that was interrupted is charged again.
  func train(_ assignment: RoundAssignment) async throws -> LocalUpdate
  /// A state that came down, or an equal one that is in memory already: many clients in one process are sent the same.
  func resident(_ state: TensorSet) -> TensorSet
  /// This client's own tensors once the run has completed and nothing leaves it any more.
  /// - Parameter assignment: the run's final state, and the tensors after the last round that was trained here.
  func finish(_ assignment: RoundAssignment) async throws -> TensorSet
}

extension LocalTrainer {
  /// The state as it is.
  public func resident(_ state: TensorSet) -> TensorSet { state }
  /// The tensors as they are.
  public func finish(_ assignment: RoundAssignment) async throws -> TensorSet { assignment.personal }
}

/// Why a client does not take part in a run.
public struct ManifestRefusal: Error, Equatable, CustomStringConvertible {
  /// Stable code for logs and counters, such as `wrong-model`.
  public let code: String
  /// What was found and expected; the coordinator is told this, so it says nothing about the data.
  public let reason: String
  /// What only the owner of the data is told, and what depends on the data: paths, fingerprints, class names.
  public let ownerReason: String

  /// Takes code and reason.
  /// - Parameter ownerReason: what is told here instead of `reason`; nil tells the same.
  public init(code: String, reason: String, ownerReason: String? = nil) {
    self.code = code
    self.reason = reason
    self.ownerReason = ownerReason ?? reason
  }

  /// One sentence for the owner of the data.
  public var description: String { "\(ownerReason) (\(code))" }
}
