import FedLoRACheckpoint
import FedLoRACoordinator
import Foundation
import GRDB
import Testing

@Suite("The run's store")
struct RunStoreTests {
  private let run = RunStore.Description(runID: "r1", seed: .max - 3, manifest: Data([1, 2, 0, 255]))
  private let start = TensorSet(["a": Tensor(zeros: [2, 3])])

  private func create(_ folder: TemporaryFolder) throws -> RunStore {
    try RunStore.create(at: folder.url.appendingPathComponent("run"), run: run, initialState: start)
  }

  private func set(_ seed: UInt64) throws -> TensorSet {
    var generator = SeededGenerator(seed: seed)
    return TensorSet(["a": try generator.tensor([2, 3])])
  }

  @Test("a new run comes back as it was made, with nothing begun")
  func roundTrip() throws {
    let folder = try TemporaryFolder()
    let directory = try create(folder).directory
    let store = try RunStore.open(at: directory)
    #expect(store.run == run)
    #expect(try store.state(afterRound: 0) == start)
    #expect(
      try store.recover()
        == RecoveredRun(lastCommittedRound: 0, lastContributions: [], attempt: 0, members: [:], outcome: nil)
    )
    #expect(FileManager.default.fileExists(atPath: directory.appendingPathComponent("run.sqlite").path))
    #expect(
      FileManager.default.fileExists(
        atPath: directory.appendingPathComponent("state/round-000000.safetensors").path
      )
    )
  }

  @Test("an update is durable when it is stored: after a reopen it counts, and the same again is recognised")
  func updates() throws {
    let folder = try TemporaryFolder()
    var store = try create(folder)
    try store.openAttempt(round: 1, attempt: 1, cohort: ["a b/../c", "mill", "d", "e", "f"])
    let first = try set(1)
    #expect(
      try store.storeUpdate(
        round: 1,
        name: "a b/../c",
        examples: 7,
        metrics: ["loss": 0.5, "acc": 1],
        digest: "d1",
        tensors: first
      )
        == .stored
    )
    #expect(
      try store.storeUpdate(round: 1, name: "a b/../c", examples: 7, metrics: [:], digest: "d1", tensors: first)
        == .duplicate
    )
    #expect(
      try store.storeUpdate(round: 1, name: "a b/../c", examples: 7, metrics: [:], digest: "d2", tensors: try set(2))
        == .conflict
    )
    for (name, isReady) in [("mill", true), ("d", true), ("mill", false)] {
      try store.setRoster(name: name, isReady: isReady)
    }
    try store.record(name: "mill", round: 1, code: ReasonCode.lost, reason: "gone")
    try store.record(name: "d", round: 1, code: ReasonCode.declined, reason: "budget")
    try store.record(name: "e", round: 1, code: "not-finite", reason: "NaN")
    try store.record(name: "f", round: 1, code: ReasonCode.deadline, reason: "")

    let directory = store.directory
    store = try reopen(&store, directory)
    let recovered = try store.recover()
    #expect(recovered.roster == ["d"])
    #expect(recovered.attempt == 1 && recovered.lastCommittedRound == 0)
    #expect(
      recovered.members == [
        "a b/../c": .accepted(examples: 7, digest: "d1"), "mill": .lost, "d": .declined, "e": .refused, "f": .training,
      ]
    )
    #expect(try store.update(round: 1, name: "a b/../c") == first)
    #expect(try store.metrics(round: 1) == ["a b/../c": ["loss": 0.5, "acc": 1]])
    #expect(try store.audit().map(\.code) == ["lost", "declined", "not-finite", "deadline"])
    try store.record(name: "mill", round: 1, code: ReasonCode.returned, reason: "")
    #expect(try store.recover().members["mill"] == .training)
    try store.record(name: "e", round: 1, code: ReasonCode.late, reason: "")
    #expect(try store.recover().members["e"] == .refused)
    // Nothing was written outside the run's folder of updates.
    let files = try FileManager.default.contentsOfDirectory(
      atPath: directory.appendingPathComponent("updates/000001").path
    )
    #expect(files == ["a%20b%2F..%2Fc.safetensors"])
  }

  @Test("a commit moves the run on, in one piece, and can be repeated")
  func commits() throws {
    let folder = try TemporaryFolder()
    var store = try create(folder)
    try store.openAttempt(round: 1, attempt: 1, cohort: ["x", "y"])
    for name in ["x", "y"] {
      _ = try store.storeUpdate(
        round: 1,
        name: name,
        examples: 3,
        metrics: [:],
        digest: "\(name)1",
        tensors: try set(3)
      )
    }
    let counted = [Contribution(name: "x", examples: 3, digest: "x1")]
    #expect(throws: RunStoreError.roundOutOfTurn(found: 2, expected: 1)) {
      try store.commit(round: 2, contributions: counted, counts: [:], state: start)
    }
    #expect(throws: RunStoreError.self) {
      try store.commit(
        round: 1,
        contributions: [Contribution(name: "z", examples: 1, digest: "")],
        counts: [:],
        state: start
      )
    }
    #expect(try store.lastCommittedRound() == 0)
    let next = try set(4)
    try store.commit(round: 1, contributions: counted, counts: ["accepted": 1, "late": 1], state: next)
    try store.commit(round: 1, contributions: counted, counts: [:], state: start)
    store = try reopen(&store, store.directory)
    #expect(try store.state(afterRound: 1) == next)
    let recovered = try store.recover()
    #expect(recovered.lastCommittedRound == 1 && recovered.lastContributions == counted && recovered.members.isEmpty)
    let rounds = try store.rounds()
    #expect(rounds.map(\.updates) == [1] && rounds.map(\.counts) == [["accepted": 1, "late": 1]])
    #expect(
      !FileManager.default.fileExists(atPath: store.directory.appendingPathComponent("updates/000001").path)
    )
  }

  @Test("a client that is sent away takes its update with it, or leaves it")
  func sentAway() throws {
    let folder = try TemporaryFolder()
    let store = try create(folder)
    try store.openAttempt(round: 1, attempt: 1, cohort: ["x", "y"])
    for name in ["x", "y"] {
      _ = try store.storeUpdate(round: 1, name: name, examples: 1, metrics: ["m": 1], digest: "1", tensors: try set(1))
    }
    try store.sendAway(name: "x", round: 1, code: ReasonCode.removed, reason: "poison", discards: true)
    try store.sendAway(name: "y", round: 1, code: ReasonCode.drained, reason: "done", discards: false)
    let recovered = try store.recover()
    #expect(recovered.members == ["x": .declined, "y": .accepted(examples: 1, digest: "1")])
    #expect(recovered.retired == ["x", "y"])
    #expect(recovered.dismissed["x"] == Dismissal(reason: "poison", isRemoval: true))
    #expect(recovered.dismissed["y"] == Dismissal(reason: "done", isRemoval: false))
    #expect(try store.metrics(round: 1).keys.sorted() == ["y"])
    #expect(throws: (any Error).self) { try store.update(round: 1, name: "x") }
  }

  @Test("how a run ended is kept; a stop is no end")
  func outcomes() throws {
    let folder = try TemporaryFolder()
    var store = try create(folder)
    try store.finish(.stopped(reason: "Ctrl-C"))
    #expect(try store.recover().outcome == nil)
    try store.finish(.failed(reason: "no quorum"))
    store = try reopen(&store, store.directory)
    #expect(try store.recover().outcome == .failed(reason: "no quorum"))
    #expect(try store.audit().map(\.code) == ["stopped", "failed"])
  }

  @Test("its folders are for their owner alone")
  func closed() throws {
    let folder = try TemporaryFolder()
    let store = try create(folder)
    try store.openAttempt(round: 1, attempt: 1, cohort: ["x"])
    _ = try store.storeUpdate(round: 1, name: "x", examples: 1, metrics: [:], digest: "1", tensors: try set(1))
    for name in ["", "state", "updates", "updates/000001"] {
      let path = store.directory.appendingPathComponent(name).path
      #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o700, "\(path)")
    }
  }

  @Test("what a killed coordinator left behind is removed, and nothing else")
  func leftovers() throws {
    let folder = try TemporaryFolder()
    var store = try create(folder)
    try store.openAttempt(round: 1, attempt: 1, cohort: ["x"])
    _ = try store.storeUpdate(round: 1, name: "x", examples: 1, metrics: [:], digest: "x1", tensors: try set(1))
    let counted = [Contribution(name: "x", examples: 1, digest: "x1")]
    try store.commit(round: 1, contributions: counted, counts: [:], state: start)
    try store.openAttempt(round: 2, attempt: 1, cohort: ["x"])
    _ = try store.storeUpdate(round: 2, name: "x", examples: 1, metrics: [:], digest: "x2", tensors: try set(2))
    let directory = store.directory
    func path(_ name: String) -> String { directory.appendingPathComponent(name).path }
    let left = ["updates/000001/x.safetensors", "updates/000002/.x.tmp", "state/.round.tmp", ".run.tmp"]
    let kept = ["updates/000002/x.safetensors", "state/round-000001.safetensors", "notes.tmp"]
    try FileManager.default.createDirectory(atPath: path("updates/000001"), withIntermediateDirectories: true)
    for name in left + ["notes.tmp"] { try Data("part".utf8).write(to: URL(fileURLWithPath: path(name))) }
    store = try reopen(&store, directory)
    for name in left { #expect(!FileManager.default.fileExists(atPath: path(name)), "\(name)") }
    for name in kept { #expect(FileManager.default.fileExists(atPath: path(name)), "\(name)") }
    #expect(try store.update(round: 2, name: "x") == set(2))
  }

  @Test("commits are synchronised to the disk in full, in WAL mode")
  func pragmas() throws {
    let folder = try TemporaryFolder()
    let store = try create(folder)
    #expect(try store.pragma("synchronous") == "2")
    #expect(try store.pragma("journal_mode") == "wal")
    #expect(try store.pragma("foreign_keys") == "1")
  }

  @Test("a folder without a run, with a run, in use, newer, broken or no folder at all is named as such")
  func refusals() throws {
    let folder = try TemporaryFolder()
    let empty = folder.url.appendingPathComponent("empty")
    #expect(throws: RunStoreError.noRun(path: empty.path)) { try RunStore.open(at: empty) }
    var store: RunStore? = try create(folder)
    let directory = try #require(store?.directory)
    #expect(throws: RunStoreError.inUse(path: directory.path)) { try RunStore.open(at: directory) }
    store = nil
    #expect(throws: RunStoreError.runExists(path: directory.path)) {
      try RunStore.create(at: directory, run: run, initialState: start)
    }
    let state = directory.appendingPathComponent("state/round-000000.safetensors")
    try FileManager.default.removeItem(at: state)
    #expect(throws: RunStoreError.damaged(path: directory.path, reason: "\(state.path) is missing")) {
      try RunStore.open(at: directory).recover()
    }
    try newerMigration(directory)
    #expect(throws: RunStoreError.newerVersion(path: directory.path)) { try RunStore.open(at: directory) }
    let broken = folder.url.appendingPathComponent("broken")
    try FileManager.default.createDirectory(at: broken, withIntermediateDirectories: true)
    try Data(repeating: 7, count: 8192).write(to: broken.appendingPathComponent("run.sqlite"))
    #expect(throws: RunStoreError.cannotOpen(path: broken.path, reason: "file is not a database")) {
      try RunStore.open(at: broken)
    }
    let file = folder.url.appendingPathComponent("file")
    try Data().write(to: file)
    #expect(throws: RunStoreError.self) {
      try RunStore.create(at: file.appendingPathComponent("run"), run: run, initialState: start)
    }
    #expect(throws: RunStoreError.self) { try RunStore.create(at: file, run: run, initialState: start) }
  }

  @Test("unusable names and metrics that are not finite are refused")
  func badInput() throws {
    let folder = try TemporaryFolder()
    let store = try create(folder)
    try store.openAttempt(round: 1, attempt: 1, cohort: ["x"])
    for name in ["", String(repeating: "n", count: 81)] {
      #expect(throws: RunStoreError.unusableName(name)) {
        try store.storeUpdate(round: 1, name: name, examples: 1, metrics: [:], digest: "", tensors: start)
      }
    }
    #expect(throws: RunStoreError.metricNotFinite(name: "x", metric: "loss")) {
      try store.storeUpdate(round: 1, name: "x", examples: 1, metrics: ["loss": .nan], digest: "", tensors: start)
    }
  }

  /// Drops the object, as a crash would, and opens the folder again.
  private func reopen(_ store: inout RunStore, _ directory: URL) throws -> RunStore {
    // The lock lives as long as the object, so a placeholder takes its place first.
    let placeholder = try TemporaryFolder()
    store = try RunStore.create(at: placeholder.url, run: run, initialState: start)
    return try RunStore.open(at: directory)
  }

  private func newerMigration(_ directory: URL) throws {
    let queue = try DatabaseQueue(path: directory.appendingPathComponent("run.sqlite").path)
    try queue.write { db in
      try db.execute(sql: "INSERT INTO grdb_migrations (identifier) VALUES ('v999')")
    }
    try queue.close()
  }
}
