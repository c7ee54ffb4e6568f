import FedLoRACheckpoint
import FedLoRACoordinator
import Foundation
import GRDB
import Testing

@Suite("A run with a long history")
struct LargeHistoryTests {
  private static let clients = (0..<1000).map { "client-\($0)" }
  private static let rounds = 100

  /// Rounds as a coordinator leaves them behind, written at once.
  private func writeHistory(_ directory: URL) throws {
    let database = try DatabaseQueue(path: directory.appendingPathComponent("run.sqlite").path)
    try database.write { db in
      for name in Self.clients {
        try db.execute(sql: "INSERT INTO client (name, isReady) VALUES (?, 1)", arguments: [name])
      }
      for round in 1...Self.rounds {
        try db.execute(
          sql: """
            INSERT INTO round (number, attempt, openedAt, committedAt, updates, counts)
            VALUES (?, 1, 'then', 'then', ?, '{"accepted":1000}')
            """,
          arguments: [round, Self.clients.count]
        )
        for name in Self.clients {
          try db.execute(
            sql: "INSERT INTO participant (round, name, attempt, status) VALUES (?, ?, 1, 'training')",
            arguments: [round, name]
          )
          try db.execute(
            sql: "INSERT INTO \"update\" (round, name, examples, digest, storedAt) VALUES (?, ?, 5, ?, 'then')",
            arguments: [round, name, "\(name)-\(round)"]
          )
          try db.execute(
            sql: "INSERT INTO metric (round, name, metric, value) VALUES (?, ?, 'loss', 0.5)",
            arguments: [round, name]
          )
          try db.execute(
            sql: "INSERT INTO audit (at, round, name, code, reason) VALUES ('then', ?, ?, 'accepted', '')",
            arguments: [round, name]
          )
        }
      }
    }
  }

  @Test("of 1,000 clients and 100 rounds is taken up again in less than 2 seconds")
  func recovery() throws {
    let folder = try TemporaryFolder()
    let directory = folder.url.appendingPathComponent("run")
    let start = try TensorSet([("a", Tensor(shape: [64, 64], values: Array(repeating: 0.5, count: 4096)))])
    let run = RunStore.Description(runID: "long", seed: 1, manifest: Data("m".utf8))
    try RunStore.create(at: directory, run: run, initialState: start).close()
    try writeHistory(directory)
    try SafetensorsFile.write(start, to: directory.appendingPathComponent("state/round-000100.safetensors"))
    // The open round has half of its updates.
    var store = try RunStore.open(at: directory)
    try store.openAttempt(round: Self.rounds + 1, attempt: 1, cohort: Self.clients)
    for name in Self.clients.prefix(500) {
      _ = try store.storeUpdate(
        round: Self.rounds + 1,
        name: name,
        examples: 5,
        metrics: [:],
        digest: name,
        tensors: start
      )
    }
    store.close()

    let began = ContinuousClock.now
    store = try RunStore.open(at: directory)
    let policy = try RoundPolicy(
      rounds: 200,
      minClients: 1000,
      clientsPerRound: 1000,
      quorum: 900,
      deadline: .seconds(600)
    )
    var state = RunState(policy: policy, seed: run.seed, recovered: try store.recover())
    _ = state.resume(now: RunInstant(sinceOrigin: .zero))
    let taken = ContinuousClock.now - began
    #expect(taken < .seconds(2), "\(taken)")
    #expect(state.phase == .open && state.current.round == 101 && state.expected.count == 1000)
    #expect(state.current.contributions.count == 500)
    #expect(state.participations["client-7"] == 101)
  }
}
