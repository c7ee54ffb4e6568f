import FedLoRACoordinator
import FedLoRAProtocol
import Foundation
import Synchronization

/// A coordinator in a process of its own, and the authority of its clients.
final class ServedProcess: Sendable {
  let folder: URL
  let authority: AuthorityFolder
  let run: LoadRun
  let port: Int
  private let process: Process
  private let output: FileHandle

  /// Starts it, and waits until it listens.
  init(clients: Int, perRound: Int, quorum: Int, rounds: Int, elements: Int) throws {
    // The clients' side is not what is measured; it should not be slower than it must.
    CoordinatorProcess.prepare()
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("load-benchmark-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    authority = try AuthorityFolder.create(in: folder.appendingPathComponent("ca"))
    run = try LoadRun(clients: clients, perRound: perRound, quorum: quorum, rounds: rounds, elements: elements)
    process = Process()
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments = [
      "serve", "--folder", folder.path, "--clients", "\(clients)", "--per-round", "\(perRound)", "--quorum",
      "\(quorum)",
      "--rounds", "\(rounds)", "--elements", "\(elements)",
    ]
    let pipe = Pipe()
    process.standardOutput = pipe
    output = pipe.fileHandleForReading
    try process.run()
    var line = Data()
    while let byte = try output.read(upToCount: 1), byte != Data("\n".utf8) { line.append(byte) }
    guard let port = Int(String(decoding: line, as: UTF8.self).dropFirst("port ".count)) else {
      throw Failure(text: "the coordinator did not begin to listen")
    }
    self.port = port
  }

  /// What the process takes now.
  var usage: ProcessUsage? { ProcessUsage(of: process.processIdentifier) }

  /// As many clients with certificates of their own.
  func clients(_ count: Int, churn: Double = 0) throws -> [LoadClient] {
    let payload = TensorPayload(run.state)
    let layout = TensorLayout(run.state)
    return try (1...count).map { number in
      let name = "client-\(number)"
      return LoadClient(
        name: name,
        identity: try authority.authority.issueParticipant(ParticipantName(name)),
        port: port,
        payload: payload,
        layout: layout,
        churn: churn
      )
    }
  }

  /// Waits for its end.
  func summary() throws -> Serve.Summary {
    let data = try output.readToEnd() ?? Data()
    process.waitUntilExit()
    try? FileManager.default.removeItem(at: folder)
    guard process.terminationStatus == 0 else { throw Failure(text: "the coordinator failed") }
    return try JSONDecoder().decode(Serve.Summary.self, from: data)
  }

  /// Ends it.
  func stop() {
    process.interrupt()
    process.waitUntilExit()
    try? FileManager.default.removeItem(at: folder)
  }

  struct Failure: Error, CustomStringConvertible {
    let text: String
    var description: String { text }
  }
}
