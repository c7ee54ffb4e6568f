import FedLoRACheckpoint
import FedLoRACoordinator
import Foundation
import Testing

/// A disk that counts what it is asked to wait for, and can be broken.
private final class CountingDisk: FileSystem, @unchecked Sendable {
  struct Broken: Error {}

  private let disk = LocalFileSystem()
  private(set) var waits: [String] = []
  var isBroken = false

  func create(_ url: URL, permissions: mode_t) throws -> any WritableFile {
    File(try disk.create(url, permissions: permissions), self)
  }
  func syncDirectory(_ directory: URL) throws {
    if isBroken { throw Broken() }
    waits.append("folder \(directory.lastPathComponent)")
    try disk.syncDirectory(directory)
  }
  func read(_ url: URL) throws -> Data { try disk.read(url) }
  func map(_ url: URL) throws -> MappedFile { try disk.map(url) }
  func exists(_ url: URL) -> Bool { disk.exists(url) }
  func makeDirectory(_ url: URL, permissions: mode_t) throws -> Bool {
    try disk.makeDirectory(url, permissions: permissions)
  }
  func names(in directory: URL) throws -> [String] { try disk.names(in: directory) }
  func rename(_ from: URL, to: URL) throws { try disk.rename(from, to: to) }
  func remove(_ url: URL) throws { try disk.remove(url) }
  func lock(_ url: URL) throws -> (any FileLock)? { try disk.lock(url) }
  func forget() { waits = [] }

  private final class File: WritableFile, @unchecked Sendable {
    private let file: any WritableFile
    private let disk: CountingDisk

    init(_ file: any WritableFile, _ disk: CountingDisk) { (self.file, self.disk) = (file, disk) }

    func write(_ data: Data) throws { try file.write(data) }
    func sync() throws {
      if disk.isBroken { throw Broken() }
      disk.waits.append("file")
      try file.sync()
    }
    func close() { file.close() }
  }
}

@Suite("Changes of a run's store that are made together")
struct RunStoreGroupTests {
  private let folder: TemporaryFolder
  private let disk = CountingDisk()
  private let store: RunStore
  private let names = (1...20).map { "c\($0)" }

  init() throws {
    folder = try TemporaryFolder()
    store = try RunStore.create(
      at: folder.url.appendingPathComponent("run"),
      run: RunStore.Description(runID: "r", seed: 1, manifest: Data()),
      initialState: try RunStoreGroupTests.tensors(0),
      on: disk
    )
    try store.openAttempt(round: 1, attempt: 1, cohort: names)
    disk.forget()
  }

  private static func tensors(_ value: Float) throws -> TensorSet {
    TensorSet(["a": try Tensor(shape: [2], values: [value, value])])
  }

  private func keep(_ name: String, round: Int = 1) throws -> StoredUpdate {
    try store.storeUpdate(
      round: round,
      name: name,
      examples: 1,
      metrics: ["loss": 1],
      digest: name,
      tensors: try RunStoreGroupTests.tensors(Float(round))
    )
  }

  private func reopened() throws -> RunStore {
    store.close()
    return try RunStore.open(at: folder.url.appendingPathComponent("run"))
  }

  @Test("wait for each file and for each folder once, and are all there afterwards")
  func durable() throws {
    var outcomes: [StoredUpdate] = []
    var isSeenInside = false
    try store.together {
      for name in names {
        if let outcome = try? keep(name) { outcomes.append(outcome) }
        try? store.record(name: name, round: 1, code: ReasonCode.accepted, reason: "")
      }
      // What is written is read back, also before it is durable; a repetition is recognised.
      isSeenInside = (try? store.metrics(round: 1).count) == names.count && (try? keep("c1")) == .duplicate
      #expect(disk.waits.isEmpty)
    }
    #expect(outcomes == names.map { _ in .stored } && isSeenInside)
    #expect(disk.waits.count { $0 == "file" } == names.count)
    #expect(disk.waits.count { $0 == "folder 000001" } == 1)
    let later = try reopened()
    #expect(try later.recover().members.count == names.count)
    #expect(try later.audit().count == names.count)
    for name in names { #expect(try later.update(round: 1, name: name) == RunStoreGroupTests.tensors(1)) }
    later.close()
  }

  @Test("have not happened where the disk fails at the end")
  func failure() throws {
    #expect(throws: CountingDisk.Broken.self) {
      try store.together {
        for name in names { _ = try? keep(name) }
        disk.isBroken = true
      }
    }
    disk.isBroken = false
    #expect(try store.recover().members["c1"] == .training)
    // And the store goes on.
    #expect(try keep("c1") == .stored)
    #expect(try store.recover().members["c1"] == .accepted(examples: 1, digest: "c1"))
    store.close()
  }

  @Test("keep the others where one of them fails")
  func oneFails() throws {
    var errors = 0
    try store.together {
      _ = try? keep("c1")
      // A round that was never opened has no place for an update.
      do { _ = try keep("c2", round: 7) } catch { errors += 1 }
      _ = try? keep("c3")
    }
    #expect(errors == 1)
    let members = try store.recover().members
    #expect(members["c1"] == .accepted(examples: 1, digest: "c1"))
    #expect(members["c2"] == .training && members["c3"] == .accepted(examples: 1, digest: "c3"))
    store.close()
  }

  @Test("remove files only once no row names them any more")
  func removals() throws {
    for name in names { _ = try keep(name) }
    let file = folder.url.appendingPathComponent("run/updates/000001/c1.safetensors").path
    let contributions = names.map { Contribution(name: $0, examples: 1, digest: $0) }
    func commit() throws {
      try store.commit(
        round: 1,
        contributions: contributions,
        counts: [:],
        state: try RunStoreGroupTests.tensors(5)
      )
    }
    #expect(throws: CountingDisk.Broken.self) {
      try store.together {
        try? commit()
        disk.isBroken = true
      }
    }
    disk.isBroken = false
    #expect(FileManager.default.fileExists(atPath: file))
    #expect(try store.lastCommittedRound() == 0)
    try store.together {
      try? commit()
      #expect(FileManager.default.fileExists(atPath: file))
    }
    #expect(!FileManager.default.fileExists(atPath: file))
    let later = try reopened()
    #expect(try later.lastCommittedRound() == 1)
    #expect(try later.state(afterRound: 1) == RunStoreGroupTests.tensors(5))
    later.close()
  }
}
