import FedLoRAProtocol
import Foundation
import NIOCore
import NIOSSL
import SwiftProtobuf
import Testing

@Suite("Limits before Hello", .timeLimit(.minutes(1)))
struct LimitTests {
  /// A TLS connection that speaks by hand, with a good certificate.
  private func raw(_ project: Project, _ name: String, port: Int) async throws -> RawClient {
    var tls = try project.participant(name).configuration(isServer: false)
    tls.certificateVerification = .none
    return try await RawClient.connect(port: port, tls: tls)
  }

  private func frame(bytes: Int) throws -> ByteBuffer {
    try Frame.encode(hello(String(repeating: "x", count: bytes)))
  }

  @Test("end a connection that says nothing, or one byte at a time, at the time for Hello")
  func helloTimeout() async throws {
    let project = try Project()
    var configuration = TransportConfiguration()
    configuration.helloTimeout = .milliseconds(400)
    try await project.serve(
      configuration: configuration,
      admits: false,
      handler: { connection in
        _ = try? await connection.receive()
      },
      { server, refusals in
        _ = refusals
        let start = ContinuousClock.now
        let mute = try await raw(project, "mute", port: server.port)
        let slow = try await raw(project, "slow", port: server.port)
        let bytes = try frame(bytes: 200)
        let dripping = Task {
          for offset in 0..<bytes.readableBytes {
            guard let one = bytes.getSlice(at: bytes.readerIndex + offset, length: 1) else { return }
            slow.write(one)
            try await Task.sleep(for: .milliseconds(50))
          }
        }
        try await mute.channel.closeFuture.get()
        try await slow.channel.closeFuture.get()
        let time = ContinuousClock.now - start
        #expect(time > .milliseconds(350) && time < .seconds(8), "\(time)")
        dripping.cancel()
        _ = await dripping.result
        // The client may see the end a little before the server has counted it.
        let patience = ContinuousClock.now + .seconds(8)
        while server.connectionCount > 0, ContinuousClock.now < patience { try await Task.sleep(for: .milliseconds(5)) }
        #expect(server.connectionCount == 0)
      }
    )
  }

  @Test("end a handshake that comes one byte at a time")
  func slowHandshake() async throws {
    let project = try Project()
    var configuration = TransportConfiguration()
    configuration.handshakeTimeout = .milliseconds(400)
    try await project.serve(
      configuration: configuration,
      handler: { _ in Issue.record("somebody was let in") },
      { server, refusals in
        let slow = try await RawClient.connect(port: server.port, tls: nil)
        let dripping = Task {
          // The beginning of a ClientHello record.
          for byte in [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03] as [UInt8] {
            slow.write(ByteBuffer(bytes: [byte]))
            try await Task.sleep(for: .milliseconds(100))
          }
        }
        #expect(await refusals.first()?.code == .handshakeTimeout)
        dripping.cancel()
        _ = await dripping.result
        // It counts until its socket is gone.
        while server.pendingCount > 0 { await Task.yield() }
        await slow.close()
      }
    )
  }

  @Test("refuse a large frame before Hello, and take it afterwards")
  func frameLength() async throws {
    let project = try Project()
    var configuration = TransportConfiguration()
    configuration.maximumFrameLengthBeforeHello = 1000
    func exchange(admits: Bool, bytes: Int) async throws -> String {
      let codes = Mailbox()
      try await project.serve(
        configuration: configuration,
        admits: false,
        handler: { connection in
          do {
            _ = try await connection.receive()
            if admits { connection.admit() }
            try await connection.send(ack(.accepted))
            codes.put(try await connection.receive() == nil ? "closed" : "taken")
          } catch TransportError.violation(let code, _) { codes.put(code.rawValue) } catch { codes.put("\(error)") }
        },
        { server, _ in
          let client = try await PeerClient(identity: try project.participant("a"))
            .connect(host: "127.0.0.1", port: server.port)
          try await client.send(hello("a"))
          _ = try await client.receive()
          try? await client.write(try frame(bytes: bytes))
          _ = try? await client.receive()
          await client.close()
        }
      )
      return await codes.first()
    }
    #expect(try await exchange(admits: false, bytes: 900) == "taken")
    #expect(try await exchange(admits: false, bytes: 1100) == "frame-too-large")
    #expect(try await exchange(admits: true, bytes: 1100) == "taken")
  }

  @Test("refuse a stream of small frames before Hello")
  func frameCount() async throws {
    let project = try Project()
    var configuration = TransportConfiguration()
    configuration.maximumFramesBeforeHello = 5
    let codes = Mailbox()
    try await project.serve(
      configuration: configuration,
      admits: false,
      handler: { connection in
        do {
          while try await connection.receive() != nil {}
        } catch TransportError.violation(let code, _) { codes.put(code.rawValue) } catch { codes.put("\(error)") }
      },
      { server, _ in
        let client = try await PeerClient(identity: try project.participant("a"))
          .connect(host: "127.0.0.1", port: server.port)
        for nonce in 0..<20 {
          try? await client.write(try Frame.encode(WireEnvelope(.ping(.with { $0.nonce = UInt64(nonce) }))))
        }
        _ = try? await client.receive()
        await client.close()
      }
    )
    #expect(await codes.first() == "too-many-frames")
  }

