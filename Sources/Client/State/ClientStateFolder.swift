import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation

/// A client's durable state in one run.
///
/// `DIR/RUN/terms.json` pins the hash of the manifest that was accepted. Each trained round is a folder
/// `round-000012` with `personal.safetensors` (this client's own tensors after the round), `update.sealed` (the very
/// bytes that go on the wire) and `trained` (how many rounds were trained so far). The folder is filled under another name, synced and renamed, so that after
/// `kill -9` the round is either not trained at all or trained and sealed. `acknowledged` is added once the coordinator
/// has answered. Only the newest round is kept.
package struct ClientStateFolder: Sendable {
  /// The newest trained round.
  package struct TrainedRound: Sendable {
    package let round: Int
    package let personal: TensorSet
    package let isAcknowledged: Bool
  }

  package let folder: URL
  private let disk: any FileSystem

  /// Opens the state of `runID` below `parent`, making it where it is not there.
  package init(parent: URL, runID: String, on disk: any FileSystem = LocalFileSystem()) throws {
    folder = parent.appendingPathComponent(ClientStateFolder.safeName(runID))
    self.disk = disk
    try DurableFile.makeDirectory(folder, permissions: ClientStateFolder.permissions, on: disk)
    // What a killed process left half-written has no name that counts.
    for name in try names() where name.hasPrefix(".") {
      try? disk.remove(folder.appendingPathComponent(name))
    }
    // A process that was killed may have renamed without waiting for the disk: what is found here is about to be relied
    // on, and sent.
    try disk.syncDirectory(folder)
  }

  /// Mode of the folders: a client's own tensors and its sealed updates are nobody else's to read.
  private static let permissions: mode_t = 0o700

  /// Takes a client's folder for this process: two would train the same rounds, and charge them twice.
  /// - Throws: `ClientError.stateInUse` where another process has it.
  package static func lock(_ parent: URL, on disk: any FileSystem = LocalFileSystem()) throws -> any FileLock {
    try DurableFile.makeDirectory(parent, permissions: permissions, on: disk)
    guard let lock = try disk.lock(parent.appendingPathComponent("lock")) else {
      throw ClientError.stateInUse(path: parent.path)
    }
    return lock
  }

  private struct Terms: Codable {
    let run_id: String
    let manifest_sha256: String
  }

  /// Accepts a manifest for this run, once: another one under the same run id is refused.
  /// - Returns: whether the manifest is the pinned one (or is pinned now).
  package func pin(runID: String, manifestHash: Data) throws -> Bool {
    let url = folder.appendingPathComponent("terms.json")
    let hash = manifestHash.map { String(format: "%02x", $0) }.joined()
    if disk.exists(url) {
      guard let data = try? disk.read(url),
        let terms = try? JSONDecoder().decode(Terms.self, from: data)
      else {
        throw ClientError.corruptState(path: url.path, reason: "is not the JSON that was written")
      }
      return terms.manifest_sha256 == hash && terms.run_id == runID
    }
    try DurableFile.write(JSONEncoder().encode(Terms(run_id: runID, manifest_sha256: hash)), to: url, on: disk)
    return true
  }

  /// The newest trained round, or nil before the first.
  package func latest() throws -> TrainedRound? {
    guard let (round, url) = try rounds().last else { return nil }
    let personal = try SafetensorsFile.read(url.appendingPathComponent("personal.safetensors"), on: disk)
    return TrainedRound(
      round: round,
      personal: personal,
      isAcknowledged: disk.exists(url.appendingPathComponent("acknowledged"))
    )
  }

  /// The sealed update of a round.
  package func sealedUpdate(of round: Int) throws -> SealedMessage {
    let url = roundFolder(round).appendingPathComponent("update.sealed")
    do {
      return try SealedMessage(bytes: disk.read(url))
    } catch {
      throw ClientError.corruptState(path: url.path, reason: "\(error)")
    }
  }

  /// Makes a trained round durable, personal tensors and sealed update together, and drops older rounds.
  package func commit(round: Int, personal: TensorSet, update: SealedMessage) throws {
    let count = try countTrained() + 1
    let aside = folder.appendingPathComponent(".\(UUID().uuidString)")
    _ = try disk.makeDirectory(aside, permissions: ClientStateFolder.permissions)
    do {
      try SafetensorsFile.write(personal, to: aside.appendingPathComponent("personal.safetensors"), on: disk)
      try DurableFile.write(update.bytes, to: aside.appendingPathComponent("update.sealed"), on: disk)
      try DurableFile.write(Data("\(count)\n".utf8), to: aside.appendingPathComponent("trained"), on: disk)
      do { try disk.rename(aside, to: roundFolder(round)) } catch let error as DurableFileError {
        throw ClientError.corruptState(path: roundFolder(round).path, reason: error.description)
      }
      try disk.syncDirectory(folder)
    } catch {
      try? disk.remove(aside)
      throw error
    }
    for (old, url) in try rounds() where old < round { try? disk.remove(url) }
  }

  /// Notes that the coordinator has answered for this round's update.
  package func acknowledge(round: Int, status: String) throws {
    let url = roundFolder(round)
    guard disk.exists(url) else { return }
    try DurableFile.write(Data(status.utf8), to: url.appendingPathComponent("acknowledged"), on: disk)
  }

  /// How many rounds were trained, over all restarts.
  package func countTrained() throws -> Int {
    guard let newest = try rounds().last else { return 0 }
    let url = newest.url.appendingPathComponent("trained")
    guard disk.exists(url) else { return 0 }
    guard let count = Int(String(decoding: try disk.read(url), as: UTF8.self).trimmingCharacters(in: .newlines)) else {
      throw ClientError.corruptState(path: url.path, reason: "is not the number that was written")
    }
    return count
  }

  private func roundFolder(_ round: Int) -> URL {
    folder.appendingPathComponent(
      "round-" + String(repeating: "0", count: max(0, 6 - String(round).count)) + "\(round)"
    )
  }

  private func rounds() throws -> [(round: Int, url: URL)] {
    try names().compactMap { name in
      guard name.hasPrefix("round-"), let round = Int(name.dropFirst(6)) else { return nil }
      return (round, folder.appendingPathComponent(name))
    }.sorted { $0.round < $1.round }
  }

  private func names() throws -> [String] { try disk.names(in: folder) }

  /// A run id as a folder name: everything but letters, digits, dots, hyphens and underscores is written in hexadecimal.
  private static func safeName(_ runID: String) -> String {
    var name = ""
    for byte in runID.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
        name.append(Character(UnicodeScalar(byte)))
      case UInt8(ascii: ".") where !name.isEmpty: name.append(".")
      default: name += "%" + String(format: "%02x", byte)
      }
    }
    return "run-" + String(name.prefix(200))
  }
}
