import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import SwiftProtobuf
import Testing

/// A throw-away project: one authority and the identities that it issued.
struct Project {
  let authority: CertificateAuthority
  let coordinator: TLSIdentity

  init() throws {
    authority = try CertificateAuthority()
    coordinator = try authority.issueCoordinator()
  }

  func participant(_ name: String, validity: CertificateValidity = .days(1)) throws -> TLSIdentity {
    try authority.issueParticipant(try ParticipantName(name), validity: validity)
  }

  /// A server on loopback while `body` runs. `body` gets it and the refusals as they come.
  /// - Parameter admits: whether connections are let in as if they had said Hello.
  func serve(
    as identity: TLSIdentity? = nil,
    configuration: TransportConfiguration = TransportConfiguration(),
    admits: Bool = true,
    handler: @escaping @Sendable (PeerConnection) async -> Void,
    _ body: (PeerServer, AsyncStream<RefusedPeer>) async throws -> Void
  ) async throws {
    let (refusals, continuation) = AsyncStream<RefusedPeer>.makeStream()
    var configuration = configuration
    if admits {
      // A client that speaks at once may be heard before it is let in.
      configuration.maximumFrameLengthBeforeHello = configuration.maximumFrameLength
      configuration.maximumFramesBeforeHello = .max
    }
    let server = try await PeerServer.bind(
      host: "127.0.0.1",
      port: 0,
      identity: identity ?? coordinator,
      configuration: configuration,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
      onRefusal: { continuation.yield($0) }
    )
    async let running: Void = server.run { connection in
      if admits { connection.admit() }
      await handler(connection)
    }
    do {
      try await body(server, refusals)
      server.shutdown()
    } catch {
      server.shutdown()
      throw error
    }
    await running
  }
}

extension AsyncStream where Element: Sendable {
  /// The next element.
  func first() async -> Element? {
    for await element in self { return element }
    return nil
  }
}

/// A TLS connection that speaks no protocol: it writes what it is told and reads nothing up to its end.
struct RawClient {
  let channel: any Channel

  /// - Parameter tls: nil for plain TCP.
  static func connect(port: Int, tls: TLSConfiguration?) async throws -> RawClient {
    let context = try tls.map { try NIOSSLContext(configuration: $0) }
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          guard let context else { return }
          try channel.pipeline.syncOperations.addHandler(
            NIOSSLClientHandler(context: context, serverHostname: "coordinator.fedlora")
          )
        }
      }
      .connect(host: "127.0.0.1", port: port).get()
    return RawClient(channel: channel)
  }

  func write(_ bytes: ByteBuffer) { channel.writeAndFlush(bytes, promise: nil) }
  func close() async { try? await channel.close().get() }
}

func hello(_ name: String) -> WireEnvelope {
  WireEnvelope(
    .hello(
      .with {
        $0.protocolVersion = protocolVersion
        $0.clientName = name
      }
    )
  )
}

func update(round: UInt64) -> WireEnvelope { WireEnvelope(.update(.with { $0.round = round })) }

func ack(_ status: WireAckStatus, _ reason: String = "") -> WireEnvelope {
  WireEnvelope(
    .ack(
      .with {
        $0.status = status
        $0.reason = reason
      }
    )
  )
}
