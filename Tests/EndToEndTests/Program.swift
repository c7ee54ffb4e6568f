import FedLoRATestSupport
import Foundation
import Synchronization

/// A running `fedlora` process.
final class Program: Sendable {
  /// Lines of standard error as they come.
  let errors = EventLog<String>()
  private let exit = EventLog<Int32>()
  private let output = Mutex(Data())
  private let outputEnd = EventLog<Bool>()
  private let errorEnd = EventLog<Bool>()
  private let process: Mutex<Process>

  /// The program that was built beside these tests.
  static var url: URL {
    get throws {
      let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
      let beside = URL(fileURLWithPath: own).deletingLastPathComponent().appendingPathComponent("fedlora")
      guard FileManager.default.isExecutableFile(atPath: beside.path) else { throw Missing(path: beside.path) }
      return beside
    }
  }

  struct Missing: Error { let path: String }

  /// Starts `fedlora ARGUMENTS` in `folder`.
  init(_ arguments: [String], in folder: URL) throws {
    let process = Process()
    process.executableURL = try Program.url
    process.arguments = arguments
    process.currentDirectoryURL = folder
    let (out, err) = (Pipe(), Pipe())
    process.standardOutput = out
    process.standardError = err
    process.standardInput = FileHandle.nullDevice
    let exit = exit
    process.terminationHandler = {
      exit.record($0.terminationReason == .exit ? $0.terminationStatus : -$0.terminationStatus)
    }
    try process.run()
    self.process = Mutex(process)
    let (read, errorRead) = (out.fileHandleForReading, err.fileHandleForReading)
    Thread {
      while case let part = read.availableData, !part.isEmpty { self.output.withLock { $0.append(part) } }
      self.outputEnd.record(true)
    }.start()
    Thread {
      var rest = Data()
      while case let part = errorRead.availableData, !part.isEmpty {
        rest.append(part)
        while let end = rest.firstIndex(of: 10) {
          self.errors.record(String(decoding: rest[..<end], as: UTF8.self))
          rest = rest[rest.index(after: end)...]
        }
      }
      self.errorEnd.record(true)
    }.start()
  }

  /// Whether the process is over.
  var hasEnded: Bool { !exit.events.isEmpty }

  /// `kill -9`.
  func kill() { Foundation.kill(process.withLock { $0.processIdentifier }, SIGKILL) }

  /// Ends the process if it still runs, so that no test leaves one behind.
  func cleanUp() { if exit.events.isEmpty { kill() } }

  /// Waits for a line on standard error that contains `text`.
  @discardableResult
  func line(_ text: String, within deadline: Duration = .seconds(40)) async throws -> String {
    try await errors.first(within: deadline) { $0.contains(text) }
  }

  /// Waits for the end: the exit status (negative for a signal), and all of standard output.
  func end(within deadline: Duration = .seconds(60)) async throws -> (status: Int32, output: Data) {
    let status: Int32
    do { status = try await exit.first(within: deadline) { _ in true } } catch {
      throw Stuck(errors: errors.events)
    }
    // The process may be gone before its last lines are read.
    try await outputEnd.first { $0 }
    try await errorEnd.first { $0 }
    return (status, output.withLock { $0 })
  }

  struct Stuck: Error { let errors: [String] }

  /// Runs to the end.
  static func run(_ arguments: [String], in folder: URL) async throws -> (status: Int32, output: Data, errors: String) {
    let program = try Program(arguments, in: folder)
    defer { program.cleanUp() }
    let (status, output) = try await program.end()
    return (status, output, program.errors.events.joined(separator: "\n"))
  }
}

/// The envelope of `--format json`.
func envelope(_ output: Data) throws -> [String: Any] {
  try JSONSerialization.jsonObject(with: output) as? [String: Any] ?? [:]
}
