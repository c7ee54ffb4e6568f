import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation
import NIOCore
import NIOSSL
import SwiftProtobuf
import Synchronization
import Testing

@Suite("Transport", .timeLimit(.minutes(1)))
struct TransportTests {
  /// 8 MB in three tensors.
  private func large() throws -> TensorSet {
    var generator = SplitMix64(state: 8)
    func tensor(_ shape: [Int]) throws -> Tensor {
      let count = shape.reduce(1, *)
      return try Tensor(shape: shape, values: (0..<count).map { _ in Float.random(in: -1...1, using: &generator) })
    }
    return try TensorSet([("a", tensor([1000, 1000])), ("b", tensor([999_999])), ("c", tensor([1]))])
  }

  /// Sends every message back with its tensors.
  private func echo(_ connection: PeerConnection, _ layout: TensorLayout) async {
    do {
      for try await inbound in connection.messages(expecting: { _ in .update(layout) }) {
        switch inbound.payload {
        case .none: try await connection.send(inbound.envelope)
        case .tensors(let tensors): try await connection.send(inbound.envelope, payload: tensors)
        case .refused(let violation):
          try await connection.send(ack(.refused, "\(violation.code): \(violation.text)"))
        }
      }
    } catch {
      Issue.record(error)
    }
  }

  @Test("carries messages and 8 MB of tensors both ways and counts the bytes of its frames")
  func roundTrip() async throws {
    let project = try Project()
    let tensors = try large()
    let layout = TensorLayout(tensors)
    let atServer = Mutex<[Traffic]>([])
    let handler: @Sendable (PeerConnection) async -> Void = { connection in
      #expect(connection.peer.participant?.rawValue == "site-1")
      await self.echo(connection, layout)
      atServer.withLock { $0.append(connection.traffic) }
    }
    try await project.serve(handler: handler) { server, _ in
      let client = try PeerClient(identity: try project.participant("site-1"))
      let traffic = try await client.withConnection(host: "127.0.0.1", port: server.port) { connection in
        #expect(connection.peer == .coordinator)
        let greeting = connection.traffic.received
        try await connection.send(hello("site-1"))
        #expect(try await connection.receive()?.envelope == hello("site-1"))
        let small = try Frame.encode(hello("site-1")).readableBytes
        #expect(connection.traffic == Traffic(sent: small + 2 + 4, received: greeting + small))
        let sealed = try SealedMessage(update(round: 3), payload: TensorPayload(tensors))
        try await connection.send(update(round: 3), payload: tensors)
        let answer = try #require(try await connection.receive(expecting: { _ in .state(layout) }))
        #expect(answer.tensors == tensors)
        #expect(answer.envelope == sealed.envelope)
        #expect(connection.traffic.sent == small + 2 + 4 + sealed.bytes.count)
        #expect(connection.traffic.received == greeting + small + sealed.bytes.count)
        #expect(Double(sealed.bytes.count) < 1.001 * Double(layout.byteCount))
        return connection.traffic
      }
      server.shutdown()
      #expect(traffic.sent > 8_000_000)
    }
    let served = try #require(atServer.withLock { $0.first })
    #expect(served.sent > 8_000_000)
  }

  @Test("sends a sealed message byte for byte, again after a reconnect")
  func sealed() async throws {
    let project = try Project()
    let tensors = try StreamTests.tensors()
    let layout = TensorLayout(tensors)
    try await project.serve(handler: { await self.echo($0, layout) }) { server, _ in
      let client = try PeerClient(identity: try project.participant("site-1"))
      let sealed = try SealedMessage(update(round: 7), payload: TensorPayload(tensors), chunkLength: 16)
      let again = try SealedMessage(bytes: sealed.bytes)
      for message in [sealed, again] {
        try await client.withConnection(host: "127.0.0.1", port: server.port) { connection in
          let before = connection.traffic.sent
          try await connection.send(message)
          #expect(connection.traffic.sent == before + sealed.bytes.count)
          let answer = try await connection.receive(expecting: { _ in .state(layout) })
          #expect(answer?.tensors == tensors)
          #expect(answer?.envelope == sealed.envelope)
        }
      }
    }
  }

