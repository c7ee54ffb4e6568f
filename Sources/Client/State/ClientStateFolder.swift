import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation

/// A client's durable state in one run.
///
/// `DIR/RUN/terms.json` pins the hash of the manifest that was accepted. Each trained round is a folder
/// `round-000012` with `personal.safetensors` (this client's own tensors after the round) and `update.sealed` (the
/// very bytes that go on the wire). The folder is filled under another name, synced and renamed, so that after
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

  /// Opens the state of `runID` below `parent`, making it where it is not there.
  package init(parent: URL, runID: String) throws {
    folder = parent.appendingPathComponent(ClientStateFolder.safeName(runID))
    do {
      try DurableFile.makeDirectory(folder)
    } catch {
      throw ClientError.corruptState(path: folder.path, reason: "\(error)")
    }
    // What a killed process left half-written has no name that counts.
    for name in try names() where name.hasPrefix(".") {
      try? FileManager.default.removeItem(at: folder.appendingPathComponent(name))
    }
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
    if let data = try? Data(contentsOf: url) {
      guard let terms = try? JSONDecoder().decode(Terms.self, from: data) else {
        throw ClientError.corruptState(path: url.path, reason: "is not the JSON that was written")
      }
      return terms.manifest_sha256 == hash && terms.run_id == runID
    }
    try DurableFile.write(JSONEncoder().encode(Terms(run_id: runID, manifest_sha256: hash)), to: url)
    return true
  }

  /// The newest trained round, or nil before the first.
  package func latest() throws -> TrainedRound? {
    guard let (round, url) = try rounds().last else { return nil }
    let personal = try SafetensorsFile.read(url.appendingPathComponent("personal.safetensors"))
    let mark = url.appendingPathComponent("acknowledged")
    return TrainedRound(
      round: round,
      personal: personal,
      isAcknowledged: FileManager.default.fileExists(atPath: mark.path)
    )
  }

  /// The sealed update of a round.
  package func sealedUpdate(of round: Int) throws -> SealedMessage {
    let url = roundFolder(round).appendingPathComponent("update.sealed")
    do {
      return try SealedMessage(bytes: Data(contentsOf: url))
    } catch {
      throw ClientError.corruptState(path: url.path, reason: "\(error)")
    }
  }

  /// Makes a trained round durable, personal tensors and sealed update together, and drops older rounds.
  package func commit(round: Int, personal: TensorSet, update: SealedMessage) throws {
    let aside = folder.appendingPathComponent(".\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: aside, withIntermediateDirectories: false)
    do {
      try SafetensorsFile.write(personal, to: aside.appendingPathComponent("personal.safetensors"))
      try DurableFile.write(update.bytes, to: aside.appendingPathComponent("update.sealed"))
      let target = roundFolder(round)
      guard rename(aside.path, target.path) == 0 else {
        throw ClientError.corruptState(path: target.path, reason: String(cString: strerror(errno)))
      }
      try DurableFile.syncDirectory(folder)
    } catch {
      try? FileManager.default.removeItem(at: aside)
      throw error
    }
    for (old, url) in try rounds() where old < round { try? FileManager.default.removeItem(at: url) }
  }

  /// Notes that the coordinator has answered for this round's update.
  package func acknowledge(round: Int, status: String) throws {
    let url = roundFolder(round)
    guard FileManager.default.fileExists(atPath: url.path) else { return }
    try DurableFile.write(Data(status.utf8), to: url.appendingPathComponent("acknowledged"))
  }

  /// How many rounds were trained, over all restarts.
  package func countTrained() throws -> Int {
    let url = folder.appendingPathComponent("trained")
    guard let text = try? String(contentsOf: url, encoding: .utf8) else { return 0 }
    return Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
  }

  /// Writes the number of trained rounds.
  package func setTrained(_ count: Int) throws {
    try DurableFile.write(Data("\(count)\n".utf8), to: folder.appendingPathComponent("trained"))
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

  private func names() throws -> [String] {
    do { return try FileManager.default.contentsOfDirectory(atPath: folder.path) } catch {
      throw ClientError.corruptState(path: folder.path, reason: "cannot be listed: \(error.localizedDescription)")
    }
  }

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
