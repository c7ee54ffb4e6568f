import FedLoRACheckpoint
import FedLoRAClient
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAObservability
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Logging
import Testing

@Suite("A coordinator's and a client's logs", .timeLimit(.minutes(1)))
struct StructuredLogTests {
  private struct Line {
    let message: String
    let metadata: [String: Any]
  }

  private func parsed(_ lines: [String]) throws -> [Line] {
    try lines.map { line in
      let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      #expect(Set(object.keys) == ["time", "level", "label", "message", "metadata"])
      return Line(
        message: try #require(object["message"] as? String),
        metadata: try #require(object["metadata"] as? [String: Any])
      )
    }
  }

  private func logger(_ log: EventLog<String>) -> Logger {
    Logger(label: "fedlora.test") {
      LineLogHandler(label: $0, level: .debug, format: .json, write: log.record)
    }
  }

  @Test("have run, round and client on every line where they are known")
  func fields() async throws {
    let project = try Project()
    let (log, own) = (EventLog<String>(), EventLog<String>())
    let run = try ToyRun(.fedit, head: .shared, rounds: 2, clients: 2)
    let coordinator = try await project.serve(run, logger: logger(log))
    _ = try? await RawParticipant.greet(try project.identity("mallory"), port: coordinator.port, name: "alice")
    let first = FederatedClient(
      identity: try project.identity("c1"),
      host: "127.0.0.1",
      port: coordinator.port,
      stateDirectory: project.folder.appending("c1"),
      trainer: ToyTrainer(),
      logger: logger(own)
    )
    let second = try project.client("c2", port: coordinator.port)
    async let one = first.run()
    async let two = second.run()
    _ = try await (one, two)
    _ = try await coordinator.result()

    let lines = try parsed(log.events)
    for line in lines { #expect(line.metadata["run"] as? String == run.manifest.runID, "\(line)") }
    func rounds(_ message: String) -> [Int] {
      lines.filter { $0.message == message }.compactMap { $0.metadata["round"] as? Int }
    }
    #expect(rounds("round opened") == [1, 2] && rounds("round committed") == [1, 2])
    #expect(rounds("round aggregated") == [1, 2])
    #expect(rounds("update accepted").sorted() == [1, 1, 2, 2])
    let accepted = lines.filter { $0.message == "update accepted" }.compactMap { $0.metadata["client"] as? String }
    #expect(Set(accepted) == ["c1", "c2"] && accepted.count == 4)
    #expect(lines.contains { $0.message == "connection refused" && $0.metadata["code"] as? String == "name-mismatch" })
    #expect(lines.last { $0.message == "run over" }?.metadata["code"] as? String == "completed")

    let theirs = try parsed(own.events)
    for line in theirs {
      #expect(line.metadata["client"] as? String == "c1", "\(line)")
      if line.message != "connected" { #expect(line.metadata["run"] as? String == run.manifest.runID, "\(line)") }
      if line.message.contains("round ") || line.message == "update answered" {
        #expect(line.metadata["round"] is Int, "\(line)")
      }
    }
    #expect(theirs.map(\.message).filter { $0 == "round trained" }.count == 2)

    // The event log says the same, line by line.
    var reader = RunLogReader(folder: project.folder.appending("coordinator"))
    let entries = reader.next()
    #expect(entries.allSatisfy { $0.run == run.manifest.runID })
    #expect(entries.filter { $0.event == "update-accepted" }.allSatisfy { $0.round != nil && $0.client != nil })
    #expect(entries.map(\.event).filter { $0 == "round-committed" }.count == 2)
  }

  @Test("tell in the event log what became of each client")
  func outcomes() async throws {
    let project = try Project()
    let coordinator = try await project.serve(try ToyRun(.fedit, head: .shared, rounds: 1, clients: 2))
    let first = try await RawParticipant.join(try project.identity("p1"), port: coordinator.port)
    let second = try await RawParticipant.join(try project.identity("p2"), port: coordinator.port)
    _ = try await first.round()
    _ = try await second.round()
    let (update, tensors) = first.update(round: 1, client: "p1")
    for _ in 0..<2 {
      try await first.send(update, tensors)
      _ = try await first.ack()
    }
    var later = update
    later.round = 9
    try await first.send(later, tensors)
    _ = try await first.ack()
    var decline = WireDecline()
    decline.runID = second.manifest.runID
    decline.round = 1
    decline.code = "diverged"
    try await second.connection.send(WireEnvelope(.decline(decline)))
    try await coordinator.log.first { if case .declined(1, "p2", "diverged", _) = $0 { true } else { false } }
    await coordinator.server.stop(reason: "the test is over")
    _ = try await coordinator.result()
    var reader = RunLogReader(folder: project.folder.appending("coordinator"))
    let told = reader.next().filter { $0.client != nil && $0.round != nil }
      .map { "\($0.event) \($0.round ?? 0) \($0.client ?? "") \($0.code ?? "")" }
    #expect(
      told == [
        "update-accepted 1 p1 ", "client-outcome 1 p1 duplicate", "update-refused 9 p1 future-round",
        "declined 1 p2 diverged",
      ]
    )
  }
}
