import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation

/// What can be wrong with an update when it arrives.
enum UpdateFlaw: CaseIterable, Sendable {
  case otherShape, missingTensor, foreignTensor, notFinite, otherBytes, tooLarge, badMetric

  /// The reason code with which it is refused.
  var code: String {
    switch self {
    case .otherShape: "wrong-shape"
    case .missingTensor: "missing-tensor"
    case .foreignTensor: "unexpected-tensor"
    case .notFinite: "not-finite"
    case .otherBytes: "wrong-hash"
    case .tooLarge: "out-of-range"
    case .badMetric: "bad-metrics"
    }
  }
}

/// An update as it arrives where something is wrong with it.
struct SpoiledUpdate: Sendable {
  let flaw: UpdateFlaw
  let envelope: WireEnvelope
  /// What it holds, whatever it declares.
  let tensors: TensorSet

  /// Spoils a good update; nil for a message that is none.
  init?(_ good: SealedMessage, _ flaw: UpdateFlaw) {
    guard case .update(var update)? = good.envelope.message, let first = good.tensors.entries.first else { return nil }
    self.flaw = flaw
    var tensors = good.tensors
    switch flaw {
    case .otherShape: tensors[first.name] = Tensor(zeros: first.tensor.shape.reversed())
    case .missingTensor: tensors = TensorSet()
    case .foreignTensor: tensors["z.weight"] = first.tensor
    case .notFinite: tensors[first.name]?.values[1] = .nan
    case .tooLarge: tensors[first.name]?.values[1] = -.greatestFiniteMagnitude
    case .badMetric: update.metrics = ["loss": .infinity]
    case .otherBytes: break
    }
    update.tensors = TensorPayload(tensors).declaration
    if flaw == .otherBytes { update.tensors.sha256[0] ^= 1 }
    self.tensors = tensors
    envelope = WireEnvelope(.update(update))
  }

  /// What the coordinator's own reader of streams makes of it.
  func arrive(expecting layout: TensorLayout) throws -> Inbound? {
    var reader = InboundReader(maximumStreamLength: 1 << 20)
    guard let stream = try reader.declaration(of: envelope) else { return nil }
    if let settled = try reader.begin(envelope, stream: stream, expectation: .update(layout)) { return settled }
    var chunk = WireChunk()
    for entry in tensors.entries { entry.tensor.values.withUnsafeBytes { chunk.data.append(contentsOf: $0) } }
    return try reader.append(chunk)
  }
}
