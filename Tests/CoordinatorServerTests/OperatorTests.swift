import FedLoRAClient
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

@Suite("A run's operator", .timeLimit(.minutes(1)))
struct OperatorTests {
  private let project: Project

  init() throws { project = try Project() }

  private var folder: URL { project.folder.appending("coordinator") }

  private func ask(_ verb: OperatorRequest.Verb, _ folder: URL, reason: String = "") async throws -> OperatorReply? {
    try await withDeadline { try await OperatorSocket.ask(OperatorRequest(verb, reason: reason), folder: folder) }
  }

  private func start(_ names: [String], port: Int, trainer: ToyTrainer) throws -> Task<Void, any Error> {
    let clients = try names.map { try project.client($0, port: port, trainer: trainer) }
    return Task {
      try await withThrowingTaskGroup(of: Void.self) { group in
        for client in clients { group.addTask { _ = try await client.run() } }
        try await group.waitForAll()
      }
    }
  }

  @Test("sees how the run stands, stops it after the round, and it is resumed to its end; the log tells all of it")
  func stopAndResume() async throws {
    let run = try ToyRun(rounds: 3, quorum: 2)
    let gate = Gate()
    #expect(throws: RunStoreError.self) { try RunOverview(reading: folder) }
    let coordinator = try await project.serve(run)
    #expect(try RunOverview(reading: folder).state == .pending)
    let clients = try start(
      ["c1", "c2", "c3"],
      port: coordinator.port,
      trainer: ToyTrainer { _ in try await gate.pass() }
    )
    try await coordinator.log.first { if case .roundOpened(1, _, _) = $0 { true } else { false } }
    let seen = try #require(try await ask(.status, folder)?.status)
    #expect(seen.phase == "open" && seen.round == 1 && seen.ready == ["c1", "c2", "c3"])
    #expect(seen.members == ["c1": "training", "c2": "training", "c3": "training"])
    #expect((0...60).contains(try #require(seen.deadlineSeconds)))
    let overview = try RunOverview(reading: folder)
    #expect(overview.state == .running && overview.isServed && overview.rounds == 0 && overview.clients == 3)
    let reply = try #require(try await ask(.stop, folder, reason: "night"))
    #expect(reply.isAccepted && reply.message.contains("round 1"))
    #expect(try await ask(.status, folder)?.status?.isStopping == true)
    gate.open()
    let result = try await coordinator.result()
    #expect(result.outcome == .stopped(reason: "stopped by the operator: night"))
    #expect(result.roundsCommitted == 1)
    let stopped = try RunOverview(reading: folder)
    #expect(stopped.state == .stopped && stopped.isResumable && !stopped.isServed && stopped.rounds == 1)
    #expect(stopped.reason == "stopped by the operator: night")
    #expect(try await ask(.stop, folder) == nil)

    let again = try await project.serve(run, port: coordinator.port)
    #expect(try await again.result().outcome == .completed)
    _ = try? await withDeadline { try await clients.value }
    let ended = try RunOverview(reading: folder)
    #expect(ended.state == .completed && !ended.isResumable && ended.rounds == 3)
    var reader = RunLogReader(folder: folder)
    let entries = reader.next()
    #expect(entries.filter { $0.event == "coordinator-started" }.count == 2)
    #expect(entries.filter { $0.event == "round-committed" }.compactMap(\.round) == [1, 2, 3])
    #expect(entries.filter { $0.event == "finished" }.compactMap(\.code) == ["stopped", "completed"])
    #expect(entries.allSatisfy { $0.run == "toy" && !$0.at.isEmpty })
    #expect(reader.next().isEmpty)
  }

  @Test("aborts a run for good")
  func abort() async throws {
    let coordinator = try await project.serve(try ToyRun(rounds: 3, quorum: 2))
    let reply = try #require(try await ask(.abort, folder, reason: "wrong data"))
    #expect(reply.isAccepted)
    #expect(try await coordinator.result().outcome == .failed(reason: "aborted by the operator: wrong data"))
    let overview = try RunOverview(reading: folder)
    #expect(overview.state == .failed && !overview.isResumable)
    #expect(overview.reason == "aborted by the operator: wrong data")
  }

  @Test("is answered what a request is when it sends none, and holds up nobody by sending nothing")
  func nonsense() async throws {
    let coordinator = try await project.serve(try ToyRun(rounds: 1, quorum: 1))
    let path = folder.appendingPathComponent(OperatorSocket.name).path
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    #expect(mode == 0o600)
    for line in ["", "{}", "{\"verb\":\"explode\",\"reason\":\"\"}", String(repeating: "x", count: 10_000)] {
      let answer = try await withDeadline { try await RawSocket.exchange(line + "\n", path: path) }
      #expect(answer.isEmpty == (line.count > 4096), "\(line.prefix(20))")
      if line.count <= 4096 {
        let reply = try JSONDecoder().decode(OperatorReply.self, from: answer)
        #expect(!reply.isAccepted && reply.message.contains("verbs are status, stop, abort"))
      }
    }
    // More connections that say nothing than are served at a time: they are let go of, and the next is served.
    let silent = try (0..<4).map { _ in try RawSocket.connect(path) }
    defer { for descriptor in silent { close(descriptor) } }
    #expect(try await ask(.status, folder)?.isAccepted == true)
    await coordinator.server.stop(reason: "enough")
    _ = try await coordinator.result()
    #expect(!FileManager.default.fileExists(atPath: path))
  }

  @Test("finds the socket also where the folder's path is longer than a socket address")
  func longPath() async throws {
    let deep = Array(repeating: "a-rather-long-folder", count: 12).joined(separator: "/")
    let coordinator = try await project.serve(try ToyRun(rounds: 1, quorum: 1), directory: deep)
    #expect(try await ask(.status, project.folder.appending(deep))?.isAccepted == true)
    await coordinator.server.stop(reason: "enough")
    _ = try await coordinator.result()
  }

  @Test("a log that ends in half a line goes on with a whole one")
  func tornLog() async throws {
    let run = try ToyRun(rounds: 1, quorum: 1)
    let first = try await project.serve(run)
    await first.server.stop(reason: "enough")
    _ = try await first.result()
    let file = folder.appendingPathComponent(RunLog.name)
    var bytes = try Data(contentsOf: file)
    var reader = RunLogReader(folder: folder)
    let before = reader.next().count
    bytes.append(Data("{\"at\":\"2026".utf8))
    try bytes.write(to: file)
    let second = try await project.serve(run)
    await second.server.stop(reason: "enough")
    _ = try await second.result()
    var all = RunLogReader(folder: folder)
    #expect(all.next().count == 2 * before)
  }
}

/// A Unix socket by hand.
private enum RawSocket {
  static func connect(_ path: String) throws -> Int32 {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix(107)) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else { throw RunStoreError.cannotOpen(path: path, reason: String(cString: strerror(errno))) }
    return descriptor
  }

  /// Everything that is answered until the other side closes.
  static func exchange(_ line: String, path: String) async throws -> Data {
    try await withCheckedThrowingContinuation { continuation in
      Thread {
        do {
          let descriptor = try connect(path)
          defer { close(descriptor) }
          let bytes = Array(line.utf8)
          _ = send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
          var answer = Data()
          var buffer = [UInt8](repeating: 0, count: 4096)
          while case let count = read(descriptor, &buffer, buffer.count), count > 0 {
            answer.append(contentsOf: buffer[..<count])
          }
          continuation.resume(returning: answer)
        } catch { continuation.resume(throwing: error) }
      }.start()
    }
  }
}
