import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation
import NIOCore
import SwiftProtobuf

/// A participant that speaks message by message, also wrongly.
package struct RawParticipant: Sendable {
  package let connection: PeerConnection
  /// The terms that came with Welcome.
  package let welcome: WireWelcome
  package let manifest: WireRunManifest

  /// Dials and says Hello, but not Ready.
  /// - Parameter name: what Hello says, where it is not the certificate's name.
  package static func greet(_ identity: TLSIdentity, port: Int, name: String? = nil) async throws -> RawParticipant {
    let connection = try await PeerClient(identity: identity).connect(host: "127.0.0.1", port: port)
    var hello = WireHello()
    hello.protocolVersion = protocolVersion
    hello.clientName = name ?? identity.participant?.rawValue ?? ""
    try await connection.send(WireEnvelope(.hello(hello)))
    guard case .welcome(let welcome)? = try await connection.receive()?.envelope.message else { throw Unexpected() }
    return RawParticipant(
      connection: connection,
      welcome: welcome,
      manifest: try WireRunManifest(serializedBytes: welcome.manifest)
    )
  }

  /// Dials, says Hello and Ready.
  package static func join(_ identity: TLSIdentity, port: Int, examples: UInt64 = 5) async throws -> RawParticipant {
    let participant = try await greet(identity, port: port)
    try await participant.ready(examples: examples)
    return participant
  }

  package func ready(examples: UInt64 = 5, pendingRound: UInt64 = 0) async throws {
    var ready = WireReady()
    ready.runID = manifest.runID
    ready.manifestSha256 = welcome.manifestSha256
    ready.examples = examples
    ready.pendingRound = pendingRound
    try await connection.send(WireEnvelope(.ready(ready)))
  }

  /// The next message that `isIt`, within a deadline; nil at the end of the connection.
  package func next(where isIt: @escaping @Sendable (WireEnvelope) -> Bool) async throws -> Inbound? {
    let layout = try TensorLayout(manifest.state)
    return try await withDeadline(.seconds(20)) {
      while let inbound = try await connection.receive(expecting: { _ in .state(layout) }) {
        if isIt(inbound.envelope) { return inbound }
      }
      return nil
    }
  }

  /// The next Round.
  package func round() async throws -> (number: Int, state: TensorSet) {
    guard
      let inbound = try await next(where: { if case .round? = $0.message { true } else { false } }),
      case .round(let round)? = inbound.envelope.message, let tensors = inbound.tensors
    else { throw Unexpected() }
    return (Int(round.round), tensors)
  }

  /// The next Ack.
  package func ack() async throws -> WireAck {
    guard
      let inbound = try await next(where: { if case .ack? = $0.message { true } else { false } }),
      case .ack(let ack)? = inbound.envelope.message
    else { throw Unexpected() }
    return ack
  }

  /// An update that is as the manifest wants it.
  package func update(round: Int, client: String) -> (envelope: WireUpdate, tensors: TensorSet) {
    var update = WireUpdate()
    update.runID = manifest.runID
    update.round = UInt64(round)
    update.examples = 5
    update.metrics = ["loss": 1]
    let tensors = TensorSet(
      Dictionary(
        uniqueKeysWithValues: manifest.update.map {
          ($0.name, ToyRun.tensor($0.shape.map(Int.init), client, round, $0.name))
        }
      )
    )
    return (update, tensors)
  }

  package func send(_ update: WireUpdate, _ tensors: TensorSet) async throws {
    try await connection.send(WireEnvelope(.update(update)), payload: tensors)
  }

  /// Sends an update with a declaration of the caller's making, and the tensors' bytes in one chunk.
  package func send(_ update: WireUpdate, declared: WireTensorStream, bytes: [UInt8]) async throws {
    var update = update
    update.tensors = declared
    try await connection.write(try Frame.encode(WireEnvelope(.update(update))))
    if bytes.isEmpty { return }
    var chunk = WireChunk()
    chunk.data = Data(bytes)
    try await connection.write(try Frame.encode(WireEnvelope(.chunk(chunk))))
  }

  /// Another message than the script wants.
  package struct Unexpected: Error { package init() {} }
}

extension TensorSet {
  /// All values, as they go on the wire.
  package var bytes: [UInt8] { entries.flatMap { $0.tensor.values.withUnsafeBytes { Array($0) } } }
}