  @Test("reports an invalid update and lives on")
  func refusedUpdate() async throws {
    let project = try Project()
    let tensors = try StreamTests.tensors()
    let layout = TensorLayout(tensors)
    try await project.serve(handler: { await self.echo($0, layout) }) { server, _ in
      let client = try PeerClient(identity: try project.participant("site-1"))
      try await client.withConnection(host: "127.0.0.1", port: server.port) { connection in
        var bad = tensors
        bad["c.scalar"]?.values[0] = .nan
        try await connection.send(update(round: 1), payload: bad)
        let reason = try await connection.receive()?.envelope.ack.reason
        #expect(reason == "not-finite: tensor 'c.scalar' holds nan at index 0; values must be finite")
        var other = tensors
        other["d"] = Tensor(zeros: [100_000])
        try await connection.send(update(round: 1), payload: other)
        #expect(try await connection.receive()?.envelope.ack.reason.hasPrefix("unexpected-tensor") == true)
        try await connection.send(update(round: 1), payload: tensors)
        #expect(try await connection.receive(expecting: { _ in .state(layout) })?.tensors == tensors)
      }
    }
  }

  @Test("refuses a stream for the layer above before a byte of it is kept")
  func refusedAbove() async throws {
    let project = try Project()
    let tensors = try StreamTests.tensors()
    let handler: @Sendable (PeerConnection) async -> Void = { connection in
      do {
        let late: ExpectStream = { _ in throw StreamViolation(code: "late", text: "the round is closed") }
        while let inbound = try await connection.receive(expecting: late) {
          try await connection.send(ack(.late, inbound.violation?.code.rawValue ?? "none"))
        }
      } catch {
        Issue.record(error)
      }
    }
    try await project.serve(handler: handler) { server, _ in
      let client = try PeerClient(identity: try project.participant("site-1"))
      try await client.withConnection(host: "127.0.0.1", port: server.port) { connection in
        try await connection.send(update(round: 1), payload: tensors)
        try await connection.send(hello("x"))
        #expect(try await connection.receive()?.envelope.ack.reason == "late")
        #expect(try await connection.receive()?.envelope.ack.reason == "none")
      }
    }
  }

  @Test("lets other messages overtake the rest of a stream, and orders streams")
  func interleaving() async throws {
    let project = try Project()
    let tensors = try large()
    let layout = TensorLayout(tensors)
    let handler: @Sendable (PeerConnection) async -> Void = { connection in
      do {
        var rounds: [UInt64] = []
        var others = 0
        while rounds.count < 4 || others < 20 {
          guard let inbound = try await connection.receive(expecting: { _ in .update(layout) }) else { break }
          if inbound.tensors == tensors { rounds.append(inbound.envelope.update.round) } else { others += 1 }
        }
        #expect(rounds.sorted() == [0, 1, 2, 3])
        #expect(others == 20)
        try await connection.send(ack(.accepted))
      } catch {
        Issue.record(error)
      }
    }
    try await project.serve(handler: handler) { server, _ in
      let client = try PeerClient(identity: try project.participant("site-1"))
      try await client.withConnection(host: "127.0.0.1", port: server.port) { connection in
        let payload = TensorPayload(tensors)
        try await withThrowingTaskGroup(of: Void.self) { group in
          for round in 0..<4 {
            group.addTask { try await connection.send(update(round: UInt64(round)), payload: payload) }
          }
          for _ in 0..<20 { group.addTask { try await connection.send(hello("x")) } }
          try await group.waitForAll()
        }
        #expect(try await connection.receive()?.envelope.ack.status == .accepted)
      }
    }
  }

