import FedLoRAObservability
import FedLoRATestSupport
import Foundation
import Testing

@Suite("A metrics server", .timeLimit(.minutes(1)))
struct MetricsServerTests {
  private func serve(
    _ change: (inout MetricsServer.Limits) -> Void = { _ in },
    body: String = "a 1\n"
  ) async throws -> MetricsServer {
    var limits = MetricsServer.Limits()
    change(&limits)
    return try await MetricsServer.bind(
      host: "127.0.0.1",
      port: 0,
      limits: limits,
      routes: ["/metrics": { HTTPAnswer(status: 200, contentType: PrometheusRegistry.contentType, body: body) }]
    )
  }

  /// Waits until no connection is open.
  private func idle(_ server: MetricsServer) async throws {
    try await withDeadline(.seconds(20)) {
      while server.connectionCount > 0 { try await Task.sleep(for: .milliseconds(5)) }
    }
  }

  @Test("answers GET and HEAD with type and length, then closes")
  func answers() async throws {
    let server = try await serve()
    for path in ["/metrics", "/metrics?name=x"] {
      let (status, head, body) = try await HTTPProbe.get(path, port: server.port)
      #expect(status == 200 && body == "a 1\n")
      let lines = head.lowercased().split(separator: "\r\n")
      #expect(lines.contains("content-type: text/plain; version=0.0.4; charset=utf-8"))
      #expect(lines.contains("content-length: 4") && lines.contains("connection: close"))
    }
    let request = "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    let (status, head, body) = try await HTTPProbe.exchange(port: server.port, request)
    #expect(status == 200 && body.isEmpty && head.lowercased().contains("content-length: 4"))
    let old = try await HTTPProbe.exchange(port: server.port, "GET /metrics HTTP/1.0\r\n\r\n")
    #expect(old.status == 200 && old.body == "a 1\n")
    try await idle(server)
    await server.close()
  }

  @Test(
    "answers what it does not understand with 4xx and nothing more",
    arguments: [
      ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404), ("GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
      ("GET /../metrics HTTP/1.1\r\nHost: x\r\n\r\n", 404),
      ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405),
      ("DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405), ("GET /metrics HTTP/1.1\r\n\r\n", 400),
      ("GET /metrics HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400), ("hello\r\n\r\n", 400),
      ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}", 400), ("GET /metrics HTTP/9.9\r\nHost: x\r\n\r\n", 400),
      ("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
      ("GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + String(repeating: "y", count: 9000) + "\r\n\r\n", 431),
      ("GET /" + String(repeating: "y", count: 20_000), 431),
    ]
  )
  func badRequests(request: String, status: Int) async throws {
    let server = try await serve()
    let answer = try await HTTPProbe.exchange(port: server.port, request)
    #expect(answer.status == status, "\(answer)")
    #expect(!answer.body.contains("a 1") && answer.body.utf8.count < 100)
    if status == 405 { #expect(answer.head.contains("Allow: GET, HEAD")) }
    // It goes on.
    #expect(try await HTTPProbe.get("/metrics", port: server.port).status == 200)
    await server.close()
  }

  @Test("answers one request a connection, also where more come at once")
  func pipelined() async throws {
    let server = try await serve()
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    let probe = try await HTTPProbe.connect(port: server.port)
    await probe.send(request + request + request)
    let answer = try await probe.answer()
    #expect(answer.components(separatedBy: "HTTP/1.1 200").count == 2)
    await server.close()
  }

  @Test("ends half-open connections in time, and closes those beyond the bound at once")
  func slow() async throws {
    let server = try await serve {
      $0.connections = 4
      $0.requestTime = .milliseconds(300)
    }
    var probes: [HTTPProbe] = []
    for _ in 0..<4 {
      let probe = try await HTTPProbe.connect(port: server.port)
      await probe.send("GET /metrics HTT")
      probes.append(probe)
    }
    let clock = ContinuousClock.now
    let surplus = try await HTTPProbe.connect(port: server.port)
    await surplus.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    #expect(try await surplus.answer().isEmpty)
    for probe in probes { #expect(try await probe.answer().hasPrefix("HTTP/1.1 408")) }
    #expect(ContinuousClock.now - clock < .seconds(10))
    try await idle(server)
    #expect(try await HTTPProbe.get("/metrics", port: server.port).body == "a 1\n")
    await server.close()
  }

  @Test("does not wait for a peer that does not take the answer")
  func notReading() async throws {
    let large = String(repeating: "a 1\n", count: 2 << 20)
    let server = try await serve({ $0.answerTime = .seconds(3) }, body: large)
    let lazy = try await HTTPProbe.connect(port: server.port, reads: false)
    await lazy.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    #expect(try await HTTPProbe.get("/metrics", port: server.port).body.utf8.count == large.utf8.count)
    try await idle(server)
    lazy.close()
    await server.close()
  }

  @Test("says where it cannot listen, and leaves the port free when it is closed")
  func ports() async throws {
    let first = try await serve()
    let routes: [String: MetricsServer.Route] = [:]
    await #expect {
      _ = try await MetricsServer.bind(host: "127.0.0.1", port: first.port, routes: routes)
    } throws: { error in
      "\(error)".hasPrefix("metrics cannot be served on 127.0.0.1:\(first.port): ")
    }
    await first.close()
    let second = try await MetricsServer.bind(host: "127.0.0.1", port: first.port, routes: routes)
    #expect(second.port == first.port)
    await second.close()
  }
}
