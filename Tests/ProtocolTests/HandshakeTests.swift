import FedLoRAProtocol
import Foundation
import NIOCore
import NIOSSL
import Testing

private let opensslPath: String? = ["/usr/bin/openssl", "/usr/local/bin/openssl", "/opt/homebrew/bin/openssl"]
  .first { FileManager.default.isExecutableFile(atPath: $0) }

@Suite("Handshake", .timeLimit(.minutes(1)))
struct HandshakeTests {
  /// The reason in the server's log and the client's error when `identity` dials.
  private func dial(
    with identity: TLSIdentity,
    to project: Project,
    as coordinator: TLSIdentity? = nil
  ) async throws -> (refused: RefusedPeer?, error: TransportError?) {
    var result: (refused: RefusedPeer?, error: TransportError?) = (nil, nil)
    try await project.serve(
      as: coordinator,
      handler: { Issue.record("\($0.peer) was let in") },
      { server, refusals in
        let client = try PeerClient(identity: identity)
        do {
          let connection = try await client.connect(host: "127.0.0.1", port: server.port)
          Issue.record("the client believes to be connected")
          await connection.close()
          return
        } catch {
          result.error = error as? TransportError
        }
        result.refused = await refusals.first()
        #expect(result.refused.map { server.refusals[$0.code] } == 1)
      }
    )
    return result
  }

  private func expectRefusedByServer(
    _ result: (refused: RefusedPeer?, error: TransportError?),
    _ code: ReasonCode,
    name: String
  ) {
    #expect(result.refused?.code == code, "\(String(describing: result.refused))")
    #expect(result.refused?.address.hasPrefix("127.0.0.1:") == true)
    guard case .refusedByPeer(_, let text)? = result.error else {
      Issue.record("client: \(String(describing: result.error))")
      return
    }
    #expect(text.contains(name), "\(text)")
  }