  @Test("admits streams one after the other where they do not fit the memory budget together")
  func budget() async throws {
    let project = try Project()
    let tensors = try large()
    let layout = TensorLayout(tensors)
    var configuration = TransportConfiguration()
    configuration.inboundStreamBudget = layout.byteCount
    let held = Mutex((now: 0, most: 0))
    let handler: @Sendable (PeerConnection) async -> Void = { connection in
      do {
        while let inbound = try await connection.receive(expecting: { _ in .update(layout) }) {
          held.withLock {
            $0.now += 1
            $0.most = max($0.most, $0.now)
          }
          #expect(inbound.tensors == tensors)
          try await connection.send(ack(.accepted))
          held.withLock { $0.now -= 1 }
        }
      } catch {
        Issue.record(error)
      }
    }
    try await project.serve(configuration: configuration, handler: handler) { server, _ in
      let client = try PeerClient(identity: try project.participant("site-1"))
      let port = server.port
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<6 {
          group.addTask {
            try await client.withConnection(host: "127.0.0.1", port: port) { connection in
              try await connection.send(update(round: 1), payload: tensors)
              #expect(try await connection.receive()?.envelope.ack.status == .accepted)
            }
          }
        }
        try await group.waitForAll()
      }
    }
    #expect(held.withLock { $0.most } == 1)
  }

  @Test("reads no more of a stream than came with its declaration while there is no room for it")
  func unread() async throws {
    let project = try Project()
    let tensors = try large()
    let layout = TensorLayout(tensors)
    let (gate, open) = AsyncStream<Void>.makeStream()
    let most = 64 << 10
    let handler: @Sendable (PeerConnection) async -> Void = { connection in
      let inbound = try? await connection.receive { _ in
        // More is given its time to come, in vain.
        for _ in 0..<50 where connection.traffic.received <= most { try? await Task.sleep(for: .milliseconds(10)) }
        #expect(connection.traffic.received <= most)
        open.yield()
        return .update(layout)
      }
      #expect(inbound?.tensors == tensors)
      try? await connection.send(ack(.accepted))
    }
    try await project.serve(handler: handler) { server, _ in
      let client = try PeerClient(identity: try project.participant("site-1"))
      try await client.withConnection(host: "127.0.0.1", port: server.port) { connection in
        try await connection.send(update(round: 1), payload: tensors)
        #expect(try await connection.receive()?.envelope.ack.status == .accepted)
      }
    }
    // The receiver was asked for room at all.
    for await _ in gate { break }
  }

  /// What the server's handler ended with, and what the client was told, when the client sends `bytes`.
  private func violate(_ bytes: [ByteBuffer]) async throws -> (server: TransportError?, client: TransportError?) {
    let project = try Project()
    let layout = TensorLayout(try StreamTests.tensors())
    let (ends, end) = AsyncStream<TransportError?>.makeStream()
    let handler: @Sendable (PeerConnection) async -> Void = { connection in
      if connection.peer.participant?.rawValue == "good" { return await self.echo(connection, layout) }
      do {
        while try await connection.receive(expecting: { _ in .state(layout) }) != nil {}
        end.yield(nil)
      } catch {
        end.yield(error as? TransportError)
      }
    }
    var result: (server: TransportError?, client: TransportError?) = (nil, nil)
    try await project.serve(handler: handler) { server, _ in
      let good = try await PeerClient(identity: try project.participant("good"))
        .connect(host: "127.0.0.1", port: server.port)
      let client = try await PeerClient(identity: try project.participant("bad"))
        .connect(host: "127.0.0.1", port: server.port)
      do {
        for part in bytes { try await client.write(part) }
        while try await client.receive() != nil {}
      } catch {
        result.client = error as? TransportError
      }
      await client.close()
      result.server = await ends.first() ?? nil
      // Only the one connection was closed.
      try await good.send(hello("good"))
      #expect(try await good.receive()?.envelope == hello("good"))
      await good.close()
    }
    return result
  }

  @Test("tells a peer that breaks the protocol why, and closes only its connection")
  func violations() async throws {
    let tensors = try StreamTests.tensors()
    var wrong = TensorPayload(tensors).declaration
    wrong.tensors[0].shape = [9]
    let round = WireEnvelope(.round(.with { $0.state = wrong }))
    let open = WireEnvelope(.round(.with { $0.state = TensorPayload(tensors).declaration }))
    let cases: [(ReasonCode, [ByteBuffer])] = [
      (.frameTooLarge, [ByteBuffer(integer: UInt32(2 << 20) + 1)]),
      (.emptyFrame, [ByteBuffer(integer: UInt32(0))]),
      (.undecodable, [ByteBuffer(bytes: [0, 0, 0, 2, 0xFF, 0xFF])]),
      (.unknownMessage, [ByteBuffer(bytes: [0, 0, 0, 3, 0xA2, 0x06, 0x00])]),
      (.unexpectedChunk, [try Frame.encode(WireEnvelope(.chunk(.with { $0.data = Data([1]) })))]),
      (.wrongShape, [try Frame.encode(round)]),
      (.unexpectedStream, [try Frame.encode(open), try Frame.encode(open)]),
    ]
    for (code, bytes) in cases {
      let (server, client) = try await violate(bytes)
      guard case .violation(code, _)? = server else {
        Issue.record("server: \(String(describing: server)) instead of \(code)")
        continue
      }
      guard case .peerReported(code, let text)? = client else {
        Issue.record("client: \(String(describing: client)) instead of \(code)")
        continue
      }
      #expect(!text.isEmpty)
    }
  }

  @Test("gives up a peer that does not answer")
  func deadPeer() async throws {
    let project = try Project()
    var configuration = TransportConfiguration()
    configuration.keepAliveInterval = .milliseconds(150)
    configuration.peerTimeout = .milliseconds(1500)
    let (ends, end) = AsyncStream<TransportError?>.makeStream()
    let handler: @Sendable (PeerConnection) async -> Void = { connection in
      do {
        while try await connection.receive() != nil {}
        end.yield(nil)
      } catch {
        end.yield(error as? TransportError)
      }
    }
    try await project.serve(configuration: configuration, handler: handler) { server, _ in
      let silent = try await RawClient.connect(
        port: server.port,
        tls: try project.participant("silent").configuration(isServer: false)
      )
      #expect(await ends.first() == .unresponsive(seconds: 1.5))
      await silent.close()
      // A client that does nothing but answer lives on.
      let client = try PeerClient(identity: try project.participant("site-1"))
      try await client.withConnection(host: "127.0.0.1", port: server.port) { connection in
        while connection.traffic.sent < 10 * 8 { await Task.yield() }
        try await connection.send(hello("site-1"))
      }
      #expect(await ends.first() == .some(nil))
    }
  }

  @Test("holds few messages of a peer that sends more than is received, whatever they are")
  func backPressure() async throws {
    let project = try Project()
    let count = 48
    let handler: @Sendable (PeerConnection) async -> Void = { connection in
      // Receives nothing until nothing more comes in.
      var (last, rests) = (-1, 0)
      while rests < 10 {
        try? await Task.sleep(for: .milliseconds(50))
        rests = connection.traffic.received == last ? rests + 1 : 0
        last = connection.traffic.received
      }
      #expect(last < 4 << 20, "\(last) bytes were taken off the socket")
      do {
        for _ in 0..<count { #expect(try await connection.receive() != nil) }
        try await connection.send(ack(.accepted))
      } catch { Issue.record(error) }
    }
    try await project.serve(handler: handler) { server, _ in
      let large = hello(String(repeating: "x", count: 1 << 20))
      let client = try PeerClient(identity: try project.participant("site-1"))
      try await client.withConnection(host: "127.0.0.1", port: server.port) { connection in
        for _ in 0..<count { try await connection.send(large) }
        #expect(try await connection.receive()?.envelope.ack.status == .accepted)
      }
    }
  }

  @Test("gives up a peer that takes nothing, though it pings")
  func deafPeer() async throws {
    let project = try Project()
    let tensors = try large()
    var configuration = TransportConfiguration()
    configuration.streamTimeout = .milliseconds(400)
    let (ends, end) = AsyncStream<String>.makeStream()
    let (begins, begin) = AsyncStream<Void>.makeStream()
    let (isDeaf, deafen) = AsyncStream<Void>.makeStream()
    let handler: @Sendable (PeerConnection) async -> Void = { connection in
      begin.yield()
      _ = await isDeaf.first()
      // More than fits into the buffers of both sockets.
      do {
        for number in 0..<16 { try await connection.send(update(round: UInt64(number)), payload: tensors) }
        end.yield("everything was taken")
      } catch { end.yield("\(error)") }
    }
    try await project.serve(configuration: configuration, handler: handler) { server, _ in
      var tls = try project.participant("deaf").configuration(isServer: false)
      tls.certificateVerification = .none
      let deaf = try await RawClient.connect(port: server.port, tls: tls)
      _ = await begins.first()
      try await deaf.channel.setOption(.autoRead, value: false).get()
      deafen.yield()
      let pinging = Task {
        while !Task.isCancelled {
          deaf.write(try Frame.encode(WireEnvelope(.ping(.with { $0.nonce = 1 }))))
          try await Task.sleep(for: .milliseconds(50))
        }
      }
      #expect(await ends.first()?.contains("did not take a frame") == true)
      pinging.cancel()
      _ = await pinging.result
      await deaf.close()
    }
  }

  @Test("lets a receive be cancelled and goes on")
  func cancelledReceive() async throws {
    let project = try Project()
    let layout = TensorLayout(try StreamTests.tensors())
    try await project.serve(handler: { await self.echo($0, layout) }) { server, _ in
      let client = try PeerClient(identity: try project.participant("site-1"))
      try await client.withConnection(host: "127.0.0.1", port: server.port) { connection in
        let task = Task { try await connection.receive() }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        try await connection.send(hello("still here"))
        #expect(try await connection.receive()?.envelope == hello("still here"))
      }
    }
  }

  @Test("ends every connection when the server's task is cancelled")
  func cancelledServer() async throws {
    let project = try Project()
    let server = try await PeerServer.bind(host: "127.0.0.1", port: 0, identity: project.coordinator)
    let run = Task { await server.run { connection in _ = try? await connection.receive() } }
    let client = try await PeerClient(identity: try project.participant("site-1"))
      .connect(host: "127.0.0.1", port: server.port)
    run.cancel()
    await run.value
    let end = try? await client.receive()
    #expect(end == nil)
    await client.close()
    await #expect(throws: TransportError.self) {
      try await PeerClient(identity: try project.participant("site-1")).connect(host: "127.0.0.1", port: server.port)
    }
  }
}
