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
  /// Number of training examples.
  var exampleCount: Int { get }
  /// Checks that this trainer can train what the manifest describes: its model, labels, adapter and tensors.
  /// - Throws: `ManifestRefusal` with the reason.
  func check(_ manifest: WireRunManifest) async throws
  /// This client's own tensors before its first round.
  func initialPersonal(_ manifest: WireRunManifest) async throws -> TensorSet
  /// Trains one round. The same assignment must give the same update, so that a crash costs nothing.
  func train(_ assignment: RoundAssignment) async throws -> LocalUpdate
}

/// Why a client does not take part in a run.
public struct ManifestRefusal: Error, Equatable, CustomStringConvertible {
  /// Stable code for logs and counters, such as `wrong-model`.
  public let code: String
  /// What was found and expected.
  public let reason: String

  /// Takes code and reason.
  public init(code: String, reason: String) {
    self.code = code
    self.reason = reason
  }

  /// One sentence for people.
  public var description: String { "\(reason) (\(code))" }
}