  @Test("refuses the certificate of another authority")
  func otherAuthority() async throws {
    let (project, stranger) = (try Project(), try Project())
    // It trusts our coordinator, so that only the server's judgement counts.
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: folder) }
    try stranger.participant("site-1").save(to: folder)
    try Data(project.coordinator.authorityPEM.utf8).write(to: folder.appendingPathComponent("ca.pem"))
    let result = try await dial(with: try TLSIdentity.load(from: folder), to: project)
    expectRefusedByServer(result, .unknownAuthority, name: "site-1")
  }

  @Test("refuses a certificate that has ended")
  func expired() async throws {
    let project = try Project()
    let past = try CertificateValidity(
      notBefore: Date(timeIntervalSinceNow: -7200),
      notAfter: Date(timeIntervalSinceNow: -3600)
    )
    expectRefusedByServer(
      try await dial(with: try project.participant("late", validity: past), to: project),
      .expired,
      name: "late"
    )
    let future = try CertificateValidity(
      notBefore: Date(timeIntervalSinceNow: 3600),
      notAfter: Date(timeIntervalSinceNow: 7200)
    )
    expectRefusedByServer(
      try await dial(with: try project.participant("early", validity: future), to: project),
      .notYetValid,
      name: "early"
    )
  }

  @Test("refuses the coordinator's certificate as a client's")
  func coordinatorAsClient() async throws {
    let project = try Project()
    expectRefusedByServer(
      try await dial(with: project.coordinator, to: project),
      .wrongRole,
      name: "coordinator"
    )
  }

  @Test("refuses a participant's certificate as the coordinator's")
  func participantAsCoordinator() async throws {
    let project = try Project()
    let result = try await dial(
      with: try project.participant("site-1"),
      to: project,
      as: try project.participant("impostor")
    )
    #expect(result.refused?.code == .refusedByPeer, "\(String(describing: result.refused))")
    guard case .untrustedPeer(_, .wrongRole, let text)? = result.error else {
      Issue.record("client: \(String(describing: result.error))")
      return
    }
    #expect(text.contains("impostor"))
  }

  @Test("refuses a coordinator of another authority and one whose certificate has ended")
  func otherCoordinator() async throws {
    let (project, stranger) = (try Project(), try Project())
    let other = try await dial(with: try project.participant("site-1"), to: project, as: stranger.coordinator)
    guard case .untrustedPeer(_, .unknownAuthority, _)? = other.error else {
      Issue.record("client: \(String(describing: other.error))")
      return
    }
    let past = try CertificateValidity(
      notBefore: Date(timeIntervalSinceNow: -7200),
      notAfter: Date(timeIntervalSinceNow: -3600)
    )
    let old = try await dial(
      with: try project.participant("site-1"),
      to: project,
      as: try project.authority.issueCoordinator(validity: past)
    )
    guard case .untrustedPeer(_, .expired, _)? = old.error else {
      Issue.record("client: \(String(describing: old.error))")
      return
    }
  }

  @Test("refuses a client without a certificate, one of plain text, and one that says nothing")
  func strangers() async throws {
    let project = try Project()
    var configuration = TransportConfiguration()
    configuration.handshakeTimeout = .seconds(2)
    try await project.serve(
      configuration: configuration,
      handler: { Issue.record("\($0.peer) was let in") },
      { server, refusals in
        var anonymous = TLSConfiguration.makeClientConfiguration()
        anonymous.certificateVerification = .none
        let nameless = try await RawClient.connect(port: server.port, tls: anonymous)
        #expect(await refusals.first()?.code == .noCertificate)
        await nameless.close()
        let plain = try await RawClient.connect(port: server.port, tls: nil)
        plain.write(ByteBuffer(string: "GET / HTTP/1.1\r\n\r\n"))
        #expect(await refusals.first()?.code == .notTLS)
        await plain.close()
        let mute = try await RawClient.connect(port: server.port, tls: nil)
        #expect(await refusals.first()?.code == .handshakeTimeout)
        await mute.close()
      }
    )
  }

  @Test("tells a client that there is no place left")
  func limit() async throws {
    let project = try Project()
    var configuration = TransportConfiguration()
    configuration.maximumConnections = 1
    try await project.serve(
      configuration: configuration,
      handler: { _ = try? await $0.receive() },
      { server, refusals in
        let first = try await PeerClient(identity: try project.participant("first"))
          .connect(host: "127.0.0.1", port: server.port)
        await #expect {
          try await PeerClient(identity: try project.participant("second")).connect(
            host: "127.0.0.1",
            port: server.port
          )
        } throws: { error in
          guard case .peerReported(.tooManyConnections, _)? = error as? TransportError else { return false }
          return true
        }
        #expect(await refusals.first()?.code == .tooManyConnections)
        await first.close()
      }
    )
  }

  @Test("takes the peer's name from its certificate")
  func names() async throws {
    let project = try Project()
    let handler: @Sendable (PeerConnection) async -> Void = { connection in
      // Whatever it calls itself.
      guard let name = connection.peer.participant else {
        Issue.record("\(connection.peer)")
        return
      }
      _ = try? await connection.receive()
      try? await connection.send(ack(.accepted, name.rawValue))
    }
    try await project.serve(handler: handler) { server, _ in
      for name in ["site-1", "Hospital_7.b", String(repeating: "x", count: 64)] {
        try await PeerClient(identity: try project.participant(name))
          .withConnection(host: "localhost", port: server.port) { connection in
            try await connection.send(hello("somebody-else"))
            #expect(try await connection.receive()?.envelope.ack.reason == name)
          }
      }
    }
  }

  @Test("cannot be made where nobody listens")
  func nobody() async throws {
    let project = try Project()
    var port = 0
    try await project.serve(handler: { _ in }) { server, _ in port = server.port }
    let client = try PeerClient(identity: try project.participant("site-1"))
    await #expect {
      try await client.connect(host: "127.0.0.1", port: port)
    } throws: { error in
      guard case .cannotConnect? = error as? TransportError else { return false }
      return true
    }
  }

  @Test(
    "is TLS 1.3 for the openssl tool too, and nothing older",
    .enabled(if: opensslPath != nil, "the openssl tool is not installed")
  )
  func openssl() async throws {
    let project = try Project()
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: folder) }
    try project.participant("site-1").save(to: folder)
    let (served, serving) = AsyncStream<PeerIdentity>.makeStream()
    let handler: @Sendable (PeerConnection) async -> Void = { connection in
      serving.yield(connection.peer)
      _ = try? await connection.receive()
    }
    try await project.serve(handler: handler) { server, refusals in
      let old = try await run(version: "-tls1_2", port: server.port, folder: folder) {
        #expect(await refusals.first()?.code == .oldTLS)
      }
      #expect(old.contains("alert protocol version"), "\(old)")
      let new = try await run(version: "-tls1_3", port: server.port, folder: folder) {
        #expect(await served.first()?.participant?.rawValue == "site-1")
      }
      #expect(new.contains("TLSv1.3") && new.contains("Verification: OK"), "\(new)")
    }
  }

  /// What the tool prints. It stays connected until `body` is done.
  private func run(version: String, port: Int, folder: URL, until body: () async throws -> Void) async throws -> String
  {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: opensslPath ?? "")
    process.arguments = [
      "s_client", version, "-connect", "127.0.0.1:\(port)", "-cert",
      folder.appendingPathComponent("certificate.pem").path,
      "-key", folder.appendingPathComponent("key.pem").path, "-CAfile", folder.appendingPathComponent("ca.pem").path,
      "-verify_hostname", "coordinator.fedlora", "-verify_return_error", "-servername", "coordinator.fedlora",
    ]
    let (input, output) = (Pipe(), Pipe())
    process.standardInput = input
    process.standardOutput = output
    process.standardError = output
    let (ends, end) = AsyncStream<Void>.makeStream()
    process.terminationHandler = { _ in end.yield() }
    try process.run()
    try await body()
    // At the end of its input the tool ends.
    try input.fileHandleForWriting.close()
    _ = await ends.first()
    return String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
  }
}