  @Test("close a connection at once where its network has as many in their handshake as it may")
  func perNetwork() async throws {
    let project = try Project()
    var configuration = TransportConfiguration()
    configuration.maximumPendingHandshakesPerNetwork = 3
    try await project.serve(
      configuration: configuration,
      handler: { _ = try? await $0.receive() },
      { server, refusals in
        var silent: [RawClient] = []
        for number in 1...3 {
          silent.append(try await RawClient.connect(port: server.port, tls: nil))
          while server.pendingCount < number { await Task.yield() }
        }
        let fourth = try await RawClient.connect(port: server.port, tls: nil)
        let refusal = await refusals.first()
        #expect(refusal?.code == .tooManyConnections && refusal?.text.contains("network") == true)
        try await fourth.channel.closeFuture.get()
        #expect(server.pendingCount == 3)
        for client in silent { await client.close() }
        // Their places are free again.
        let good = try await PeerClient(identity: try project.participant("a"))
          .connect(host: "127.0.0.1", port: server.port)
        await good.close()
      }
    )
  }

  @Test("hold for all connections of a network together, and for one participant's")
  func perParticipant() async throws {
    let project = try Project()
    var configuration = TransportConfiguration()
    configuration.maximumConnectionsPerNetwork = 3
    configuration.maximumConnectionsPerParticipant = 2
    try await project.serve(
      configuration: configuration,
      handler: { _ = try? await $0.receive() },
      { server, refusals in
        func connect(_ name: String) async throws -> PeerConnection {
          try await PeerClient(identity: try project.participant(name)).connect(host: "127.0.0.1", port: server.port)
        }
        let first = try await connect("alice")
        let second = try await connect("alice")
        await #expect {
          _ = try await connect("alice")
        } throws: { error in
          guard case .peerReported(.tooManyConnections, let text)? = error as? TransportError else { return false }
          return text.contains("alice")
        }
        #expect(await refusals.first()?.code == .tooManyConnections)
        let third = try await connect("bob")
        // A fourth connection from here is closed before its handshake.
        await #expect(throws: TransportError.self) { _ = try await connect("carol") }
        #expect(await refusals.first()?.text.contains("network") == true)
        await first.close()
        while server.connectionCount > 2 { await Task.yield() }
        let again = try await connect("carol")
        for connection in [second, third, again] { await connection.close() }
      }
    )
  }

  @Test("tell of a flood at a bounded rate, and count all of it")
  func flood() async throws {
    let project = try Project()
    var configuration = TransportConfiguration()
    configuration.maximumPendingHandshakesPerNetwork = 1
    try await project.serve(
      configuration: configuration,
      handler: { _ in },
      { server, refusals in
        let silent = try await RawClient.connect(port: server.port, tls: nil)
        var clients: [RawClient] = []
        for _ in 0..<60 { clients.append(try await RawClient.connect(port: server.port, tls: nil)) }
        for client in clients { try await client.channel.closeFuture.get() }
        #expect(server.refusals[.tooManyConnections] == 60)
        var told = 0
        for await refusal in refusals {
          told += 1
          #expect(refusal.code == .tooManyConnections && refusal.suppressed == 0)
          if told == 10 { break }
        }
        await silent.close()
      }
    )
  }
}

@Suite("Reports of refusals")
struct RefusalReportTests {
  @Test("are as many as a few at once and then one an interval, with the number of those between")
  func rate() {
    var now = NIODeadline.uptimeNanoseconds(5_000_000_000)
    var reports = RefusalReports(burst: 3, interval: .seconds(10))
    #expect((0..<5).map { _ in reports.note(.notTLS, at: now) } == [0, 0, 0, nil, nil])
    // Another reason has its own share.
    #expect(reports.note(.expired, at: now) == 0)
    now = now + .seconds(9)
    #expect(reports.note(.notTLS, at: now) == nil)
    now = now + .seconds(2)
    #expect(reports.note(.notTLS, at: now) == 3)
    #expect(reports.note(.notTLS, at: now) == nil)
    #expect(reports.overdue(at: now).isEmpty)
    now = now + .seconds(60)
    let overdue = reports.overdue(at: now)
    #expect(overdue.map(\.code) == [.notTLS] && overdue.map(\.count) == [1])
    #expect(reports.overdue(at: now).isEmpty)
  }
}

/// One word that a handler leaves for the test.
final class Mailbox: Sendable {
  private let stream: AsyncStream<String>
  private let continuation: AsyncStream<String>.Continuation

  init() { (stream, continuation) = AsyncStream<String>.makeStream() }

  func put(_ word: String) { continuation.yield(word) }
  func first() async -> String { await stream.first() ?? "" }
}
