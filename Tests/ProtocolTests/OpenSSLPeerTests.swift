import FedLoRAProtocol
import Foundation
import NIOCore
import Testing

/// Both sides of our TLS against the openssl tool, so that what is refused is not only what our own library would not send.
@Suite(
  "Seen by openssl",
  .enabled(if: OpenSSLTool.isInstalled, "the openssl tool is not installed"),
  .timeLimit(.minutes(1))
)
struct OpenSSLPeerTests {
  private let scratch = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)

  private func save(_ identity: TLSIdentity, _ name: String) throws -> URL {
    let folder = scratch.appendingPathComponent(name)
    try identity.save(to: folder)
    return folder
  }

  private func validity(_ from: Double, _ until: Double) throws -> CertificateValidity {
    try CertificateValidity(notBefore: Date(timeIntervalSinceNow: from), notAfter: Date(timeIntervalSinceNow: until))
  }

  // MARK: openssl as the client

  private func client(port: Int, version: String = "-tls1_3", identity: URL?, authority: URL) throws
    -> OpenSSLTool.Running
  {
    var arguments = [
      "s_client", version, "-connect", "127.0.0.1:\(port)", "-servername", "coordinator.fedlora", "-quiet",
      "-verify_quiet", "-no_ign_eof", "-CAfile", authority.appendingPathComponent("ca.pem").path, "-verify_hostname",
      "coordinator.fedlora", "-verify_return_error",
    ]
    if let identity {
      arguments += [
        "-cert", identity.appendingPathComponent("certificate.pem").path, "-key",
        identity.appendingPathComponent("key.pem").path,
      ]
    }
    return try OpenSSLTool.Running(arguments)
  }

  /// The reason for which the server refuses openssl.
  private func refusal(
    _ project: Project,
    version: String = "-tls1_3",
    identity: TLSIdentity?,
    as coordinator: TLSIdentity? = nil
  ) async throws -> ReasonCode? {
    defer { try? FileManager.default.removeItem(at: scratch) }
    let authority = try save(coordinator ?? project.coordinator, "authority")
    let folder = try identity.map { try save($0, "client") }
    var code: ReasonCode?
    try await project.serve(as: coordinator, handler: { Issue.record("\($0.peer) was let in") }) { server, refusals in
      let tool = try client(port: server.port, version: version, identity: folder, authority: authority)
      code = await refusals.first()?.code
      try? tool.closeInput()
      let end = await tool.end()
      #expect(end.output.contains("alert"), "\(end.output)")
    }
    return code
  }

  @Test("refuses TLS 1.2, and a client without a certificate")
  func oldAndNameless() async throws {
    let project = try Project()
    let identity = try project.participant("a")
    #expect(try await refusal(project, version: "-tls1_2", identity: identity) == .oldTLS)
    #expect(try await refusal(project, identity: nil) == .noCertificate)
  }

  @Test("refuses certificates of another authority, ended, not begun, revoked, and the coordinator's")
  func badCertificates() async throws {
    let project = try Project()
    let stranger = try Project()
    #expect(try await refusal(project, identity: try stranger.participant("a")) == .unknownAuthority)
    let past = try validity(-7200, -3600)
    #expect(try await refusal(project, identity: try project.participant("a", validity: past)) == .expired)
    let future = try validity(3600, 7200)
    #expect(try await refusal(project, identity: try project.participant("a", validity: future)) == .notYetValid)
    #expect(try await refusal(project, identity: project.coordinator) == .wrongRole)
    let home = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: home) }
    let authority = try AuthorityFolder.create(in: home)
    let issued = try TLSIdentity.load(from: try authority.issueParticipant(try ParticipantName("a")))
    _ = try authority.revoke(.serial(issued.serial))
    let coordinator = try TLSIdentity.load(from: authority.coordinator)
    #expect(try await refusal(project, identity: issued, as: coordinator) == .revoked)
  }

  @Test("refuses a certificate that a participant has signed as if it were an authority")
  func selfMadeAuthority() async throws {
    defer { try? FileManager.default.removeItem(at: scratch) }
    let project = try Project()
    let folder = try save(try project.participant("mallory"), "mallory")
    let authority = try save(project.coordinator, "authority")
    func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
    // Alice's certificate as mallory would make it, with everything in it as the authority writes it.
    try Data(
      """
      [v3]
      basicConstraints=critical,CA:FALSE
      keyUsage=critical,digitalSignature
      extendedKeyUsage=clientAuth
      subjectAltName=URI:fedlora:participant:alice
      """.utf8
    ).write(to: folder.appendingPathComponent("v3.cnf"))
    for arguments in [
      ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path("alice-key.pem")],
      ["req", "-new", "-key", path("alice-key.pem"), "-subj", "/O=fedlora/CN=alice", "-out", path("alice.csr")],
      [
        "x509", "-req", "-in", path("alice.csr"), "-CA", path("certificate.pem"), "-CAkey", path("key.pem"),
        "-CAcreateserial", "-days", "1", "-extfile", path("v3.cnf"), "-extensions", "v3", "-out", path("alice.pem"),
      ],
    ] {
      let result = try await OpenSSLTool.run(arguments)
      try #require(result.status == 0, "\(result.output)")
    }
    try await project.serve(handler: { Issue.record("\($0.peer) was let in") }) { server, refusals in
      let tool = try OpenSSLTool.Running([
        "s_client", "-tls1_3", "-connect", "127.0.0.1:\(server.port)", "-servername", "coordinator.fedlora", "-quiet",
        "-no_ign_eof", "-CAfile", authority.appendingPathComponent("ca.pem").path, "-cert", path("alice.pem"), "-key",
        path("alice-key.pem"), "-cert_chain", path("certificate.pem"),
      ])
      let refusal = await refusals.first()
      #expect(refusal.map { [.unknownAuthority, .invalidCertificate].contains($0.code) } == true, "\(refusal as Any)")
      try? tool.closeInput()
      _ = await tool.end()
    }
  }

  @Test("lets a good certificate in, of either kind of key, up to Hello", arguments: IdentityKeyKind.allCases)
  func good(kind: IdentityKeyKind) async throws {
    defer { try? FileManager.default.removeItem(at: scratch) }
    let project = try Project()
    let folder = try save(
      try project.authority.issueParticipant(try ParticipantName("alice"), key: kind),
      "alice"
    )
    let names = Mailbox()
    let handler: @Sendable (PeerConnection) async -> Void = { connection in
      guard case .hello(let message)? = try? await connection.receive()?.envelope.message else { return }
      names.put("\(connection.peer) says \(message.clientName)")
      try? await connection.send(ack(.accepted, "welcome, alice"))
      _ = try? await connection.receive()
    }
    try await project.serve(handler: handler) { server, _ in
      let tool = try client(port: server.port, identity: folder, authority: folder)
      try tool.write(Data(try Frame.encode(hello("alice")).readableBytesView))
      #expect(await names.first() == "participant 'alice' says alice")
      #expect(await tool.waitFor(Data("welcome, alice".utf8)), "\(tool.output)")
      try tool.closeInput()
      _ = await tool.end()
    }
  }

  // MARK: openssl as the coordinator

  /// The port of a server, which prints "ACCEPT 127.0.0.1:PORT" once it listens.
  private func port(of tool: OpenSSLTool.Running) async throws -> Int {
    _ = await tool.waitFor(Data("ACCEPT 127.0.0.1:".utf8))
    let digits = tool.output.components(separatedBy: "ACCEPT 127.0.0.1:").last?.prefix { $0.isNumber } ?? ""
    return try #require(Int(digits), "\(tool.output)")
  }

  /// Our client's error when openssl serves `identity`.
  private func dial(_ project: Project, served identity: TLSIdentity, extra: [String] = []) async throws
    -> TransportError?
  {
    defer { try? FileManager.default.removeItem(at: scratch) }
    let folder = try save(identity, "server")
    let tool = try OpenSSLTool.Running(
      [
        "s_server", "-accept", "127.0.0.1:0", "-cert", folder.appendingPathComponent("certificate.pem").path, "-key",
        folder.appendingPathComponent("key.pem").path,
      ] + extra
    )
    defer { tool.stop() }
    let port = try await port(of: tool)
    do {
      let connection = try await PeerClient(identity: try project.participant("alice"))
        .connect(host: "127.0.0.1", port: port, timeout: .seconds(2))
      await connection.close()
      Issue.record("the client believes to be connected")
      return nil
    } catch { return error as? TransportError }
  }

  private func code(_ error: TransportError?) -> ReasonCode? {
    if case .untrustedPeer(_, let code, _)? = error { code } else { nil }
  }

  @Test("our client refuses another authority, an ended certificate, a wrong name, a participant and TLS 1.2")
  func badServers() async throws {
    let (project, stranger) = (try Project(), try Project())
    #expect(code(try await dial(project, served: stranger.coordinator)) == .unknownAuthority)
    let ended = try project.authority.issueCoordinator(validity: try validity(-7200, -3600))
    #expect(code(try await dial(project, served: ended)) == .expired)
    #expect(code(try await dial(project, served: try project.participant("mallory"))) == .wrongRole)
    #expect(code(try await dial(project, served: project.coordinator, extra: ["-tls1_2"])) == .oldTLS)
    // The right certificate gets as far as the greeting that openssl does not send.
    guard case .cannotConnect(_, let reason)? = try await dial(project, served: project.coordinator) else {
      Issue.record("the coordinator's own certificate was refused")
      return
    }
    #expect(reason.contains("greeting"))
  }

  @Test("our client refuses a certificate of the right authority with another name")
  func wrongName() async throws {
    defer { try? FileManager.default.removeItem(at: scratch) }
    let home = scratch.appendingPathComponent("ca")
    let authority = try AuthorityFolder.create(in: home)
    func path(_ name: String) -> String { home.appendingPathComponent(name).path }
    try Data(
      """
      [v3]
      basicConstraints=critical,CA:FALSE
      extendedKeyUsage=serverAuth
      subjectAltName=DNS:elsewhere.fedlora
      """.utf8
    ).write(to: home.appendingPathComponent("v3.cnf"))
    for arguments in [
      ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path("other-key.pem")],
      ["req", "-new", "-key", path("other-key.pem"), "-subj", "/O=fedlora/CN=coordinator", "-out", path("other.csr")],
      [
        "x509", "-req", "-in", path("other.csr"), "-CA", path("ca.pem"), "-CAkey", path("ca-key.pem"),
        "-CAcreateserial", "-days", "1", "-extfile", path("v3.cnf"), "-extensions", "v3", "-out", path("other.pem"),
      ],
    ] {
      let result = try await OpenSSLTool.run(arguments)
      try #require(result.status == 0, "\(result.output)")
    }
    let tool = try OpenSSLTool.Running([
      "s_server", "-accept", "127.0.0.1:0", "-cert", path("other.pem"), "-key", path("other-key.pem"),
    ])
    defer { tool.stop() }
    let port = try await port(of: tool)
    await #expect {
      try await PeerClient(identity: try authority.authority.issueParticipant(try ParticipantName("alice")))
        .connect(host: "127.0.0.1", port: port, timeout: .seconds(2))
    } throws: { error in
      code(error as? TransportError) == .wrongRole
    }
  }

  @Test("our enrolment refuses the coordinator's certificate, which could otherwise collect tokens")
  func tokenCollector() async throws {
    defer { try? FileManager.default.removeItem(at: scratch) }
    let home = scratch.appendingPathComponent("ca")
    let authority = try AuthorityFolder.create(in: home)
    func path(_ name: String) -> String { authority.coordinator.appendingPathComponent(name).path }
    let tool = try OpenSSLTool.Running([
      "s_server", "-accept", "127.0.0.1:0", "-cert", path("certificate.pem"), "-key", path("key.pem"), "-cert_chain",
      path("ca.pem"),
    ])
    defer { tool.stop() }
    let port = try await port(of: tool)
    let token = try authority.makeToken(for: try ParticipantName("alice"), validFor: 60, days: 1).token
    await #expect {
      try await Enrolment.enrol(
        token,
        at: EnrolmentAddress(host: "127.0.0.1", port: port),
        to: scratch.appendingPathComponent("alice")
      )
    } throws: { error in
      code(error as? TransportError) == .wrongRole
    }
  }
}
