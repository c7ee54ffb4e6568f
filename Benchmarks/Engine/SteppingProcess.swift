import Foundation

/// A program that makes a step for each line that it is sent.
final class SteppingProcess {
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  private struct Answer: Decodable { let seconds: Double }

  let name: String
  private(set) var seconds: [Double] = []
  private let process = Process()
  private let input = Pipe()
  private let output = Pipe()
  private var unread = Data()

  /// Starts the program and waits until it is ready.
  /// - Throws: `Failure` where it cannot be started or ends before that.
  init(name: String, command: [String], environment: [String: String]) throws {
    self.name = name
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = command
    process.environment = environment
    process.standardInput = input
    process.standardOutput = output
    do { try process.run() } catch { throw Failure(description: "\(name) cannot be started: \(error)") }
    while true {
      if try line() == "ready" { return }
    }
  }

  deinit { if process.isRunning { process.terminate() } }

  /// Makes one step.
  func step() throws {
    try input.fileHandleForWriting.write(contentsOf: Data("\n".utf8))
    seconds.append(try decode(Answer.self).seconds)
  }

  /// Ends the program and reads what it says of itself.
  func finish() throws -> StepReport {
    try input.fileHandleForWriting.close()
    let report = try decode(StepReport.self)
    process.waitUntilExit()
    return report
  }

  private func decode<T: Decodable>(_ type: T.Type) throws -> T {
    while true {
      let text = try line()
      // Libraries print warnings between.
      if text.hasPrefix("{") { return try JSONDecoder().decode(type, from: Data(text.utf8)) }
    }
  }

  private func line() throws -> String {
    while true {
      if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
        let text = String(decoding: unread[unread.startIndex..<end], as: UTF8.self)
        unread = unread[unread.index(after: end)...]
        return text
      }
      let more = output.fileHandleForReading.availableData
      guard !more.isEmpty else { throw Failure(description: "\(name) ended before it had made its steps") }
      unread.append(more)
    }
  }
}
