import FedLoRACheckpoint
import FedLoRAClient
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

@Suite("A client's state folder")
struct ClientStateFolderTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func open(_ run: String = "run") throws -> ClientStateFolder {
    try ClientStateFolder(parent: scratch.url, runID: run)
  }

  private func sealed(_ round: Int) throws -> SealedMessage {
    var update = WireUpdate()
    update.runID = "run"
    update.round = UInt64(round)
    update.metrics = ["loss": 0.5, "accuracy": 0.25, "norm": 3]
    return try SealedMessage(
      WireEnvelope(.update(update)),
      payload: TensorPayload(TensorSet(["m.lora_A.weight": ToyRun.tensor([2, 3], "c", round, "A")]))
    )
  }

  private func personal(_ round: Int) -> TensorSet {
    TensorSet(["m.lora_B.weight": ToyRun.tensor([4, 2], "c", round, "B")])
  }

  @Test("knows nothing before the first round")
  func empty() throws {
    let state = try open()
    #expect(try state.latest() == nil)
    #expect(try state.countTrained() == 0)
  }

  @Test("survives re-opening, with the sealed update byte for byte")
  func reopening() throws {
    let update = try sealed(2)
    let state = try open()
    try state.commit(round: 2, personal: personal(2), update: update)
    let again = try open()
    let latest = try #require(try again.latest())
    #expect(latest.round == 2)
    #expect(latest.personal == personal(2))
    #expect(!latest.isAcknowledged)
    #expect(try again.countTrained() == 1)
    #expect(try again.sealedUpdate(of: 2).bytes == update.bytes)
    try again.acknowledge(round: 2, status: "accepted")
    #expect(try open().latest()?.isAcknowledged == true)
  }

  @Test("keeps the newest round only")
  func newest() throws {
    let state = try open()
    for round in [1, 2, 12] { try state.commit(round: round, personal: personal(round), update: sealed(round)) }
    #expect(try state.latest()?.round == 12)
    #expect(try state.countTrained() == 3)
    let names = try FileManager.default.contentsOfDirectory(atPath: state.folder.path)
    #expect(names == ["round-000012"])
  }

  @Test("ignores and removes what a killed process left half-written")
  func halfWritten() throws {
    let state = try open()
    try state.commit(round: 1, personal: personal(1), update: sealed(1))
    let aside = state.folder.appendingPathComponent(".half")
    try FileManager.default.createDirectory(at: aside, withIntermediateDirectories: false)
    try Data("not a tensor".utf8).write(to: aside.appendingPathComponent("personal.safetensors"))
    #expect(try state.latest()?.round == 1)
    #expect(try open().latest()?.round == 1)
    #expect(!FileManager.default.fileExists(atPath: aside.path))
  }

  @Test("leaves nothing behind when a round cannot be made durable")
  func failedCommit() throws {
    let state = try open()
    try state.commit(round: 1, personal: personal(1), update: sealed(1))
    let before = try contents(of: state.folder)
    // A folder that holds something stands where the round should go.
    #expect(throws: ClientError.self) { try state.commit(round: 1, personal: personal(2), update: sealed(2)) }
    #expect(try contents(of: state.folder) == before)
  }

  @Test("pins the first manifest and refuses another one")
  func pinning() throws {
    let state = try open()
    #expect(try state.pin(runID: "run", manifestHash: Data([1, 2])))
    #expect(try state.pin(runID: "run", manifestHash: Data([1, 2])))
    #expect(try !state.pin(runID: "run", manifestHash: Data([1, 3])))
    #expect(try !open().pin(runID: "run", manifestHash: Data([1, 3])))
    #expect(try open().pin(runID: "run", manifestHash: Data([1, 2])))
  }

  @Test("says which file is damaged")
  func damage() throws {
    let state = try open()
    try state.commit(round: 1, personal: personal(1), update: sealed(1))
    let file = state.folder.appendingPathComponent("round-000001/update.sealed")
    let good = try Data(contentsOf: file)
    var flipped = good
    flipped[good.count - 1] ^= 1
    for bad in [flipped, good.dropLast(), Data()] {
      try bad.write(to: file)
      do {
        _ = try state.sealedUpdate(of: 1)
        Issue.record("\(bad.count) damaged bytes were taken")
      } catch let error as ClientError {
        #expect(error.description.contains(file.path), "\(error)")
        #expect(error.description.contains("move it away"))
      }
    }
    let personal = state.folder.appendingPathComponent("round-000001/personal.safetensors")
    try Data("rubbish".utf8).write(to: personal)
    do {
      _ = try state.latest()
      Issue.record("damaged personal tensors were taken")
    } catch { #expect("\(error)".contains(personal.path), "\(error)") }
    let terms = state.folder.appendingPathComponent("terms.json")
    try Data("{".utf8).write(to: terms)
    do {
      _ = try state.pin(runID: "run", manifestHash: Data([1]))
      Issue.record("damaged terms were taken")
    } catch { #expect("\(error)".contains(terms.path), "\(error)") }
  }

  @Test(
    "gives every run a folder of its own below its parent",
    arguments: ["a/b", "..", ".", "", "a b", "ä", "%2f", "/etc"]
  )
  func names(run: String) throws {
    let state = try open(run)
    #expect(state.folder.deletingLastPathComponent().path == scratch.url.path)
    #expect(try open("x" + run).folder != state.folder)
  }
}

@Suite("Backoff")
struct BackoffTests {
  @Test("doubles up to its bound, and lies between half and all of it")
  func bounds() {
    let backoff = Backoff(initial: .milliseconds(100), longest: .seconds(1))
    #expect(backoff.delay(afterFailure: 1, jitter: 1) == .milliseconds(100))
    #expect(backoff.delay(afterFailure: 1, jitter: 0) == .milliseconds(50))
    #expect(backoff.delay(afterFailure: 2, jitter: 1) == .milliseconds(200))
    #expect(backoff.delay(afterFailure: 4, jitter: 1) == .milliseconds(800))
    for failures in [5, 6, 100, Int.max] {
      #expect(backoff.delay(afterFailure: failures, jitter: 1) == .seconds(1))
      #expect(backoff.delay(afterFailure: failures, jitter: 0) == .milliseconds(500))
    }
    #expect(backoff.delay(afterFailure: 0, jitter: 5) == .milliseconds(100))
    #expect(backoff.delay(afterFailure: -3, jitter: -5) == .milliseconds(50))
  }
}
